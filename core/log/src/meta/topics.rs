//! The topic verbs: entries under `topic/` that the engine hears of.

use core_rpc::*;

use super::transaction::{TopicChange, Transaction};

/// The most partitions of one topic: each costs the engine memory, and clients list them all.
pub const PARTITIONS_MAX: u32 = 100_000;

impl Transaction<'_> {
    /// `id` and the time are for the new topic. A batch limit beyond what the core can take is lowered to that.
    pub fn topic_create(&mut self, create: TopicCreate, id: TopicId, now_ms: i64) -> Result<Topic, TopicError> {
        let TopicCreate { namespace, name, partitions, settings, labels } = create;
        let key = topic_key(&namespace, &name)?;
        if self.get(&key).is_some() {
            return Err(TopicError::Exists);
        }
        check_partitions(partitions, 1)?;
        let topic = Topic {
            id,
            namespace,
            name,
            partitions,
            settings: possible(settings),
            labels,
            created_ms: now_ms,
            version: self.next_version(),
        };
        self.set_topic(key, &topic)?;
        self.changes.topics.push(TopicChange::Added(topic.clone()));
        Ok(topic)
    }

    pub fn topic_alter(&mut self, namespace: &str, name: &str, alter: TopicAlter) -> Result<Topic, TopicError> {
        let key = topic_key(namespace, name)?;
        let mut topic = self.topic(&key)?;
        if alter.id.is_some_and(|id| id != topic.id) {
            return Err(TopicError::Unknown);
        }
        if alter.if_version.is_some_and(|version| version != topic.version) {
            return Err(TopicError::Conflict);
        }
        if let Some(partitions) = alter.partitions {
            check_partitions(partitions, topic.partitions)?;
            topic.partitions = partitions;
        }
        if let Some(settings) = alter.settings {
            // Where its partitions lie cannot change any more.
            topic.settings = TopicSettings { together: topic.settings.together, ..possible(settings) };
        }
        if let Some(labels) = alter.labels {
            topic.labels = labels;
        }
        topic.version = self.next_version();
        self.set_topic(key, &topic)?;
        self.changes.topics.push(TopicChange::Updated(topic.clone()));
        Ok(topic)
    }

    pub fn topic_delete(&mut self, namespace: &str, name: &str) -> Result<(), TopicError> {
        let key = topic_key(namespace, name)?;
        let topic = self.topic(&key)?;
        self.unset(key);
        self.changes.topics.push(TopicChange::Removed(topic.id));
        Ok(())
    }

    fn topic(&self, key: &str) -> Result<Topic, TopicError> {
        let entry = self.get(key).ok_or(TopicError::Unknown)?;
        Topic::from_entry(entry).ok_or(TopicError::StorageFailed)
    }

    fn set_topic(&mut self, key: String, topic: &Topic) -> Result<(), TopicError> {
        let value = topic.to_value().ok_or(TopicError::StorageFailed)?;
        self.set(key, value.into(), None);
        Ok(())
    }
}

fn topic_key(namespace: &str, name: &str) -> Result<String, TopicError> {
    let key = Topic::key(namespace, name);
    if namespace.is_empty() || name.is_empty() || key.len() > META_KEY_BYTES_MAX {
        return Err(TopicError::InvalidName);
    }
    Ok(key)
}

fn check_partitions(partitions: u32, least: u32) -> Result<(), TopicError> {
    if (least..=PARTITIONS_MAX).contains(&partitions) {
        Ok(())
    } else {
        Err(TopicError::PartitionCount { max: PARTITIONS_MAX })
    }
}

fn possible(settings: TopicSettings) -> TopicSettings {
    TopicSettings { batch_bytes_max: settings.batch_bytes_max.min(BATCH_BYTES_MAX), ..settings }
}
