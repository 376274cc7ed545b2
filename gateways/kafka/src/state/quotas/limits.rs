//! What an entity may do, and how that is stored.
//!
//! ```text
//! value of an entity's key:   version u8 = 1 │ keys and values in postcard
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;

use super::entity::Entity;

const RECORD_VERSION: u8 = 1;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Bytes of produce requests, a second.
    Produce,
    /// Bytes of records fetched, a second.
    Fetch,
    /// Partitions created and deleted, a second.
    Mutation,
    /// Connections made from an address, a second.
    Connection,
    /// Time that requests take of the gateway's threads, in percent of one thread's.
    Request,
}

impl Kind {
    pub fn key(self) -> &'static str {
        match self {
            Kind::Produce => "producer_byte_rate",
            Kind::Fetch => "consumer_byte_rate",
            Kind::Mutation => "controller_mutation_rate",
            Kind::Connection => "connection_creation_rate",
            Kind::Request => "request_percentage",
        }
    }
}

/// Limits by their keys.
pub type Limits = BTreeMap<String, f64>;

/// Checks one limit; says what is wrong with it.
pub fn check(entity: &Entity, key: &str, value: f64) -> Result<(), String> {
    let is_ip = matches!(entity, Entity::Ip(_));
    let is_whole = match key {
        "producer_byte_rate" | "consumer_byte_rate" if !is_ip => true,
        "controller_mutation_rate" if !is_ip => false,
        "connection_creation_rate" if is_ip => true,
        "request_percentage" if !is_ip => false,
        _ => return Err(format!("Invalid configuration key {key}")),
    };
    if !(value > 0.0 && value.is_finite()) {
        return Err(format!("Quota {key} must be greater than 0"));
    }
    // As far as numbers of this type are whole.
    if is_whole && (value.fract() != 0.0 || value > (1u64 << 53) as f64) {
        return Err(format!("Configuration {key} must be a whole number"));
    }
    Ok(())
}

pub fn encode(limits: &Limits) -> Result<Bytes, postcard::Error> {
    postcard::to_extend(limits, vec![RECORD_VERSION]).map(Bytes::from)
}

pub fn decode(value: &[u8]) -> Option<Limits> {
    match value.split_first() {
        Some((&RECORD_VERSION, rest)) => postcard::from_bytes(rest).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::entity::Name;
    use super::*;

    #[test]
    fn limits_are_checked() {
        let user = Entity::User(Name::Default);
        let ip = Entity::Ip(Name::Default);
        assert_eq!(check(&user, "producer_byte_rate", 1024.0), Ok(()));
        assert_eq!(check(&user, "controller_mutation_rate", 0.5), Ok(()));
        assert_eq!(check(&user, "request_percentage", 12.5), Ok(()));
        assert_eq!(check(&ip, "connection_creation_rate", 5.0), Ok(()));
        for (entity, key, value) in [
            (&user, "producer_byte_rate", 0.0),
            (&user, "producer_byte_rate", f64::NAN),
            (&user, "producer_byte_rate", 1.5),
            (&user, "request_percentage", 0.0),
            (&ip, "request_percentage", 50.0),
            (&user, "connection_creation_rate", 5.0),
            (&ip, "producer_byte_rate", 5.0),
            (&user, "other", 5.0),
        ] {
            assert!(check(entity, key, value).is_err(), "{key} {value}");
        }
        let limits = Limits::from([("consumer_byte_rate".to_string(), 7.0)]);
        assert_eq!(decode(&encode(&limits).unwrap()), Some(limits));
        assert_eq!(decode(b"\x07"), None);
    }
}
