//! A message's deaths as its headers tell them, and what else dying changes in its properties. Pure.
//!
//! ```text
//! x-death             array of tables, newest first:  original-expiration? count reason queue time exchange routing-keys
//! x-first-death-*     exchange, queue, reason: where and why it died first; written once
//! x-last-death-*      the same of the last time
//! expiration          removed, so that it does not expire again at once
//! ```

use bytes::Bytes;
use codec_amqp::{FieldTable, FieldValue, ShortStr};

use super::deaths::{Death, Deaths, Reason};

const X_DEATH: &str = "x-death";
const FIRST: [&str; 3] = ["x-first-death-exchange", "x-first-death-queue", "x-first-death-reason"];
const LAST: [&str; 3] = ["x-last-death-exchange", "x-last-death-queue", "x-last-death-reason"];

/// The deaths that the headers tell of; an entry that is not as we write it is left out.
pub fn read(headers: &FieldTable) -> Deaths {
    let entries = headers.get_array(X_DEATH).unwrap_or_default();
    Deaths(entries.iter().filter_map(read_entry).collect())
}

/// Writes the deaths, whose newest is the one that just happened, to a queue from `exchange`.
pub fn write(headers: &mut FieldTable, deaths: &Deaths, exchange: &Bytes) {
    let Some(newest) = deaths.0.first() else { return };
    let last = [text(exchange), text(&newest.queue), FieldValue::text(newest.reason.name())];
    if FIRST.iter().any(|name| !headers.contains(name)) {
        set_all(headers, FIRST, last.clone());
    }
    set_all(headers, LAST, last);
    headers.set(ShortStr::from_static(X_DEATH), deaths.0.iter().map(write_entry).collect::<Vec<_>>());
}

/// Takes out what a client wrote that only a broker may: a death that nobody died would count, and close circles.
pub fn remove(headers: &mut FieldTable) {
    for name in FIRST.into_iter().chain(LAST).chain([X_DEATH]) {
        headers.remove(name);
    }
}

/// The keys of a CC or BCC header; None if there is no such header of the right form.
pub fn copies(headers: &FieldTable, name: &str) -> Option<Vec<Bytes>> {
    let long_string = |value: &FieldValue| match value {
        FieldValue::LongString(key) => Some(key.clone()),
        _ => None,
    };
    headers.get_array(name)?.iter().map(long_string).collect()
}

fn set_all(headers: &mut FieldTable, names: [&'static str; 3], values: [FieldValue; 3]) {
    for (name, value) in names.into_iter().zip(values) {
        headers.set(ShortStr::from_static(name), value);
    }
}

fn read_entry(entry: &FieldValue) -> Option<Death> {
    let FieldValue::Table(entry) = entry else { return None };
    let bytes = |name: &str| match entry.get(name) {
        Some(FieldValue::LongString(bytes)) => Some(bytes.clone()),
        _ => None,
    };
    Some(Death {
        queue: bytes("queue")?,
        reason: Reason::named(&bytes("reason")?)?,
        count: entry.get_integer("count")?,
        time_seconds: match entry.get("time") {
            Some(FieldValue::Timestamp(seconds)) => *seconds,
            _ => return None,
        },
        exchange: bytes("exchange")?,
        routing_keys: copies(entry, "routing-keys")?,
        original_expiration: bytes("original-expiration"),
    })
}

fn write_entry(death: &Death) -> FieldValue {
    let keys: Vec<FieldValue> = death.routing_keys.iter().map(text).collect();
    let mut entry = FieldTable::default();
    if let Some(expiration) = &death.original_expiration {
        entry.set(ShortStr::from_static("original-expiration"), text(expiration));
    }
    entry.set(ShortStr::from_static("count"), death.count);
    entry.set(ShortStr::from_static("reason"), FieldValue::text(death.reason.name()));
    entry.set(ShortStr::from_static("queue"), text(&death.queue));
    entry.set(ShortStr::from_static("time"), FieldValue::Timestamp(death.time_seconds));
    entry.set(ShortStr::from_static("exchange"), text(&death.exchange));
    entry.set(ShortStr::from_static("routing-keys"), keys);
    FieldValue::Table(entry)
}

fn text(bytes: &Bytes) -> FieldValue {
    FieldValue::LongString(bytes.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(queue: &'static str, reason: Reason) -> Death {
        Death {
            queue: queue.into(),
            reason,
            count: 1,
            time_seconds: 1_700_000_000,
            exchange: "orders".into(),
            routing_keys: vec!["k".into(), "copy".into()],
            original_expiration: None,
        }
    }

    #[test]
    fn an_entry_has_the_fields_of_rabbitmq() {
        let mut deaths = Deaths::default();
        deaths.record(Death { original_expiration: Some("500".into()), ..death("q", Reason::Expired) });
        let mut headers = FieldTable::from([("mine", 1.into())]);
        write(&mut headers, &deaths, &"orders".into());
        let entry = FieldTable::from([
            ("original-expiration", "500".into()),
            ("count", 1i64.into()),
            ("reason", "expired".into()),
            ("queue", "q".into()),
            ("time", FieldValue::Timestamp(1_700_000_000)),
            ("exchange", "orders".into()),
            ("routing-keys", vec![FieldValue::text("k"), FieldValue::text("copy")].into()),
        ]);
        let expected = FieldTable::from([
            ("mine", 1.into()),
            ("x-first-death-exchange", "orders".into()),
            ("x-first-death-queue", "q".into()),
            ("x-first-death-reason", "expired".into()),
            ("x-last-death-exchange", "orders".into()),
            ("x-last-death-queue", "q".into()),
            ("x-last-death-reason", "expired".into()),
            ("x-death", vec![FieldValue::Table(entry)].into()),
        ]);
        assert_eq!(headers, expected);
        assert_eq!(read(&headers), deaths);
    }

    #[test]
    fn the_first_death_stays_the_first() {
        let mut headers = FieldTable::default();
        let mut deaths = Deaths::default();
        deaths.record(death("a", Reason::Rejected));
        write(&mut headers, &deaths, &"orders".into());
        let mut deaths = read(&headers);
        deaths.record(Death { exchange: "dlx".into(), ..death("b", Reason::MaxLength) });
        write(&mut headers, &deaths, &"dlx".into());
        assert_eq!(headers.get_text("x-first-death-queue"), Some("a"));
        assert_eq!(headers.get_text("x-first-death-reason"), Some("rejected"));
        assert_eq!(headers.get_text("x-first-death-exchange"), Some("orders"));
        assert_eq!(headers.get_text("x-last-death-queue"), Some("b"));
        assert_eq!(headers.get_text("x-last-death-reason"), Some("maxlen"));
        assert_eq!(headers.get_text("x-last-death-exchange"), Some("dlx"));
        assert_eq!(read(&headers), deaths);
        // Again where it died first: the exchange of the last death is the one it came from this time.
        let mut deaths = read(&headers);
        deaths.record(Death { exchange: "dlx".into(), ..death("a", Reason::Rejected) });
        write(&mut headers, &deaths, &"dlx".into());
        assert_eq!((deaths.0[0].count, &deaths.0[0].exchange[..]), (2, &b"orders"[..]));
        assert_eq!(headers.get_text("x-last-death-exchange"), Some("dlx"));
        remove(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn what_a_client_made_up_is_no_death() {
        let headers = FieldTable::from([("x-death", vec![1.into(), FieldTable::default().into()].into())]);
        assert_eq!(read(&headers), Deaths::default());
        assert_eq!(read(&FieldTable::from([("x-death", "no array".into())])), Deaths::default());
    }
}
