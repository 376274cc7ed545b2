//! Changing the configuration of a resource: what AlterConfigs and IncrementalAlterConfigs share.

use std::collections::HashSet;

use core_rpc::{Core, TopicAlter, TopicError, TopicSettings};

use super::client_metrics::{check_client_metrics, client_metrics_definition};
use super::definition::Definition;
use super::dynamic::dynamic_definition;
use super::group::group_definition;
use super::inherit;
use super::topic::{Labels, check_labels, settings_of};
use super::topic_table::topic_definition;
use crate::Gateway;
use crate::errors::{ErrorCode, Refusal};
use crate::handlers::Context;
use crate::state::security::{Operation, Resource};
use crate::translate::names::check_topic_name;

/// The kinds of resource that have a configuration, as the wire numbers them.
pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;
pub const BROKER_LOGGER: i8 = 8;
pub const CLIENT_METRICS: i8 = 16;
pub const GROUP: i8 = 32;

/// Tries after another gateway changed the topic at the same time.
const TRIES: usize = 10;

/// Resources (type, name) that are named more than once.
pub fn named_twice<'a>(resources: impl Iterator<Item = (i8, &'a str)>) -> HashSet<(i8, &'a str)> {
    let mut seen = HashSet::new();
    resources.filter(|resource| !seen.insert(*resource)).collect()
}

/// What Kafka refuses before it looks at the resource: keys that are named twice, values that are missing. `keys`:
/// name, and whether a value that is needed is missing.
pub fn check_keys<'a>(keys: impl Iterator<Item = (&'a str, bool)>) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    let mut missing = Vec::new();
    for (name, misses_value) in keys {
        if !seen.insert(name) {
            return Err(Refusal::new(ErrorCode::InvalidRequest, "Error due to duplicate config keys"));
        }
        missing.extend(misses_value.then_some(name));
    }
    match missing.is_empty() {
        true => Ok(()),
        false => {
            let message = format!("Null value not supported for : {}", missing.join(", "));
            Err(Refusal::new(ErrorCode::InvalidRequest, message))
        }
    }
}

/// What access rules are asked about for a resource with a configuration: brokers are the cluster's.
pub fn config_resource(kind: i8, name: &str) -> Resource<'_> {
    match kind {
        TOPIC => Resource::Topic(name),
        GROUP => Resource::Group(name),
        _ => Resource::Cluster,
    }
}

/// Whether the client may ask for a change of this resource: it has the right to, and names the resource once.
pub fn may_alter<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    twice: &HashSet<(i8, &str)>,
    (kind, name): (i8, &str),
) -> Result<(), Refusal> {
    if twice.contains(&(kind, name)) {
        return Err(Refusal::new(ErrorCode::InvalidRequest, "Each resource must appear at most once."));
    }
    Ok(gateway.check(context, Operation::AlterConfigs, config_resource(kind, name))?)
}

/// An outcome as responses tell it: the error's code and message.
pub fn told(outcome: Result<(), Refusal>) -> (i16, Option<String>) {
    match outcome {
        Ok(()) => (ErrorCode::None.code(), None),
        Err(refusal) => (refusal.code.code(), Some(refusal.message)),
    }
}

/// What may be set of this kind of resource.
pub fn definition_of(kind: i8) -> fn(&str) -> Option<&'static Definition> {
    match kind {
        GROUP => group_definition,
        CLIENT_METRICS => client_metrics_definition,
        BROKER | BROKER_LOGGER => dynamic_definition,
        _ => topic_definition,
    }
}

