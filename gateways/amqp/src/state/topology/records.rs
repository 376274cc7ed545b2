//! What is kept of vhosts, exchanges, bindings, policies and queues: JSON in the core's meta (of a queue: in its topic's
//! label), so that a later version may add fields.

use std::fmt;

use core_rpc::TopicId;
use ring::digest;
use serde::{Deserialize, Serialize};

use super::arguments::Arguments;

/// The label of a topic that is a queue: a [`QueueRecord`].
pub const QUEUE_LABEL: &str = "amqp.queue";

/// At `amqp/vhost/<vhost>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VhostRecord {
    pub description: String,
    pub tags: Vec<String>,
    /// What a queue is that says nothing of its type.
    pub default_queue_type: Option<String>,
    pub tracing: bool,
    pub protected_from_deletion: bool,
}

/// The types of exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExchangeKind {
    #[serde(rename = "direct")]
    Direct,
    #[serde(rename = "fanout")]
    Fanout,
    #[serde(rename = "topic")]
    Topic,
    #[serde(rename = "headers")]
    Headers,
    #[serde(rename = "x-consistent-hash")]
    ConsistentHash,
    #[serde(rename = "x-local-random")]
    LocalRandom,
    /// Of the plugin: holds messages back, then routes them by the type in the argument `x-delayed-type`.
    #[serde(rename = "x-delayed-message")]
    Delayed,
}

impl ExchangeKind {
    pub const ALL: [ExchangeKind; 7] = [
        ExchangeKind::Direct,
        ExchangeKind::Fanout,
        ExchangeKind::Topic,
        ExchangeKind::Headers,
        ExchangeKind::ConsistentHash,
        ExchangeKind::LocalRandom,
        ExchangeKind::Delayed,
    ];

    pub fn name(self) -> &'static str {
        match self {
            ExchangeKind::Direct => "direct",
            ExchangeKind::Fanout => "fanout",
            ExchangeKind::Topic => "topic",
            ExchangeKind::Headers => "headers",
            ExchangeKind::ConsistentHash => "x-consistent-hash",
            ExchangeKind::LocalRandom => "x-local-random",
            ExchangeKind::Delayed => "x-delayed-message",
        }
    }

    pub fn of(name: &str) -> Option<ExchangeKind> {
        ExchangeKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for ExchangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// At `amqp/exchange/<vhost>/<exchange>`. The exchanges `amq.…` and the default exchange have none: they are there where
/// their vhost is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExchangeRecord {
    /// Tells this exchange's life from that of another of the same name; 0 where the exchange cannot be deleted.
    pub id: u64,
    pub kind: ExchangeKind,
    pub durable: bool,
    #[serde(default)]
    pub auto_delete: bool,
    #[serde(default)]
    pub internal: bool,
    #[serde(default)]
    pub arguments: Arguments,
    /// Of an exchange that is not durable: the incarnation with which it vanishes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<String>,
    #[serde(default)]
    pub user: String,
}

/// What a binding leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DestinationKind {
    Queue,
    Exchange,
}

impl DestinationKind {
    pub fn name(self) -> &'static str {
        match self {
            DestinationKind::Queue => "queue",
            DestinationKind::Exchange => "exchange",
        }
    }

    /// As in keys and in the management API's paths.
    pub fn letter(self) -> &'static str {
        match self {
            DestinationKind::Queue => "q",
            DestinationKind::Exchange => "e",
        }
    }

    pub fn of_letter(letter: &str) -> Option<DestinationKind> {
        match letter {
            "q" => Some(DestinationKind::Queue),
            "e" => Some(DestinationKind::Exchange),
            _ => None,
        }
    }
}

/// At `amqp/binding/<vhost>/<source>/<q|e>/<destination>/<properties key>`. It counts only while source and destination are
/// those it was made for, so that one left behind by a gateway that died does not bind the next of the same name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BindingRecord {
    pub routing_key: String,
    #[serde(default)]
    pub arguments: Arguments,
    pub source_id: u64,
    pub destination_id: Identity,
}

/// Of an exchange (its id) or of a queue (its topic's). Hexadecimal when stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(pub u128);

impl From<TopicId> for Identity {
    fn from(id: TopicId) -> Self {
        Identity(id.0)
    }
}

impl From<u64> for Identity {
    fn from(id: u64) -> Self {
        Identity(id.into())
    }
}

impl Serialize for Identity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Identity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map(Identity).map_err(serde::de::Error::custom)
    }
}

/// The part of a binding's key that says with which routing key and arguments: `~` for neither, the routing key, or the routing
/// key and a digest of the arguments, as the management API shows it.
pub fn properties_key(routing_key: &str, arguments: &Arguments) -> String {
    if arguments.is_empty() {
        return if routing_key.is_empty() { "~".into() } else { quote(routing_key) };
    }
    let stored = serde_json::to_vec(arguments).unwrap_or_default();
    let hash = digest::digest(&digest::SHA256, &stored);
    let hash: String = hash.as_ref()[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}~{hash}", quote(routing_key))
}

/// Percent-encodes what is neither letter, digit, `-`, `_` nor `.`.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => quoted.push(byte.into()),
            _ => quoted.push_str(&format!("%{byte:02X}")),
        }
    }
    quoted
}

/// The topic's label [`QUEUE_LABEL`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueRecord {
    pub durable: bool,
    #[serde(default)]
    pub auto_delete: bool,
    /// The connection whose queue it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<String>,
    #[serde(default)]
    pub arguments: Arguments,
    /// Of a queue that is not durable: the incarnation with which it vanishes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<String>,
    #[serde(default)]
    pub user: String,
}

impl QueueRecord {
    /// Of a topic that another protocol made.
    pub fn adopted() -> QueueRecord {
        QueueRecord {
            durable: true,
            auto_delete: false,
            exclusive: None,
            arguments: Arguments::default(),
            incarnation: None,
            user: String::new(),
        }
    }
}

/// At `amqp/policy/<vhost>/<name>` and `amqp/operator-policy/<vhost>/<name>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyRecord {
    pub pattern: String,
    #[serde(rename = "apply-to")]
    pub apply_to: String,
    pub definition: serde_json::Map<String, serde_json::Value>,
    pub priority: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::topology::arguments::Argument;

    #[test]
    fn the_properties_key_tells_bindings_apart() {
        let none = Arguments::default();
        let some: Arguments = [("x".to_owned(), Argument::Long(1))].into_iter().collect();
        assert_eq!(properties_key("", &none), "~");
        assert_eq!(properties_key("a.b", &none), "a.b");
        assert_eq!(properties_key("a/~#", &none), "a%2F%7E%23");
        assert!(properties_key("", &some).starts_with('~') && properties_key("", &some).len() > 8);
    }

    #[test]
    fn an_identity_is_read_back() {
        let stored = serde_json::to_string(&Identity(u128::MAX)).unwrap();
        assert_eq!(serde_json::from_str::<Identity>(&stored).unwrap(), Identity(u128::MAX));
    }
}
