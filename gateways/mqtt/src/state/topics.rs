//! Which topic of the core a message goes to, and which topics a filter may find messages in.
//!
//! A name's topic is what the first rule says that matches it, else its first level (escaped where the core's other gateways could
//! not name it); when there are `topics_max` of those, what has no topic yet goes to one for all, `mqtt`. So a name's topic may be
//! another one day, but what was stored stays where it is, and references say where. Its partition is the hash of the name,
//! as Kafka's own producers would choose it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use codec_record::translate::names;
use core_rpc::{
    AnyCore, BATCH_BYTES_MAX, Compaction, Durability, PartitionId, Topic, TopicCreate, TopicError, TopicId,
    TopicSettings,
};
use gateway_runtime::{CachedTopic, TopicCache, TopicView};
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::time::timeout;

use super::filter;
use super::publishing::PublishError;

/// Where names go that have no topic of their own.
pub const SHARED_TOPIC: &str = "mqtt";

/// What only gateways read and write begins with this.
const INTERNAL_PREFIX: &str = "__";

/// The label of topics that this kind of gateway has made.
const LABEL: &str = "mqtt";

/// Names whose partition is remembered.
const KNOWN_MAX: usize = 50_000;

/// How topics are made and found.
#[derive(Clone, Debug)]
pub struct TopicRules {
    pub namespace: String,
    /// (filter, topic): the first that matches a name says its topic.
    pub rules: Vec<(String, String)>,
    pub partitions: u32,
    pub durability: Durability,
    pub retention: Option<Duration>,
    /// So many are made from first levels.
    pub topics_max: usize,
}

/// What gateways of this kind keep for themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    Retained,
    Sessions,
    Delayed,
}

impl Own {
    pub const ALL: [Own; 3] = [Own::Retained, Own::Sessions, Own::Delayed];

    pub fn name(self) -> &'static str {
        match self {
            Own::Retained => "__mqtt_retained",
            Own::Sessions => "__mqtt_sessions",
            Own::Delayed => "__mqtt_delayed",
        }
    }

    fn partitions(self) -> u32 {
        match self {
            Own::Retained | Own::Sessions => 8,
            Own::Delayed => 1,
        }
    }

    fn settings(self) -> TopicSettings {
        let compaction = Compaction {
            tombstone_retention_ms: 24 * 3600 * 1000,
            lag_ms_min: 0,
            // What has expired goes though little is written behind it.
            lag_ms_max: (self == Own::Retained).then_some(3600 * 1000),
            dirty_ppm_min: 500_000,
        };
        TopicSettings {
            compaction: (self != Own::Delayed).then_some(compaction),
            consumed_by: (self == Own::Delayed).then(|| DELAYED_GROUP.to_owned()),
            together: true,
            batch_bytes_max: BATCH_BYTES_MAX,
            ..TopicSettings::default()
        }
    }
}

/// Who takes what is due from [`Own::Delayed`].
pub const DELAYED_GROUP: &str = "mqtt";

/// How long to wait to know of all topics that there are.
const CAUGHT_UP_MAX: Duration = Duration::from_secs(2);

/// What is known of a topic at a glance.
#[derive(Debug)]
pub struct Info {
    /// Wildcards in a first level find it: neither a gateway's own nor a queue, which is read by taking from it.
    pub is_open: bool,
}

impl TopicView for Info {
    fn of(topic: &Topic) -> Info {
        Info { is_open: topic.settings.consumed_by.is_none() && !topic.name.starts_with(INTERNAL_PREFIX) }
    }
}

pub type Known = Arc<CachedTopic<Info>>;

/// The topics, as MQTT's names see them.
pub struct Topics {
    cache: Arc<TopicCache<AnyCore, Info>>,
    rules: TopicRules,
    /// Partitions by name, as of a number of changes of the topics.
    known: RwLock<(u64, HashMap<Box<str>, PartitionId>)>,
    own: [Topic; 3],
}

