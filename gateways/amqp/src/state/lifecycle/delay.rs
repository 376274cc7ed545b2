//! The header `x-delay` of a message to an `x-delayed-message` exchange. Pure.
//!
//! Source: the plugin rabbitmq-delayed-message-exchange, README: milliseconds as an integer; a message without the header, or
//! with a value that is not above zero, is routed at once; a delivered message that was delayed bears the negated value.

use codec_amqp::{FieldTable, FieldValue, ShortStr};

const X_DELAY: &str = "x-delay";

/// The longest delay, ms (49 days); what is more is not delayed at all, as the plugin has it.
pub const DELAY_MS_MAX: i64 = 4_294_967_295;

/// How long to hold a message back, ms: 1 to [`DELAY_MS_MAX`]. None: route it now.
pub fn delay_ms(headers: &FieldTable) -> Option<i64> {
    value(headers).filter(|ms| (1..=DELAY_MS_MAX).contains(ms))
}

/// Marks that the delay is over, so that no other delayed exchange on the way holds the message back again.
pub fn negate(headers: &mut FieldTable) {
    if let Some(ms) = value(headers) {
        let negated = ms.saturating_neg();
        let value = i32::try_from(negated).map_or(FieldValue::I64(negated), FieldValue::I32);
        headers.set(ShortStr::from_static(X_DELAY), value);
    }
}

fn value(headers: &FieldTable) -> Option<i64> {
    let value = headers.get(X_DELAY)?;
    match value {
        FieldValue::F32(ms) => Some(f64::from(*ms) as i64),
        FieldValue::F64(ms) => Some(*ms as i64),
        FieldValue::Decimal { scale, value } => Some(i64::from(*value) / 10i64.checked_pow(u32::from(*scale))?),
        FieldValue::LongString(_) => value.as_text()?.parse().ok(),
        _ => value.as_integer(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: impl Into<FieldValue>) -> FieldTable {
        FieldTable::from([(X_DELAY, value.into())])
    }

    #[test]
    fn numbers_of_every_kind_are_a_delay() {
        assert_eq!(delay_ms(&with(5000)), Some(5000));
        assert_eq!(delay_ms(&with(5000i64)), Some(5000));
        assert_eq!(delay_ms(&with("5000")), Some(5000));
        assert_eq!(delay_ms(&with(5000.9)), Some(5000));
        assert_eq!(delay_ms(&with(FieldValue::Decimal { scale: 1, value: 50_000 })), Some(5000));
        assert_eq!(delay_ms(&with(0)), None);
        assert_eq!(delay_ms(&with(-5000)), None);
        assert_eq!(delay_ms(&with(DELAY_MS_MAX + 1)), None);
        assert_eq!(delay_ms(&with("soon")), None);
        assert_eq!(delay_ms(&with(FieldValue::Decimal { scale: 200, value: 1 })), None);
        assert_eq!(delay_ms(&FieldTable::default()), None);
    }

    #[test]
    fn what_was_delayed_is_not_delayed_again() {
        let mut headers = with(5000i64);
        negate(&mut headers);
        assert_eq!(headers, with(-5000));
        assert_eq!(delay_ms(&headers), None);
        let mut headers = FieldTable::default();
        negate(&mut headers);
        assert!(headers.is_empty());
    }
}
