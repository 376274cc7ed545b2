//! What policies say of a stream's retention (`max-age`, `max-length-bytes`) becomes the topic's setting, which the core obeys: when
//! they change, and where they were there before the stream.
//!
//! What was set last is noted in a label of the topic, so that a retention that another protocol's clients set stays until
//! a policy changes.

use std::sync::Arc;

use core_rpc::{Core, Topic, TopicAlter, TopicError};
use serde_json::Map;

use super::Lifecycle;
use crate::state::topology::{Queue, QueueConfig};

/// How often to try where others change the topic at the same time.
const ATTEMPTS: usize = 10;

/// What was set last: age in ms and size in bytes, `-` where there is no limit.
const RETENTION_LABEL: &str = "amqp.retention";

fn label(config: &QueueConfig) -> String {
    let shown = |limit: Option<u64>| limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
    format!("{} {}", shown(config.max_age_ms), shown(config.max_length_bytes))
}

impl<C: Core> Lifecycle<C> {
    /// Sees to it, in a task of its own, that a stream's topic keeps what its configuration says. By its owner only.
    pub(super) fn look_at_retention(&self, queue: &Arc<Queue>) {
        if !queue.is_stream() || !self.owns(queue) {
            return;
        }
        let (lifecycle, queue) = (self.clone(), queue.clone());
        tokio::spawn(async move {
            if let Err(error) = lifecycle.set_retention(&queue).await {
                tracing::warn!(stream = queue.name(), %error, "a stream's retention is not what its policy says");
            }
        });
    }

    async fn set_retention(&self, queue: &Queue) -> anyhow::Result<()> {
        let core = &self.shared.core;
        let (namespace, name) = (queue.namespace.to_string(), queue.name.to_string());
        for _ in 0..ATTEMPTS {
            let entry = core.meta_get(Topic::key(&namespace, &name)).await?;
            let topic = entry.as_ref().and_then(Topic::from_entry).filter(|topic| topic.id == queue.topic);
            // Deleted meanwhile.
            let Some(topic) = topic else { return Ok(()) };
            // Read anew each time: whoever changed the topic may have changed the policy.
            let config = queue.config();
            let wanted = label(&config);
            // As it was made: by its arguments alone.
            let declared = || label(&QueueConfig::of(&queue.record.arguments, &Map::new()));
            let current = topic.labels.get(RETENTION_LABEL).cloned().unwrap_or_else(declared);
            if wanted == current {
                return Ok(());
            }
            let mut settings = topic.settings.clone();
            settings.retention_ms = config.max_age_ms;
            settings.retention_bytes = config.max_length_bytes;
            let mut labels = topic.labels;
            labels.insert(RETENTION_LABEL.to_owned(), wanted);
            let alter = TopicAlter {
                id: Some(topic.id),
                settings: Some(settings),
                labels: Some(labels),
                if_version: Some(topic.version),
                ..TopicAlter::default()
            };
            match core.topic_alter(namespace.clone(), name.clone(), alter).await {
                Ok(_) | Err(TopicError::Unknown) => return Ok(()),
                Err(TopicError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        anyhow::bail!("others change the topic all the time")
    }
}
