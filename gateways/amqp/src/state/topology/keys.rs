//! The keys of AMQP's records in the core's meta: `amqp/<kind>/<vhost>/…`. In the parts of a key `/` and `%` are
//! written `%2F` and `%25`, so that a `/` always ends a part.

use core_rpc::{key_part, name_of_key_part};

/// The prefix of all of them.
pub const PREFIX: &str = "amqp/";

/// Written once the first vhost and user of a fresh store are there.
pub const READY: &str = "amqp/ready";

/// The key of a kind with these parts.
pub fn key(kind: &str, parts: &[&str]) -> String {
    let mut key = format!("{PREFIX}{kind}");
    for part in parts {
        key.push('/');
        key.push_str(&key_part(part));
    }
    key
}

/// The kind and the parts of a key; None if it is not one of AMQP's.
pub fn parse(key: &str) -> Option<(&str, Vec<String>)> {
    let mut parts = key.strip_prefix(PREFIX)?.split('/');
    let kind = parts.next()?;
    Some((kind, parts.map(|part| name_of_key_part(part).into_owned()).collect()))
}

pub fn vhost(vhost: &str) -> String {
    key("vhost", &[vhost])
}

pub fn exchange(vhost: &str, exchange: &str) -> String {
    key("exchange", &[vhost, exchange])
}

pub fn exclusive(vhost: &str, queue: &str) -> String {
    key("exclusive", &[vhost, queue])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_from_the_key() {
        for name in ["", "/", "%2F", "a/b%c", "%252F"] {
            assert_eq!(parse(&exchange("/", name)), Some(("exchange", vec!["/".to_owned(), name.to_owned()])));
        }
        assert_eq!(vhost("/"), "amqp/vhost/%2F");
        assert_eq!(parse("topic/x"), None);
    }
}
