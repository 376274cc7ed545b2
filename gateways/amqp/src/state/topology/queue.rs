//! A queue, as it is now: its record, its topic, and what follows from both and the policies.

use std::sync::Arc;

use core_rpc::{GroupName, PartitionId, Topic, TopicId};
use parking_lot::RwLock;
use serde_json::{Map, Value};

use super::queue_config::{QueueConfig, QueueType};
use super::records::{QUEUE_LABEL, QueueRecord};
use super::validate::Resource;
use crate::errors::Refusal;

/// The group in which a queue's messages are settled.
pub const QUEUE_GROUP: &str = "queue";

/// The topic of a vhost in which messages of delayed exchanges wait.
pub const DELAYED_TOPIC: &str = "amq.delayed";

/// Topics that are no queues, although they could be: other protocols' own.
pub fn is_hidden(topic: &str) -> bool {
    topic.starts_with("__") || topic == DELAYED_TOPIC
}

/// One queue, for as long as its topic lives. Policies that come and go change what it does, not what it is.
#[derive(Debug)]
pub struct Queue {
    pub vhost: Arc<str>,
    /// The core's namespace of the vhost.
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    /// Another where a queue was deleted and made again.
    pub topic: TopicId,
    pub partition_count: u32,
    /// Ms since the Unix epoch.
    pub created_ms: i64,
    pub record: QueueRecord,
    /// A topic that another protocol made, and no client declared yet.
    pub is_adopted: bool,
    effective: RwLock<Arc<Effective>>,
}

/// What a queue does now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effective {
    pub config: QueueConfig,
    /// The name of the policy that matches, and of the operator's.
    pub policy: Option<String>,
    pub operator_policy: Option<String>,
    /// What the policies say together.
    pub definition: Map<String, Value>,
}

impl std::ops::Deref for Effective {
    type Target = QueueConfig;

    fn deref(&self) -> &QueueConfig {
        &self.config
    }
}

impl Queue {
    pub fn new(vhost: Arc<str>, topic: &Topic, record: QueueRecord, effective: Effective) -> Queue {
        Queue {
            vhost,
            namespace: topic.namespace.as_str().into(),
            name: topic.name.as_str().into(),
            topic: topic.id,
            partition_count: topic.partitions,
            created_ms: topic.created_ms,
            record,
            is_adopted: !topic.labels.contains_key(QUEUE_LABEL),
            effective: RwLock::new(Arc::new(effective)),
        }
    }

    pub fn resource(&self) -> Resource<'_> {
        Resource::Queue(&self.vhost, &self.name)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn topic(&self) -> TopicId {
        self.topic
    }

    /// What the queue does now: its settings (it derefs to them), and which policies they come from.
    pub fn config(&self) -> Arc<Effective> {
        self.effective.read().clone()
    }

    /// False: it was so.
    pub(super) fn set_config(&self, effective: Effective) -> bool {
        let mut now = self.effective.write();
        let changed = **now != effective;
        if changed {
            *now = Arc::new(effective);
        }
        changed
    }

    pub fn queue_type(&self) -> QueueType {
        self.effective.read().config.queue_type
    }

    pub fn is_stream(&self) -> bool {
        self.queue_type() == QueueType::Stream
    }

    /// The group in which its messages are settled.
    pub fn group(&self) -> GroupName {
        GroupName { namespace: self.namespace.to_string(), group: QUEUE_GROUP.into() }
    }

    pub fn partition(&self, index: u32) -> PartitionId {
        PartitionId { topic: self.topic, index }
    }

    /// The partition for messages of a priority.
    pub fn partition_of_priority(&self, priority: u8) -> PartitionId {
        self.partition(u32::from(priority).min(self.partition_count.saturating_sub(1)))
    }

    /// All partitions, by their numbers: the last has the highest priority.
    pub fn partitions(&self) -> Vec<PartitionId> {
        (0..self.partition_count).map(|index| self.partition(index)).collect()
    }

    /// Whether this connection (its `holder_prefix`) may use the queue: an exclusive one is its owner's only.
    pub fn check_owner(&self, connection: &str) -> Result<(), Refusal> {
        match &self.record.exclusive {
            Some(owner) if owner != connection => Err(locked(self.resource())),
            _ => Ok(()),
        }
    }
}

/// The queue is exclusive, and another connection's; or it is declared again with or without being so.
pub fn locked(queue: Resource<'_>) -> Refusal {
    Refusal::resource_locked(format!(
        "cannot obtain exclusive access to locked {queue}. It could be originally declared on another connection or the exclusive \
         property value does not match that of the original declaration."
    ))
}
