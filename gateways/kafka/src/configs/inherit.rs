//! The topics' defaults that were set for all brokers: every topic carries those that hold for it, beside what was set for itself, so
//! that whoever reads a topic needs nothing else to know its configuration.
//!
//! ```text
//! labels of a topic:   retention.ms=5              set for it
//!                      inherited.retention.ms=7    the default that was set for all brokers
//!                      amqp.queue=…                of no concern here: another gateway's
//! ```

use std::sync::Arc;
use std::time::Duration;

use core_rpc::{Core, TopicAlter, TopicError};
use tokio_util::sync::CancellationToken;

use super::topic::{Labels, settings_of};
use super::topic_table::topic_definition;
use crate::state::internal_topics::is_internal;
use crate::{Gateway, Topic};

/// Before the key of an inherited default.
pub const INHERITED: &str = "inherited.";

/// How long to wait before trying again what the core could not do.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The default that was set for all brokers.
pub fn inherited<'a>(labels: &'a Labels, name: &str) -> Option<&'a str> {
    // Most topics inherit nothing, and then the key need not be made.
    let (first, _) = labels.range(INHERITED.to_owned()..).next()?;
    first.starts_with(INHERITED).then(|| labels.get(&format!("{INHERITED}{name}")).map(|value| value.trim()))?
}

/// Whether another gateway keeps something of its own with the topic.
pub fn is_foreign(labels: &Labels) -> bool {
    labels.keys().any(|name| !name.starts_with(INHERITED) && topic_definition(name).is_none())
}

/// The labels with these defaults instead of those before.
pub fn with_inherited(mut labels: Labels, defaults: &Labels) -> Labels {
    labels.retain(|name, _| !name.starts_with(INHERITED));
    labels.extend(defaults.iter().map(|(name, value)| (format!("{INHERITED}{name}"), value.clone())));
    labels
}

/// The labels with this set for the topic itself instead of what was.
pub fn with_own(mut labels: Labels, own: Labels) -> Labels {
    labels.retain(|name, _| topic_definition(name).is_none());
    labels.extend(own);
    labels
}

/// Obeys what is set for the brokers, now and whenever it changes, until `stop`. `limit` takes the limit of connections.
pub async fn follow<C: Core>(gateway: Arc<Gateway<C>>, limit: impl Fn(Option<usize>) + Send, stop: CancellationToken) {
    let mut changes = gateway.broker_configs.stored.changes();
    let following = async {
        loop {
            changes.mark_unchanged();
            limit(gateway.broker_configs.connections_max(gateway.identity.node_id));
            let spread = spread(&gateway).await;
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY_AFTER), if !spread => {}
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = following => {}
    }
}

/// Gives the topics of the namespace the defaults that hold now. Other gateways do the same: whoever comes second finds nothing to
/// be done. False: some could not be changed.
pub async fn spread<C: Core>(gateway: &Gateway<C>) -> bool {
    let defaults = gateway.broker_configs.topic_defaults();
    let mut all_done = true;
    for topic in gateway.topics.all(&gateway.config.namespace) {
        all_done &= is_internal(&topic.topic.name) || give(gateway, &topic, &defaults).await;
    }
    all_done
}

async fn give<C: Core>(gateway: &Gateway<C>, topic: &Topic, defaults: &Labels) -> bool {
    let topic = &topic.topic;
    let labels = with_inherited(topic.labels.clone(), defaults);
    if is_foreign(&labels) || labels == topic.labels {
        return true;
    }
    let alter = TopicAlter {
        id: Some(topic.id),
        settings: Some(settings_of(&labels)),
        labels: Some(labels),
        if_version: Some(topic.version),
        ..Default::default()
    };
    match gateway.topics.alter(&topic.namespace, &topic.name, alter).await {
        Ok(_) | Err(TopicError::Unknown) => true,
        Err(error) => {
            tracing::debug!(topic = topic.name, %error, "cannot give a topic its defaults yet");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configs::value;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn what_is_set_goes_before_what_is_inherited() {
        let defaults = labels(&[("retention.ms", "7"), ("segment.bytes", "9")]);
        let topic = with_inherited(labels(&[("retention.ms", "5"), ("amqp.queue", "{}")]), &defaults);
        assert_eq!((value(&topic, "retention.ms"), value(&topic, "segment.bytes")), ("5", "9"));
        assert_eq!(value(&topic, "retention.bytes"), "-1");
        assert!(is_foreign(&topic) && !is_foreign(&with_inherited(Labels::new(), &defaults)));
        let unset = with_own(topic, Labels::new());
        assert_eq!(value(&unset, "retention.ms"), "7");
        assert_eq!(with_inherited(unset, &Labels::new()), labels(&[("amqp.queue", "{}")]));
        assert_eq!(settings_of(&with_inherited(Labels::new(), &defaults)).retention_ms, Some(7));
    }
}
