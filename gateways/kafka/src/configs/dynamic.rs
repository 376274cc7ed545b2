//! What of the brokers' configuration can be changed while they run: for all of them (the empty name), or for one.
//!
//! - The defaults of topics (`log.retention.ms` and the like), for all brokers: a partition's log is every broker's. They are written
//!   into each topic that this gateway made ([`super::inherit`]), and so hold for all gateways.
//! - `max.connections`, for all or for one.
//!
//! The rest of Kafka's dynamic keys name its threads, buffers and listeners, which are not here: as with keys that cannot be changed
//! at all, setting them is refused.

use core_rpc::{Core, MetaError};
use tokio_util::sync::CancellationToken;

use super::definition::{Allowed, Definition, Effect, Kind};
use super::{Labels, StoredConfigs, TOPIC_CONFIGS, check_labels};
use crate::errors::{ErrorCode, Refusal};

/// The name under which is kept what holds for all brokers.
const ALL: &str = "<default>";

pub const MAX_CONNECTIONS: &str = "max.connections";

static MAX_CONNECTIONS_DEFINITION: Definition = Definition {
    name: MAX_CONNECTIONS,
    kind: Kind::Int,
    default: "2147483647",
    allowed: Allowed::Range(1, i32::MAX as i64),
    effect: Effect::Obeyed,
    broker_synonym: None,
    documentation: "Connections that may be open at once.",
};

/// The definition of a key that can be changed: of a topic's, if it gives topics their default.
pub fn dynamic_definition(name: &str) -> Option<&'static Definition> {
    match name {
        MAX_CONNECTIONS => Some(&MAX_CONNECTIONS_DEFINITION),
        _ => topic_definition_by_synonym(name),
    }
}

fn topic_definition_by_synonym(name: &str) -> Option<&'static Definition> {
    TOPIC_CONFIGS.iter().find(|definition| definition.broker_synonym == Some(name))
}

/// What was set for brokers.
#[derive(Clone)]
pub struct BrokerConfigs<C> {
    pub stored: StoredConfigs<C>,
}

impl<C: Core> BrokerConfigs<C> {
    pub async fn start(core: C, namespace: &str, stop: CancellationToken) -> Result<Self, MetaError> {
        Ok(BrokerConfigs { stored: StoredConfigs::start(core, "broker", namespace, stop).await? })
    }

    /// What was set for all brokers.
    pub fn for_all(&self) -> Labels {
        self.stored.labels(ALL)
    }

    /// What was set for this one.
    pub fn for_one(&self, node_id: i32) -> Labels {
        self.stored.labels(&node_id.to_string())
    }

    /// The limit of connections, if one was set.
    pub fn connections_max(&self, node_id: i32) -> Option<usize> {
        let own = self.for_one(node_id).remove(MAX_CONNECTIONS);
        own.or_else(|| self.for_all().remove(MAX_CONNECTIONS))?.parse().ok()
    }

    /// The topics' defaults that were set, by the topics' names for them.
    pub fn topic_defaults(&self) -> Labels {
        topic_defaults(&self.for_all())
    }

    /// Changes what is set for a broker, or for all (None).
    pub async fn alter(
        &self,
        node_id: Option<i32>,
        validate_only: bool,
        change: impl Fn(&Labels) -> Result<Labels, Refusal>,
    ) -> Result<(), Refusal> {
        let name = node_id.map_or_else(|| ALL.to_owned(), |id| id.to_string());
        let checked = |before: &Labels| {
            let labels = change(before)?;
            check(&labels, node_id.is_none())?;
            Ok(labels)
        };
        self.stored.alter(&name, validate_only, checked).await
    }
}

fn topic_defaults(labels: &Labels) -> Labels {
    let named =
        |(name, value): (&String, &String)| Some((topic_definition_by_synonym(name)?.name.to_owned(), value.clone()));
    labels.iter().filter_map(named).collect()
}

fn check(labels: &Labels, for_all: bool) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    for (name, value) in labels {
        let Some(definition) = dynamic_definition(name) else {
            return invalid(format!("Cannot update these configs dynamically: Set({name})"));
        };
        if !for_all && name != MAX_CONNECTIONS {
            return invalid(format!(
                "Cannot update these configs at broker level: Set({name}). A partition's log is every broker's: set it for all brokers."
            ));
        }
        let named = Definition { name: dynamic_name(name, definition), ..*definition };
        if let Err(message) = named.check(value) {
            return invalid(message);
        }
    }
    check_labels(&topic_defaults(labels)).or_else(invalid)
}

fn dynamic_name(asked: &str, definition: &'static Definition) -> &'static str {
    match definition.broker_synonym {
        Some(synonym) if synonym == asked => synonym,
        _ => definition.name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_change_is_taken() {
        let code = |name: &str, value: &str, for_all| {
            let labels = Labels::from([(name.to_owned(), value.to_owned())]);
            check(&labels, for_all).err().map(|refusal| refusal.code)
        };
        let refused = Some(ErrorCode::InvalidRequest);
        assert_eq!(code("log.retention.ms", "5", true), None);
        assert_eq!(code("message.max.bytes", "5", true), None);
        assert_eq!(code("log.cleaner.min.cleanable.ratio", "0.1", true), None);
        assert_eq!(code("max.connections", "5", true), None);
        assert_eq!(code("max.connections", "5", false), None);
        for (name, value, for_all) in [
            ("log.retention.ms", "5", false),
            ("log.retention.ms", "x", true),
            ("log.retention.ms", "-2", true),
            ("max.connections", "0", true),
            ("min.insync.replicas", "2", true),
            ("num.partitions", "2", true),
            ("log.cleaner.threads", "2", true),
            ("no.such", "2", true),
        ] {
            assert_eq!(code(name, value, for_all), refused, "{name}={value}");
        }
        let lags = [("log.cleaner.min.compaction.lag.ms", "3"), ("log.cleaner.max.compaction.lag.ms", "2")];
        let labels = lags.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert!(check(&labels, true).is_err());
    }

    #[test]
    fn defaults_are_named_as_topics_name_them() {
        let labels = Labels::from([("log.retention.ms".into(), "5".into()), ("max.connections".into(), "7".into())]);
        assert_eq!(topic_defaults(&labels), Labels::from([("retention.ms".into(), "5".into())]));
    }
}
