//! Whom a quota is for, and its key in the core's meta.
//!
//! ```text
//! kafka/<namespace>/quota/user/alice/client-id/<default>
//! ```
//! Names are written with `%`, `/` and `<` as `%25`, `%2F` and `%3C`, so that `<default>` is nobody's name.

use std::net::IpAddr;

use core_rpc::{key_part, name_of_key_part};

/// All there are of a kind, or one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// Whoever has no quota of its own.
    Default,
    Named(String),
}

impl Name {
    pub fn of(name: Option<&str>) -> Self {
        name.map_or(Name::Default, |name| Name::Named(name.to_owned()))
    }

    /// None for the default.
    pub fn as_option(&self) -> Option<&str> {
        match self {
            Name::Default => None,
            Name::Named(name) => Some(name),
        }
    }
}

pub const USER: &str = "user";
pub const CLIENT_ID: &str = "client-id";
pub const IP: &str = "ip";

const DEFAULT: &str = "<default>";

/// Whom a quota is for: a user, a client id, both, or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entity {
    User(Name),
    ClientId(Name),
    UserAndClientId(Name, Name),
    Ip(Name),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntityError {
    #[error("Invalid empty client quota entity")]
    Empty,
    #[error("Duplicate entity type {0}")]
    Twice(String),
    #[error("Unhandled client quota entity type: {0}")]
    UnknownType(String),
    #[error("Invalid quota entity combination: an ip cannot be combined with a user or client id")]
    Combination,
    #[error("{0} is not a valid IP address")]
    InvalidIp(String),
}

impl Entity {
    /// From pairs of type and name (None: the default), as requests have them.
    pub fn from_parts<'a>(parts: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Result<Self, EntityError> {
        let (mut user, mut client_id, mut ip) = (None, None, None);
        for (kind, name) in parts {
            let place = match kind {
                USER => &mut user,
                CLIENT_ID => &mut client_id,
                IP => &mut ip,
                other => return Err(EntityError::UnknownType(other.to_owned())),
            };
            if place.replace(Name::of(name)).is_some() {
                return Err(EntityError::Twice(kind.to_owned()));
            }
        }
        match (user, client_id, ip) {
            (None, None, None) => Err(EntityError::Empty),
            (Some(user), None, None) => Ok(Entity::User(user)),
            (None, Some(client_id), None) => Ok(Entity::ClientId(client_id)),
            (Some(user), Some(client_id), None) => Ok(Entity::UserAndClientId(user, client_id)),
            (None, None, Some(Name::Named(ip))) => match ip.parse::<IpAddr>() {
                // In its usual form, as peers' addresses are looked up.
                Ok(address) => Ok(Entity::Ip(Name::Named(address.to_string()))),
                Err(_) => Err(EntityError::InvalidIp(ip)),
            },
            (None, None, Some(Name::Default)) => Ok(Entity::Ip(Name::Default)),
            _ => Err(EntityError::Combination),
        }
    }

    /// Types and names.
    pub fn parts(&self) -> Vec<(&'static str, &Name)> {
        match self {
            Entity::User(user) => vec![(USER, user)],
            Entity::ClientId(client_id) => vec![(CLIENT_ID, client_id)],
            Entity::UserAndClientId(user, client_id) => vec![(USER, user), (CLIENT_ID, client_id)],
            Entity::Ip(ip) => vec![(IP, ip)],
        }
    }

    /// The part of its key after the prefix.
    pub fn to_key(&self) -> String {
        let part = |(kind, name): &(&str, &Name)| match name {
            Name::Default => format!("{kind}/{DEFAULT}"),
            Name::Named(name) => format!("{kind}/{}", escaped(name)),
        };
        self.parts().iter().map(part).collect::<Vec<_>>().join("/")
    }

    /// The inverse of [`Entity::to_key`].
    pub fn from_key(key: &str) -> Option<Self> {
        let pieces: Vec<&str> = key.split('/').collect();
        let name = |piece: &str| if piece == DEFAULT { Name::Default } else { Name::Named(unescaped(piece)) };
        match pieces.as_slice() {
            [USER, user] => Some(Entity::User(name(user))),
            [CLIENT_ID, client_id] => Some(Entity::ClientId(name(client_id))),
            [USER, user, CLIENT_ID, client_id] => Some(Entity::UserAndClientId(name(user), name(client_id))),
            [IP, ip] => Some(Entity::Ip(name(ip))),
            _ => None,
        }
    }
}

fn escaped(name: &str) -> String {
    key_part(name).replace('<', "%3C")
}

fn unescaped(name: &str) -> String {
    name_of_key_part(&name.replace("%3C", "<")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back() {
        let name = |name: &str| Name::Named(name.into());
        let entities = [
            Entity::User(name("a/b%2Fc<default>")),
            Entity::User(Name::Default),
            Entity::User(name("<default>")),
            Entity::ClientId(name("")),
            Entity::UserAndClientId(name("user"), Name::Default),
            Entity::Ip(name("::1")),
        ];
        for entity in entities {
            assert_eq!(Entity::from_key(&entity.to_key()), Some(entity.clone()));
            let parts = entity.parts();
            let parts = parts.iter().map(|(kind, name)| (*kind, name.as_option()));
            assert_eq!(Entity::from_parts(parts), Ok(entity.clone()));
        }
        assert_eq!(Entity::from_key("host/x"), None);
    }

    #[test]
    fn what_is_no_entity() {
        let of = |parts: &[(&'static str, Option<&'static str>)]| Entity::from_parts(parts.iter().copied());
        assert_eq!(of(&[]), Err(EntityError::Empty));
        assert_eq!(of(&[("user", None), ("user", Some("a"))]), Err(EntityError::Twice("user".into())));
        assert_eq!(of(&[("host", None)]), Err(EntityError::UnknownType("host".into())));
        assert_eq!(of(&[("ip", None), ("user", None)]), Err(EntityError::Combination));
        assert_eq!(of(&[("ip", Some("x"))]), Err(EntityError::InvalidIp("x".into())));
        assert_eq!(of(&[("ip", Some("0:0:0:0:0:0:0:1"))]), Ok(Entity::Ip(Name::Named("::1".into()))));
    }
}
