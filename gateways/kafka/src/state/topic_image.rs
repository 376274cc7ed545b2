//! The topics of this gateway's namespace, as consumer groups look at them.

use std::sync::Arc;

use core_rpc::{Core, TopicId};

use super::consumer_groups::{TopicImage, TopicSize};
use crate::Topics;

/// The cached topics of one namespace.
pub struct NamespaceTopics<C> {
    topics: Arc<Topics<C>>,
    namespace: String,
}

impl<C> NamespaceTopics<C> {
    pub fn new(topics: Arc<Topics<C>>, namespace: String) -> Self {
        NamespaceTopics { topics, namespace }
    }
}

impl<C: Core> TopicImage for NamespaceTopics<C> {
    fn revision(&self) -> u64 {
        self.topics.change_count()
    }

    fn by_name(&self, name: &str) -> Option<TopicSize> {
        let topic = self.topics.by_name(&self.namespace, name)?;
        Some(TopicSize { id: topic.topic.id, partitions: topic.topic.partitions })
    }

    fn name_of(&self, id: TopicId) -> Option<String> {
        let topic = self.topics.by_id(id).filter(|topic| topic.topic.namespace == self.namespace)?;
        Some(topic.topic.name.clone())
    }

    fn names(&self) -> Vec<String> {
        self.topics.all(&self.namespace).iter().map(|topic| topic.topic.name.clone()).collect()
    }
}