impl Topics {
    /// Makes what is the gateways' own, where it is not there.
    pub async fn start(cache: Arc<TopicCache<AnyCore, Info>>, rules: TopicRules) -> Result<Topics, TopicError> {
        let mut own = Vec::new();
        for one in Own::ALL {
            let create = TopicCreate {
                namespace: rules.namespace.clone(),
                name: one.name().to_owned(),
                partitions: one.partitions(),
                settings: one.settings(),
                labels: BTreeMap::from([(LABEL.to_owned(), "own".to_owned())]),
            };
            own.push(create_or_find(&cache, create).await?.topic.clone());
        }
        let own = own.try_into().map_err(|_| TopicError::Unknown)?;
        Ok(Topics { cache, rules, known: RwLock::default(), own })
    }

    /// Of the topics that are made for messages.
    pub fn durability(&self) -> Durability {
        self.rules.durability
    }

    pub fn namespace(&self) -> &str {
        &self.rules.namespace
    }

    /// One of the gateways' own.
    pub fn own(&self, own: Own) -> &Topic {
        &self.own[own as usize]
    }

    /// The partition of one of those for a key.
    pub fn own_partition(&self, own: Own, key: &str) -> PartitionId {
        partition_of(self.own(own), key)
    }

    /// To be woken when topics change.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.cache.changes()
    }

    /// Waits until all topics are known here that there are now, whoever made them; not for ever.
    pub async fn caught_up(&self) {
        match timeout(CAUGHT_UP_MAX, self.cache.caught_up()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "topics that another gateway has made a moment ago may not be known")
            }
            Err(_) => tracing::warn!("topics are read slowly: some that were made a moment ago may not be known"),
        }
    }

    /// All topics that there are.
    pub fn all(&self) -> Vec<Known> {
        self.cache.all(&self.rules.namespace)
    }

    pub fn by_id(&self, id: TopicId) -> Option<Known> {
        self.cache.by_id(id)
    }

    /// Whether a partition lies with the sessions, so that both can be written in one commit: those do that this kind of gateway
    /// has made.
    pub fn is_together(&self, partition: PartitionId) -> bool {
        let is_own = self.own.iter().any(|own| own.id == partition.topic);
        is_own || self.by_id(partition.topic).is_some_and(|known| known.topic.settings.together)
    }

    /// Where a message of this name goes, if its topic is there.
    pub fn partition_known(&self, name: &str) -> Option<PartitionId> {
        let changes = self.cache.change_count();
        {
            let known = self.known.read();
            if known.0 == changes
                && let Some(&partition) = known.1.get(name)
            {
                return Some(partition);
            }
        }
        let topic = self.topic_of(name)?;
        let partition = partition_of(&topic.topic, name);
        let mut known = self.known.write();
        if known.0 != changes || known.1.len() >= KNOWN_MAX {
            *known = (changes, HashMap::new());
        }
        known.1.insert(name.into(), partition);
        Some(partition)
    }

    /// Where a message of this name goes. Its topic is made if it is not there.
    pub async fn partition(&self, name: &str) -> Result<PartitionId, PublishError> {
        if let Some(partition) = self.partition_known(name) {
            return Ok(partition);
        }
        let create = TopicCreate {
            namespace: self.rules.namespace.clone(),
            name: self.name_for(name),
            partitions: self.rules.partitions,
            settings: TopicSettings {
                durability: self.rules.durability,
                retention_ms: self.rules.retention.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
                together: true,
                // What is too large is refused where it comes in.
                batch_bytes_max: BATCH_BYTES_MAX,
                ..TopicSettings::default()
            },
            labels: BTreeMap::from([(LABEL.to_owned(), "1".to_owned())]),
        };
        let known = create_or_find(&self.cache, create).await?;
        Ok(partition_of(&known.topic, name))
    }

    /// The topics in which a filter may find messages: all that have some, and perhaps others. `$share/…` is not part of it.
    pub fn matching(&self, filter: &str) -> Vec<Known> {
        let first = names::first_level(filter);
        if matches!(first, "+" | "#") {
            return self.all().into_iter().filter(|known| known.view.is_open).collect();
        }
        let by_rules = self.rules.rules.iter().map(|(_, topic)| topic.as_str());
        let level = names::topic_of(first);
        let mut names: Vec<&str> = level.as_deref().into_iter().chain([SHARED_TOPIC]).chain(by_rules).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().filter_map(|name| self.cache.by_name(&self.rules.namespace, name)).collect()
    }

    /// Whether messages of many first levels may be in a topic.
    pub fn gathers(&self, known: &Known) -> bool {
        let name = known.topic.name.as_str();
        name == SHARED_TOPIC || self.rules.rules.iter().any(|(_, topic)| topic == name)
    }

    /// Whether messages of this name are a topic's, now.
    pub fn belongs(&self, name: &str, known: &Known) -> bool {
        match self.rule_of(name) {
            Some(topic) => topic == known.topic.name,
            None => known.topic.name == SHARED_TOPIC || names::is_topic_of(&known.topic.name, name),
        }
    }

    fn topic_of(&self, name: &str) -> Option<Known> {
        let namespace = &self.rules.namespace;
        if let Some(topic) = self.rule_of(name) {
            return self.cache.by_name(namespace, topic);
        }
        let level = names::topic_of(name);
        if let Some(known) = level.and_then(|level| self.cache.by_name(namespace, &level)) {
            return Some(known);
        }
        if self.is_full() { self.cache.by_name(namespace, SHARED_TOPIC) } else { None }
    }

    /// The name of the topic to make for a name that has none.
    fn name_for(&self, name: &str) -> String {
        if let Some(topic) = self.rule_of(name) {
            return topic.to_owned();
        }
        names::topic_of(name).filter(|_| !self.is_full()).unwrap_or_else(|| SHARED_TOPIC.to_owned())
    }

    fn rule_of(&self, name: &str) -> Option<&str> {
        let matching = |(filter, _): &&(String, String)| filter::matches(filter, name);
        self.rules.rules.iter().find(matching).map(|(_, topic)| topic.as_str())
    }

    fn is_full(&self) -> bool {
        let made = |known: &Known| known.topic.labels.contains_key(LABEL);
        // The gateways' own are not counted.
        self.all().iter().filter(|known| known.view.is_open && made(known)).count() >= self.rules.topics_max
    }
}

