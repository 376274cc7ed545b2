//! What a configuration key is: its type, default, allowed values, and what this gateway does with it.

/// The type of a value, as DescribeConfigs tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

/// What a value has to be.
#[derive(Clone, Copy, Debug)]
pub enum Allowed {
    Any,
    /// A number from .. to, both included.
    Range(i64, i64),
    /// A fraction from 0 to 1.
    Fraction,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A list whose elements are of these.
    ListOf(&'static [&'static str]),
    /// A list of `partition:broker` pairs, or `*`.
    Throttled,
}

/// What this gateway does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It does what the value says.
    Obeyed,
    /// The value's promise holds whatever it is, for this reason.
    Moot(&'static str),
    /// Only the default can be kept to, for this reason; other values are refused.
    DefaultOnly(&'static str),
}

/// A configuration key.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    pub allowed: Allowed,
    pub effect: Effect,
    /// The broker's key that gives the default, as DescribeConfigs shows it among the synonyms.
    pub broker_synonym: Option<&'static str>,
    pub documentation: &'static str,
}

impl Definition {
    /// Whether `value` can be set. The error says why not, as Kafka words it.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let invalid = |why: String| Err(format!("Invalid value {value} for configuration {}: {why}", self.name));
        let value = value.trim();
        let well_formed = match self.kind {
            Kind::Boolean => value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false"),
            Kind::Int => value.parse::<i32>().is_ok(),
            Kind::Long => value.parse::<i64>().is_ok(),
            Kind::Double => value.parse::<f64>().is_ok_and(f64::is_finite),
            Kind::String | Kind::List => true,
        };
        if !well_formed {
            return invalid(format!("Not a {} of this type", self.kind.noun()));
        }
        match self.allowed {
            Allowed::Any => {}
            Allowed::Range(from, to) => {
                let number: i64 = value.parse().unwrap_or(i64::MIN);
                if number < from {
                    return invalid(format!("Value must be at least {from}"));
                }
                if number > to {
                    return invalid(format!("Value must be no more than {to}"));
                }
            }
            Allowed::Fraction => {
                if !value.parse::<f64>().is_ok_and(|number| (0.0..=1.0).contains(&number)) {
                    return invalid("Value must be from 0 to 1".into());
                }
            }
            Allowed::OneOf(words) => {
                if !words.contains(&value) {
                    return invalid(format!("String must be one of: {}", words.join(", ")));
                }
            }
            Allowed::ListOf(words) => {
                if let Some(word) = elements(value).find(|word| !words.contains(word)) {
                    return invalid(format!("{word} is not one of: {}", words.join(", ")));
                }
            }
            Allowed::Throttled => {
                let pair = |word: &str| word.split_once(':').is_some_and(|(a, b)| is_number(a) && is_number(b));
                if value != "*" && !elements(value).all(pair) {
                    return invalid("expected '*' or a list of [partitionId]:[brokerId]".into());
                }
            }
        }
        match self.effect {
            Effect::DefaultOnly(reason) if !self.same(value, self.default) => {
                Err(format!("{}={value} is not supported: {reason}", self.name))
            }
            _ => Ok(()),
        }
    }

    fn same(&self, one: &str, other: &str) -> bool {
        match self.kind {
            Kind::Boolean => one.eq_ignore_ascii_case(other),
            Kind::Int | Kind::Long => one.parse::<i64>().ok() == other.parse::<i64>().ok(),
            Kind::Double => one.parse::<f64>().ok() == other.parse::<f64>().ok(),
            Kind::String => one == other,
            Kind::List => elements(one).eq(elements(other)),
        }
    }
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Kind::Boolean => "boolean",
            Kind::Int | Kind::Long | Kind::Double => "number",
            Kind::String => "string",
            Kind::List => "list",
        }
    }
}

/// The elements of a list value.
pub fn elements(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|element| !element.is_empty())
}

fn is_number(text: &str) -> bool {
    text.parse::<u32>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::{TOPIC_CONFIGS, topic_definition};

    #[test]
    fn every_default_is_allowed() {
        for definition in TOPIC_CONFIGS {
            assert_eq!(definition.check(definition.default), Ok(()), "{}", definition.name);
        }
    }

    #[test]
    fn values_are_checked() {
        let check = |name: &str, value: &str| topic_definition(name).unwrap().check(value).is_ok();
        assert!(check("retention.ms", "-1"));
        assert!(!check("retention.ms", "-2"));
        assert!(!check("retention.ms", "one"));
        assert!(!check("max.message.bytes", "99999999999"));
        assert!(!check("compression.type", "brotli"));
        assert!(check("cleanup.policy", "compact,delete"));
        assert!(check("cleanup.policy", ""));
        assert!(!check("cleanup.policy", "shred"));
        assert!(check("cleanup.policy", " delete"));
        assert!(check("min.cleanable.dirty.ratio", "0.1"));
        assert!(!check("min.cleanable.dirty.ratio", "1.1"));
        assert!(check("leader.replication.throttled.replicas", "0:1,1:1"));
        assert!(!check("leader.replication.throttled.replicas", "0-1"));
        assert!(!check("min.insync.replicas", "2"));
        assert!(check("preallocate", "TRUE"));
    }
}
