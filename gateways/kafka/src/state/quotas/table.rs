//! All quotas at one moment, and which of them holds for a client.
//!
//! The first of these that has the limit, as in Kafka: user and client id; user and any client id; user; any user and
//! client id; any user and any client id; any user; client id; any client id. A default holds for each of those it
//! covers by itself: who has a quota of its kind shares it with nobody.

use std::collections::HashMap;

use super::entity::{Entity, Name};
use super::limits::{Kind, Limits};

/// Who shares one allowance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sharer {
    User(String),
    ClientId(String),
    UserAndClientId(String, String),
    Ip(String),
}

/// A limit that holds for a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    pub rate: f64,
    pub sharer: Sharer,
}

#[derive(Clone, Debug, Default)]
pub struct Table {
    entities: HashMap<Entity, Limits>,
    limits_requests: bool,
}

impl Table {
    pub fn new(entities: HashMap<Entity, Limits>) -> Self {
        let limits_requests = entities.values().any(|limits| limits.contains_key(Kind::Request.key()));
        Table { entities, limits_requests }
    }

    pub fn is_empty(&self) -> bool {
        self.entities.is_empty()
    }

    /// Whether there is a limit of requests' time.
    pub fn limits_requests(&self) -> bool {
        self.limits_requests
    }

    /// The limit for a user's client.
    pub fn of_client(&self, kind: Kind, user: &str, client_id: &str) -> Option<Limit> {
        if self.is_empty() {
            return None;
        }
        let named = |name: &str| Name::Named(name.to_owned());
        let pair = || Sharer::UserAndClientId(user.to_owned(), client_id.to_owned());
        let of_user = || Sharer::User(user.to_owned());
        let of_id = || Sharer::ClientId(client_id.to_owned());
        let (user_name, id_name) = (named(user), named(client_id));
        let candidates: [(Entity, &dyn Fn() -> Sharer); 8] = [
            (Entity::UserAndClientId(user_name.clone(), id_name.clone()), &pair),
            (Entity::UserAndClientId(user_name.clone(), Name::Default), &pair),
            (Entity::User(user_name), &of_user),
            (Entity::UserAndClientId(Name::Default, id_name.clone()), &pair),
            (Entity::UserAndClientId(Name::Default, Name::Default), &pair),
            (Entity::User(Name::Default), &of_user),
            (Entity::ClientId(id_name), &of_id),
            (Entity::ClientId(Name::Default), &of_id),
        ];
        let found = candidates.iter().find_map(|(entity, sharer)| Some((self.rate(entity, kind)?, sharer)));
        found.map(|(rate, sharer)| Limit { rate, sharer: sharer() })
    }

    /// The limit for an address.
    pub fn of_address(&self, kind: Kind, address: &str) -> Option<Limit> {
        let own = self.rate(&Entity::Ip(Name::Named(address.to_owned())), kind);
        let rate = own.or_else(|| self.rate(&Entity::Ip(Name::Default), kind))?;
        Some(Limit { rate, sharer: Sharer::Ip(address.to_owned()) })
    }

    fn rate(&self, entity: &Entity, kind: Kind) -> Option<f64> {
        self.entities.get(entity)?.get(kind.key()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_quota_holds() {
        let name = |name: &str| Name::Named(name.into());
        let order = [
            Entity::UserAndClientId(name("u"), name("c")),
            Entity::UserAndClientId(name("u"), Name::Default),
            Entity::User(name("u")),
            Entity::UserAndClientId(Name::Default, name("c")),
            Entity::UserAndClientId(Name::Default, Name::Default),
            Entity::User(Name::Default),
            Entity::ClientId(name("c")),
            Entity::ClientId(Name::Default),
        ];
        let pair = Sharer::UserAndClientId("u".into(), "c".into());
        let (user, id) = (Sharer::User("u".into()), Sharer::ClientId("c".into()));
        let sharers = [&pair, &pair, &user, &pair, &pair, &user, &id, &id];
        for (first, sharer) in sharers.into_iter().enumerate() {
            let limits = |rate: usize| Limits::from([("producer_byte_rate".to_string(), rate as f64)]);
            let entities = order.iter().enumerate().skip(first).map(|(rate, entity)| (entity.clone(), limits(rate)));
            let table = Table::new(entities.collect());
            let limit = table.of_client(Kind::Produce, "u", "c").unwrap();
            assert_eq!(limit, Limit { rate: first as f64, sharer: sharer.clone() });
            assert_eq!(table.of_client(Kind::Fetch, "u", "c"), None);
        }
    }

    #[test]
    fn addresses_have_their_own() {
        let limits = |rate: f64| Limits::from([("connection_creation_rate".to_string(), rate)]);
        let own = Entity::Ip(Name::Named("1.2.3.4".into()));
        let table = Table::new(HashMap::from([(own, limits(1.0)), (Entity::Ip(Name::Default), limits(2.0))]));
        assert_eq!(table.of_address(Kind::Connection, "1.2.3.4").unwrap().rate, 1.0);
        let other = table.of_address(Kind::Connection, "::1").unwrap();
        assert_eq!((other.rate, other.sharer), (2.0, Sharer::Ip("::1".into())));
    }
}
