//! Tables and lists as JSON text, for readers who have no nested headers (`x-death`).

use std::fmt::Write;

use super::{FieldTable, FieldValue};

/// A value as JSON. Bytes that are no text become text with U+FFFD in it; numbers that JSON has not become null.
pub(super) fn text(value: &FieldValue) -> String {
    let mut out = String::new();
    put(&mut out, value);
    out
}

/// `value` × 10^−`scale`, in digits.
pub(super) fn decimal(scale: u8, value: u32) -> String {
    let scale = usize::from(scale);
    let digits = format!("{value:0>width$}", width = scale + 1);
    match scale {
        0 => digits,
        _ => format!("{}.{}", &digits[..digits.len() - scale], &digits[digits.len() - scale..]),
    }
}

fn put(out: &mut String, value: &FieldValue) {
    let number = |out: &mut String, number: f64| match number.is_finite() {
        true => put_display(out, number),
        false => out.push_str("null"),
    };
    match value {
        FieldValue::Void => out.push_str("null"),
        FieldValue::Bool(value) => put_display(out, value),
        FieldValue::F32(value) => number(out, (*value).into()),
        FieldValue::F64(value) => number(out, *value),
        FieldValue::Decimal { scale, value } => out.push_str(&decimal(*scale, *value)),
        FieldValue::Timestamp(seconds) => put_display(out, seconds),
        FieldValue::LongString(bytes) | FieldValue::Binary(bytes) => put_text(out, &String::from_utf8_lossy(bytes)),
        FieldValue::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                put_comma(out, index);
                put(out, value);
            }
            out.push(']');
        }
        FieldValue::Table(FieldTable(fields)) => {
            out.push('{');
            for (index, (name, value)) in fields.iter().enumerate() {
                put_comma(out, index);
                put_text(out, name);
                out.push(':');
                put(out, value);
            }
            out.push('}');
        }
        integer => put_display(out, integer.as_integer().unwrap_or_default()),
    }
}

fn put_comma(out: &mut String, index: usize) {
    if index > 0 {
        out.push(',');
    }
}

fn put_display(out: &mut String, value: impl std::fmt::Display) {
    // Writing into a string does not fail.
    let _ = write!(out, "{value}");
}

fn put_text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => put_display(out, format_args!("\\u{:04x}", u32::from(control))),
            character => out.push(character),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_is_readable() {
        let death = FieldTable::from([
            ("reason", "rejected".into()),
            ("count", FieldValue::I64(2)),
            ("time", FieldValue::Timestamp(7)),
            ("routing-keys", FieldValue::Array(vec!["a\"\n\u{1}".into(), FieldValue::Void])),
            ("rate", FieldValue::F64(f64::NAN)),
        ]);
        let expected = r#"[{"reason":"rejected","count":2,"time":7,"routing-keys":["a\"\n\u0001",null],"rate":null}]"#;
        assert_eq!(text(&FieldValue::Array(vec![death.into()])), expected);
    }

    #[test]
    fn decimals_have_their_point() {
        assert_eq!([decimal(0, 12), decimal(1, 12), decimal(3, 12)], ["12", "1.2", "0.012"]);
    }
}
