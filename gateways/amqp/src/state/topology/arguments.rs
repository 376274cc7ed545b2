//! The arguments of queues, exchanges and bindings: typed, as declared, and storable.
//!
//! The stored form is JSON that names each value's type, `{"x-max-length":{"signedint":10}}`: whoever declares again
//! is told the type of what is there. The management API shows the values alone, `{"x-max-length":10}`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A value of AMQP 0-9-1's field table, as RabbitMQ names their types.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Argument {
    Bool(bool),
    Byte(i8),
    UnsignedByte(u8),
    Short(i16),
    UnsignedShort(u16),
    SignedInt(i32),
    UnsignedInt(u32),
    Long(i64),
    Float(f32),
    Double(f64),
    /// (scale, value)
    Decimal(u8, u32),
    #[serde(rename = "longstr")]
    Text(String),
    /// A long string that is no UTF-8, or a byte array.
    Binary(Vec<u8>),
    Array(Vec<Argument>),
    /// Seconds since the Unix epoch.
    Timestamp(u64),
    Table(Arguments),
    Void,
}

impl Argument {
    /// The type's name, as RabbitMQ's texts have it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Argument::Bool(_) => "bool",
            Argument::Byte(_) => "byte",
            Argument::UnsignedByte(_) => "unsignedbyte",
            Argument::Short(_) => "short",
            Argument::UnsignedShort(_) => "unsignedshort",
            Argument::SignedInt(_) => "signedint",
            Argument::UnsignedInt(_) => "unsignedint",
            Argument::Long(_) => "long",
            Argument::Float(_) => "float",
            Argument::Double(_) => "double",
            Argument::Decimal(..) => "decimal",
            Argument::Text(_) => "longstr",
            Argument::Binary(_) => "binary",
            Argument::Array(_) => "array",
            Argument::Timestamp(_) => "timestamp",
            Argument::Table(_) => "table",
            Argument::Void => "void",
        }
    }

    /// The value of any of the integer types.
    pub fn as_integer(&self) -> Option<i64> {
        Some(match *self {
            Argument::Byte(value) => value.into(),
            Argument::UnsignedByte(value) => value.into(),
            Argument::Short(value) => value.into(),
            Argument::UnsignedShort(value) => value.into(),
            Argument::SignedInt(value) => value.into(),
            Argument::UnsignedInt(value) => value.into(),
            Argument::Long(value) => value,
            _ => return None,
        })
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Argument::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Argument::Bool(value) => Some(*value),
            _ => None,
        }
    }

    fn as_float(&self) -> Option<f64> {
        match *self {
            Argument::Float(value) => Some(value.into()),
            Argument::Double(value) => Some(value),
            _ => None,
        }
    }

    /// Whether two values are the same whatever their width: all integer types are one, and so are both float types.
    pub fn equivalent(&self, other: &Argument) -> bool {
        match (self.as_integer(), other.as_integer()) {
            (Some(one), Some(other)) => return one == other,
            (None, None) => {}
            _ => return false,
        }
        match (self.as_float(), other.as_float()) {
            (Some(one), Some(other)) => one == other,
            (None, None) => self == other,
            _ => false,
        }
    }

    /// The value alone, as the management API shows it.
    pub fn to_json(&self) -> Value {
        match self {
            Argument::Bool(value) => (*value).into(),
            Argument::Float(value) => f64::from(*value).into(),
            Argument::Double(value) => (*value).into(),
            Argument::Decimal(scale, value) => (f64::from(*value) / 10f64.powi((*scale).into())).into(),
            Argument::Text(text) => text.as_str().into(),
            Argument::Binary(bytes) => String::from_utf8_lossy(bytes).into_owned().into(),
            Argument::Array(values) => values.iter().map(Argument::to_json).collect(),
            Argument::Timestamp(seconds) => (*seconds).into(),
            Argument::Table(table) => table.to_json(),
            Argument::Void => Value::Null,
            integer => integer.as_integer().into(),
        }
    }

    /// The types that RabbitMQ gives to what comes by HTTP. None: `null` has no type there.
    pub fn from_json(value: &Value) -> Option<Argument> {
        Some(match value {
            Value::Null => return None,
            Value::Bool(value) => Argument::Bool(*value),
            Value::Number(number) => match number.as_i64() {
                Some(integer) => Argument::Long(integer),
                None => Argument::Double(number.as_f64()?),
            },
            Value::String(text) => Argument::Text(text.clone()),
            Value::Array(values) => Argument::Array(values.iter().map(Argument::from_json).collect::<Option<_>>()?),
            Value::Object(_) => Argument::Table(Arguments::from_json(value)?),
        })
    }

    /// As RabbitMQ prints a bare value in an error.
    pub fn to_text(&self) -> String {
        match self {
            Argument::Text(text) => text.clone(),
            Argument::Bool(value) => value.to_string(),
            Argument::Void => "undefined".into(),
            other => other.to_json().to_string(),
        }
    }
}

/// Named values, ordered by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Arguments(pub BTreeMap<String, Argument>);

impl Arguments {
    pub fn get(&self, name: &str) -> Option<&Argument> {
        self.0.get(name)
    }

    /// The text under a name; None where there is none, or another type.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_text()
    }

    pub fn integer(&self, name: &str) -> Option<i64> {
        self.get(name)?.as_integer()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn insert(&mut self, name: &str, value: Argument) {
        self.0.insert(name.to_owned(), value);
    }

    pub fn to_json(&self) -> Value {
        Value::Object(self.0.iter().map(|(name, value)| (name.clone(), value.to_json())).collect())
    }

    /// None where it is no object, or has a null.
    pub fn from_json(value: &Value) -> Option<Arguments> {
        let Value::Object(members) = value else { return None };
        members.iter().map(|(name, value)| Some((name.clone(), Argument::from_json(value)?))).collect()
    }
}

impl FromIterator<(String, Argument)> for Arguments {
    fn from_iter<I: IntoIterator<Item = (String, Argument)>>(arguments: I) -> Self {
        Arguments(arguments.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_back() {
        let arguments: Arguments = [
            ("a".to_owned(), Argument::SignedInt(-5)),
            ("b".to_owned(), Argument::Table([("x".to_owned(), Argument::Void)].into_iter().collect())),
            ("c".to_owned(), Argument::Array(vec![Argument::Text("t".into()), Argument::Decimal(2, 314)])),
            ("d".to_owned(), Argument::Timestamp(u64::MAX)),
            ("e".to_owned(), Argument::Binary(vec![0xff])),
        ]
        .into_iter()
        .collect();
        let stored = serde_json::to_string(&arguments).unwrap();
        assert!(stored.starts_with(r#"{"a":{"signedint":-5},"#), "{stored}");
        assert_eq!(serde_json::from_str::<Arguments>(&stored).unwrap(), arguments);
    }

    #[test]
    fn integers_are_equivalent_whatever_their_width() {
        assert!(Argument::SignedInt(5).equivalent(&Argument::Long(5)));
        assert!(!Argument::SignedInt(5).equivalent(&Argument::Double(5.0)));
        assert!(Argument::Float(0.5).equivalent(&Argument::Double(0.5)));
        assert!(!Argument::Text("5".into()).equivalent(&Argument::Long(5)));
    }
}
