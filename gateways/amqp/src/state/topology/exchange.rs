//! An exchange, as it is now: its record, and what follows from it and the policies.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::arguments::Arguments;
use super::records::{ExchangeKind, ExchangeRecord};
use super::routing::HashOn;
use super::validate::{self, Resource, Routing};
use crate::errors::Refusal;

/// One exchange. A change makes a new one.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    pub vhost: Arc<str>,
    pub name: Arc<str>,
    pub record: ExchangeRecord,
    pub routing: Routing,
    /// Where messages go that no binding takes.
    pub alternate: Option<String>,
    /// The name of the policy that matches.
    pub policy: Option<String>,
}

impl Exchange {
    pub fn new(
        vhost: Arc<str>,
        name: Arc<str>,
        record: ExchangeRecord,
        policy: Option<String>,
        definition: Map<String, Value>,
    ) -> Exchange {
        // A record that was stored was checked.
        let routing = validate::exchange(record.kind, &record.arguments)
            .unwrap_or(Routing { kind: ExchangeKind::Direct, hash_on: HashOn::RoutingKey });
        let of_policy = || definition.get("alternate-exchange").and_then(Value::as_str);
        let alternate = record.arguments.text("alternate-exchange").or_else(of_policy).map(Into::into);
        Exchange { vhost, name, record, routing, alternate, policy }
    }

    pub fn resource(&self) -> Resource<'_> {
        Resource::Exchange(&self.vhost, &self.name)
    }

    /// Whether messages with the header `x-delay` wait here.
    pub fn is_delayed(&self) -> bool {
        self.record.kind == ExchangeKind::Delayed
    }

    /// Whether clients may publish to it.
    pub fn check_publish(&self) -> Result<(), Refusal> {
        if self.record.internal {
            return Err(Refusal::access_refused(format!("cannot publish to internal {}", self.resource())));
        }
        Ok(())
    }
}

/// The exchanges that every vhost has.
pub fn built_in() -> impl Iterator<Item = (&'static str, ExchangeRecord)> {
    let exchanges = [
        ("", ExchangeKind::Direct, false),
        ("amq.direct", ExchangeKind::Direct, false),
        ("amq.fanout", ExchangeKind::Fanout, false),
        ("amq.topic", ExchangeKind::Topic, false),
        ("amq.headers", ExchangeKind::Headers, false),
        ("amq.match", ExchangeKind::Headers, false),
        ("amq.rabbitmq.trace", ExchangeKind::Topic, true),
    ];
    exchanges.into_iter().map(|(name, kind, internal)| {
        let record = ExchangeRecord {
            id: 0,
            kind,
            durable: true,
            auto_delete: false,
            internal,
            arguments: Arguments::default(),
            incarnation: None,
            user: "rmq-internal".into(),
        };
        (name, record)
    })
}
