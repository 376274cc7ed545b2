//! Where a consumer of a stream begins, and what it must be like.

use codec_amqp::{FieldTable, FieldValue};

use crate::errors::Refusal;
use crate::state::topology::age_ms;

/// The consumer's argument, and the header of every delivery.
pub const STREAM_OFFSET: &str = "x-stream-offset";

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// The first message that is kept.
    First,
    /// The last batch of messages that were kept together.
    Last,
    /// Whatever comes from now on.
    Next,
    /// This offset, or the nearest there is.
    Offset(u64),
    /// The first message that arrived at or after this, ms since the Unix epoch.
    Time(i64),
}

impl StartAt {
    /// Reads `x-stream-offset`: `first`, `last`, `next`, a number, a timestamp, or an age (`5m`). `next` if there is none.
    pub fn read(arguments: &FieldTable, now_ms: i64) -> Result<StartAt, Refusal> {
        let Some(value) = arguments.get(STREAM_OFFSET) else { return Ok(StartAt::Next) };
        let found = match value {
            FieldValue::LongString(_) => match value.as_text() {
                Some("first") => Some(StartAt::First),
                Some("last") => Some(StartAt::Last),
                Some("next") => Some(StartAt::Next),
                Some(age) => age_ms(age).map(|age_ms| StartAt::Time(now_ms.saturating_sub_unsigned(age_ms))),
                None => None,
            },
            FieldValue::Timestamp(seconds) => {
                let time_ms = i64::try_from(*seconds).unwrap_or(i64::MAX).saturating_mul(1000);
                Some(StartAt::Time(time_ms))
            }
            value => value.as_integer().and_then(|offset| u64::try_from(offset).ok()).map(StartAt::Offset),
        };
        found.ok_or_else(|| {
            let shown = value.as_text().map_or_else(|| format!("{value:?}"), str::to_owned);
            Refusal::precondition_failed(format!("invalid arg '{STREAM_OFFSET}': {shown}"))
        })
    }
}

/// Whether a consumer may be one of a stream: it needs a prefetch of its own (406), and must acknowledge (540), for only by
/// that the broker knows how fast it is.
pub fn check_consumer(
    queue: &str,
    vhost: &str,
    prefetch: u32,
    channel_prefetch: u32,
    no_ack: bool,
) -> Result<(), Refusal> {
    let shown = format!("queue '{queue}' in vhost '{vhost}'");
    // In RabbitMQ's order.
    if prefetch == 0 {
        return Err(Refusal::precondition_failed(format!("consumer prefetch count is not set for stream {shown}")));
    }
    if no_ack {
        return Err(Refusal::not_implemented(format!("automatic acknowledgement not supported by stream {shown}")));
    }
    if channel_prefetch > 0 {
        return Err(Refusal::not_implemented(format!("{shown} does not support global qos")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_offset_is_read() {
        let read = |value: FieldValue| StartAt::read(&FieldTable::from([(STREAM_OFFSET, value)]), 1_000_000_000).ok();
        assert_eq!(read("first".into()), Some(StartAt::First));
        assert_eq!(read("last".into()), Some(StartAt::Last));
        assert_eq!(read("next".into()), Some(StartAt::Next));
        assert_eq!(read(5i32.into()), Some(StartAt::Offset(5)));
        assert_eq!(read(FieldValue::U16(7)), Some(StartAt::Offset(7)));
        assert_eq!(read(FieldValue::Timestamp(9)), Some(StartAt::Time(9_000)));
        assert_eq!(read("5m".into()), Some(StartAt::Time(1_000_000_000 - 300_000)));
        assert_eq!(read("1D".into()), Some(StartAt::Time(1_000_000_000 - 86_400_000)));
        for wrong in ["", "m", "5", "5x", "-5m", "+5m", "5ä", "99999999999999999999Y", "First"] {
            assert_eq!(read(wrong.into()), None, "{wrong:?}");
        }
        assert_eq!(read(FieldValue::I32(-1)), None);
        assert_eq!(read(true.into()), None);
        assert_eq!(StartAt::read(&FieldTable::default(), 0).ok(), Some(StartAt::Next));
    }

    #[test]
    fn who_cannot_be_paced_is_refused() {
        let check = |prefetch, channel_prefetch, no_ack| {
            check_consumer("s", "/", prefetch, channel_prefetch, no_ack).map_err(|refusal| refusal.text())
        };
        assert_eq!(check(10, 0, false), Ok(()));
        let unset = "PRECONDITION_FAILED - consumer prefetch count is not set for stream queue 's' in vhost '/'";
        assert_eq!(check(0, 0, true), Err(unset.into()));
        assert!(check(10, 0, true).unwrap_err().starts_with("NOT_IMPLEMENTED - automatic acknowledgement"));
        assert!(check(10, 5, false).unwrap_err().ends_with("does not support global qos"));
    }
}