async fn create_or_find(cache: &TopicCache<AnyCore, Info>, create: TopicCreate) -> Result<Known, TopicError> {
    let (namespace, name) = (create.namespace.clone(), create.name.clone());
    if let Some(known) = cache.by_name(&namespace, &name) {
        return Ok(known);
    }
    match cache.create(create).await {
        Err(TopicError::Exists) => cache.by_name(&namespace, &name).ok_or(TopicError::Conflict),
        created => created,
    }
}

/// All partitions of a topic.
pub fn partitions_of(topic: &Topic) -> impl Iterator<Item = PartitionId> + use<> {
    let id = topic.id;
    (0..topic.partitions).map(move |index| PartitionId { topic: id, index })
}

/// The partition of a name, as Kafka's producers choose it for a key.
pub fn partition_of(topic: &Topic, name: &str) -> PartitionId {
    let index = (murmur2(name.as_bytes()) & 0x7fff_ffff) % topic.partitions.max(1);
    PartitionId { topic: topic.id, index }
}

/// MurmurHash2, 32 bits, with the seed that Kafka's clients use.
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0, |last, byte| last << 8 | u32::from(*byte));
        hash = (hash ^ last).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of the tests of Kafka's own client.
    #[test]
    fn the_hash_is_kafkas() {
        for (text, hash) in
            [("21", -973_932_308_i32), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536)]
        {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }
}