/// Changes a resource's configuration. `change` makes the new one from the old, or refuses; it may be called several
/// times. What it makes is checked here.
pub async fn alter<C: Core>(
    gateway: &Gateway<C>,
    resource: (i8, &str),
    validate_only: bool,
    change: impl Fn(&Labels) -> Result<Labels, Refusal>,
) -> Result<(), Refusal> {
    match resource {
        (TOPIC, name) => alter_topic(gateway, name, validate_only, change).await,
        (GROUP, "") => Err(Refusal::new(ErrorCode::InvalidRequest, "Group name must not be empty")),
        (GROUP, name) => gateway.group_configs.alter(name, validate_only, change).await,
        (BROKER, name) => {
            let node_id = check_broker_name(name, gateway.identity.node_id)?;
            gateway.broker_configs.alter(node_id, validate_only, change).await?;
            if !validate_only && node_id.is_none() {
                // So that whoever asks next finds the topics with it; what fails is tried again behind the answer.
                inherit::spread(gateway).await;
            }
            Ok(())
        }
        (BROKER_LOGGER, name) => {
            check_broker_name(name, gateway.identity.node_id)?;
            let message = "The loggers' levels are set when the broker is started (POLYMQ_LOG)";
            Err(Refusal::new(ErrorCode::InvalidConfig, message))
        }
        (CLIENT_METRICS, "") => Err(Refusal::new(ErrorCode::InvalidRequest, "Subscription name can't be empty")),
        (CLIENT_METRICS, name) => {
            let checked = |before: &Labels| {
                let labels = change(before)?;
                check_client_metrics(&labels)?;
                Ok(labels)
            };
            gateway.client_metrics.alter(name, validate_only, checked).await
        }
        (other, _) => Err(Refusal::new(ErrorCode::InvalidRequest, format!("Unknown resource type {other}"))),
    }
}

/// A broker is named by its id; the empty name stands for all brokers (None).
fn check_broker_name(name: &str, node_id: i32) -> Result<Option<i32>, Refusal> {
    let invalid = |message| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    match name.parse::<i32>() {
        _ if name.is_empty() => Ok(None),
        Ok(id) if id == node_id => Ok(Some(id)),
        Ok(_) => invalid(format!("Unexpected broker id, expected {node_id}, but received {name}")),
        Err(_) => invalid(format!("Node id must be an integer, but it is: {name}")),
    }
}

async fn alter_topic<C: Core>(
    gateway: &Gateway<C>,
    name: &str,
    validate_only: bool,
    change: impl Fn(&Labels) -> Result<Labels, Refusal>,
) -> Result<(), Refusal> {
    check_topic_name(name).map_err(|message| Refusal::new(ErrorCode::InvalidTopicException, message))?;
    for _ in 0..TRIES {
        let Some(topic) = gateway.topic(name) else {
            let message = format!("The topic '{name}' does not exist.");
            return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
        };
        let old = &topic.topic.labels;
        if inherit::is_foreign(old) {
            let message = format!("The topic '{name}' is configured by the gateway of another protocol.");
            return Err(Refusal::new(ErrorCode::PolicyViolation, message));
        }
        let mut own = change(old)?;
        // What it inherits is not its own; a client that names it sets a key that there is not.
        own.retain(|name, value| !name.starts_with(inherit::INHERITED) || old.get(name) != Some(value));
        check_labels(&own).map_err(|message| Refusal::new(ErrorCode::InvalidConfig, message))?;
        let labels = inherit::with_own(old.clone(), own);
        if validate_only || labels == topic.topic.labels {
            return Ok(());
        }
        let alter = TopicAlter {
            id: Some(topic.topic.id),
            // Who else made it a queue goes on having one.
            settings: Some(TopicSettings {
                consumed_by: topic.topic.settings.consumed_by.clone(),
                ..settings_of(&labels)
            }),
            labels: Some(labels),
            if_version: Some(topic.topic.version),
            ..Default::default()
        };
        match gateway.topics.alter(&topic.topic.namespace, name, alter).await {
            Ok(_) => return Ok(()),
            // Somebody else was faster; the cache has it now.
            Err(TopicError::Conflict) => {}
            Err(error) => return Err((&error).into()),
        }
    }
    Err(ErrorCode::RequestTimedOut.into())
}
