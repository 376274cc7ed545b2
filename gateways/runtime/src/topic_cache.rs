//! The topics, as this gateway sees them: a copy of the core's, kept fresh by a watch, read without waiting.
//!
//! What this gateway itself changes is in the cache before the change returns, so that a client reads its own writes.
//! What others change arrives with the watch, a moment later; who must have it now waits for it ([`TopicCache::caught_up`]).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use core_rpc::{
    Core, MetaChanges, MetaEntry, MetaError, MetaEvent, MetaWatch, TOPIC_PREFIX, Topic, TopicAlter, TopicCreate,
    TopicError, TopicId,
};
use parking_lot::RwLock;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// How long one watch stands; it is renewed at once.
const WATCH_WAIT: Duration = Duration::from_secs(30);

/// How long to wait before asking a core again that could not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What a gateway derives from a topic once per change, instead of at each request (parsed labels, for example).
pub trait TopicView: Send + Sync + 'static {
    fn of(topic: &Topic) -> Self;
}

impl TopicView for () {
    fn of(_: &Topic) -> Self {}
}

/// A topic and the gateway's view of it.
#[derive(Debug)]
pub struct CachedTopic<V> {
    pub topic: Topic,
    pub view: V,
}

/// The cache. Lookups take a read lock for the time of a hash lookup.
pub struct TopicCache<C, V = ()> {
    core: C,
    state: RwLock<State<V>>,
    changes: AtomicU64,
    changed: watch::Sender<()>,
    /// The core's revision up to which the watch has brought everything.
    watched: watch::Sender<u64>,
    /// Up to here there is nothing that the watch has not brought: spares the core looking through what concerns no topic.
    looked_through: AtomicU64,
    /// Told when the watch is to list again: what stands in the core does not see that its changes are forgotten.
    behind: Notify,
}

struct State<V> {
    by_name: HashMap<String, HashMap<String, Arc<CachedTopic<V>>>>,
    by_id: HashMap<TopicId, Arc<CachedTopic<V>>>,
    /// Topics by their key that this gateway deleted and whose deletion the watch has not told yet, in order: what it
    /// tells of them is old.
    deleted: HashMap<String, VecDeque<TopicId>>,
}

impl<V> Default for State<V> {
    fn default() -> Self {
        State { by_name: HashMap::new(), by_id: HashMap::new(), deleted: HashMap::new() }
    }
}

impl<V: TopicView> State<V> {
    fn put(&mut self, topic: Topic) {
        let deleted = self.deleted.get(&Topic::key(&topic.namespace, &topic.name));
        if deleted.is_some_and(|ids| ids.contains(&topic.id)) {
            return;
        }
        let names = self.by_name.entry(topic.namespace.clone()).or_default();
        if let Some(old) = names.get(&topic.name) {
            if old.topic.version >= topic.version {
                return;
            }
            self.by_id.remove(&old.topic.id);
        }
        let view = V::of(&topic);
        let cached = Arc::new(CachedTopic { topic, view });
        names.insert(cached.topic.name.clone(), cached.clone());
        self.by_id.insert(cached.topic.id, cached);
    }

    /// Removes the topic if what is cached is older than `revision`.
    fn remove(&mut self, namespace: &str, name: &str, revision: u64) {
        let Some(names) = self.by_name.get_mut(namespace) else { return };
        if let Some(old) = names.get(name).filter(|old| old.topic.version < revision) {
            self.by_id.remove(&old.topic.id);
            names.remove(name);
        }
    }
}

impl<C: Core, V: TopicView> TopicCache<C, V> {
    /// Reads all topics, then keeps watching in a task that ends with `stop`. Waits until the core answers.
    pub async fn start(core: C, stop: CancellationToken) -> Result<Arc<Self>, MetaError> {
        let cache = Arc::new(TopicCache {
            core,
            state: RwLock::new(State::default()),
            changes: AtomicU64::new(0),
            changed: watch::Sender::new(()),
            watched: watch::Sender::new(0),
            looked_through: AtomicU64::new(0),
            behind: Notify::new(),
        });
        let revision = loop {
            match cache.list().await {
                Ok(revision) => break revision,
                Err(MetaError::Unavailable) => tokio::time::sleep(RETRY_AFTER).await,
                Err(error) => return Err(error),
            }
        };
        cache.watched.send_replace(revision);
        let watching = cache.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = stop.cancelled() => {}
                _ = watching.watch(revision) => {}
            }
        });
        Ok(cache)
    }

    /// Rises after each change: who has derived something from topics derives it anew when this is another number.
    pub fn change_count(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// To be woken after each change.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// To be called after the change, so that nobody takes the new number with the old topics.
    fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        self.changed.send_replace(());
    }

    /// The topic of this name.
    pub fn by_name(&self, namespace: &str, name: &str) -> Option<Arc<CachedTopic<V>>> {
        self.state.read().by_name.get(namespace)?.get(name).cloned()
    }

    pub fn by_id(&self, id: TopicId) -> Option<Arc<CachedTopic<V>>> {
        self.state.read().by_id.get(&id).cloned()
    }

    /// All topics of a namespace, by name.
    pub fn all(&self, namespace: &str) -> Vec<Arc<CachedTopic<V>>> {
        let mut topics: Vec<_> =
            self.state.read().by_name.get(namespace).into_iter().flat_map(|names| names.values().cloned()).collect();
        topics.sort_by(|a, b| a.topic.name.cmp(&b.topic.name));
        topics
    }

    /// Creates a topic. Where it exists, the cache knows it afterwards.
    pub async fn create(&self, create: TopicCreate) -> Result<Arc<CachedTopic<V>>, TopicError> {
        let (namespace, name) = (create.namespace.clone(), create.name.clone());
        match self.core.topic_create(create).await {
            Ok(topic) => Ok(self.keep(topic)),
            Err(error) => {
                if error == TopicError::Exists {
                    self.refresh(&namespace, &name).await;
                }
                Err(error)
            }
        }
    }

    pub async fn alter(
        &self,
        namespace: &str,
        name: &str,
        alter: TopicAlter,
    ) -> Result<Arc<CachedTopic<V>>, TopicError> {
        match self.core.topic_alter(namespace.into(), name.into(), alter).await {
            Ok(topic) => Ok(self.keep(topic)),
            Err(error) => {
                if matches!(error, TopicError::Conflict | TopicError::Unknown) {
                    self.refresh(namespace, name).await;
                }
                Err(error)
            }
        }
    }

    pub async fn delete(&self, namespace: &str, name: &str) -> Result<(), TopicError> {
        let known = self.by_name(namespace, name);
        self.core.topic_delete(namespace.into(), name.into()).await?;
        let mut state = self.state.write();
        if let Some(known) = known {
            state.deleted.entry(Topic::key(namespace, name)).or_default().push_back(known.topic.id);
            state.remove(namespace, name, known.topic.version + 1);
        }
        drop(state);
        self.note_change();
        Ok(())
    }

    /// Asks the core for one topic, for when somebody else is known to have changed it.
    pub async fn refresh(&self, namespace: &str, name: &str) -> Option<Arc<CachedTopic<V>>> {
        let entry = self.core.meta_get(Topic::key(namespace, name)).await.ok()??;
        Some(self.keep(decode(&entry)?))
    }

    /// Waits until the cache has what the core has when this is called: what another gateway has said that it made is here then. An
    /// error if the core cannot say what it has.
    pub async fn caught_up(&self) -> Result<(), MetaError> {
        let mut watched = self.watched.subscribe();
        let from = (*watched.borrow_and_update()).max(self.looked_through.load(Ordering::Acquire));
        let look = MetaWatch { prefix: TOPIC_PREFIX.into(), after_revision: from, wait: Duration::ZERO };
        // An error of waiting would be the end of the cache.
        match self.core.meta_watch(look).await? {
            MetaChanges::Events { events, revision } => match events.last() {
                Some(last) => {
                    let last = revision_of(last);
                    let _ = watched.wait_for(|watched| *watched >= last).await;
                }
                None => {
                    self.looked_through.fetch_max(revision, Ordering::AcqRel);
                }
            },
            MetaChanges::Relist => {
                self.behind.notify_one();
                let _ = watched.changed().await;
            }
        }
        Ok(())
    }

    fn keep(&self, topic: Topic) -> Arc<CachedTopic<V>> {
        let id = topic.id;
        let mut state = self.state.write();
        state.put(topic.clone());
        // Somebody may have deleted it already, and the watch have told so; the caller still gets what it made.
        let kept = state.by_id.get(&id).cloned();
        drop(state);
        self.note_change();
        kept.unwrap_or_else(|| Arc::new(CachedTopic { view: V::of(&topic), topic }))
    }

    /// Replaces the content by the core's; returns the revision from which to watch.
    async fn list(&self) -> Result<u64, MetaError> {
        let list = self.core.meta_list(TOPIC_PREFIX.into()).await?;
        let topics: Vec<Topic> = list.entries.iter().filter_map(decode).collect();
        let mut state = self.state.write();
        let listed: HashSet<TopicId> = topics.iter().map(|topic| topic.id).collect();
        // What was changed here while the list was on its way is newer than the list.
        let newer: Vec<_> =
            state.by_id.values().filter(|cached| cached.topic.version > list.revision).cloned().collect();
        let mut deleted = std::mem::take(&mut state.deleted);
        deleted.values_mut().for_each(|ids| ids.retain(|id| listed.contains(id)));
        deleted.retain(|_, ids| !ids.is_empty());
        *state = State { deleted, ..State::default() };
        topics
            .into_iter()
            .chain(newer.into_iter().map(|cached| cached.topic.clone()))
            .for_each(|topic| state.put(topic));
        drop(state);
        self.note_change();
        Ok(list.revision)
    }

    async fn watch(&self, mut revision: u64) {
        loop {
            let watch = MetaWatch { prefix: TOPIC_PREFIX.into(), after_revision: revision, wait: WATCH_WAIT };
            let changes = tokio::select! {
                changes = self.core.meta_watch(watch) => changes,
                () = self.behind.notified() => Ok(MetaChanges::Relist),
            };
            let listed = match changes {
                Ok(MetaChanges::Events { events, revision }) => {
                    self.apply(events);
                    Ok(revision)
                }
                Ok(MetaChanges::Relist) => self.list().await,
                Err(error) => Err(error),
            };
            match listed {
                Ok(next) => {
                    revision = next;
                    self.watched.send_replace(revision);
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot watch the topics");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    fn apply(&self, events: Vec<MetaEvent>) {
        if events.is_empty() {
            return;
        }
        let mut state = self.state.write();
        for event in events {
            match event {
                MetaEvent::Put(entry) => decode(&entry).into_iter().for_each(|topic| state.put(topic)),
                MetaEvent::Deleted { key, revision } => {
                    if let Some((namespace, name)) = Topic::names_of_key(&key) {
                        state.remove(&namespace, name, revision);
                    }
                    if let Some(ids) = state.deleted.get_mut(&key) {
                        ids.pop_front();
                        if ids.is_empty() {
                            state.deleted.remove(&key);
                        }
                    }
                }
            }
        }
        drop(state);
        self.note_change();
    }
}

fn revision_of(event: &MetaEvent) -> u64 {
    match event {
        MetaEvent::Put(entry) => entry.version,
        MetaEvent::Deleted { revision, .. } => *revision,
    }
}

fn decode(entry: &MetaEntry) -> Option<Topic> {
    let topic = Topic::from_entry(entry);
    if topic.is_none() {
        tracing::error!(key = entry.key, "a topic's entry cannot be read");
    }
    topic
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(id: u128, version: u64) -> Topic {
        Topic {
            id: TopicId(id),
            namespace: "n".into(),
            name: "t".into(),
            partitions: 1,
            settings: Default::default(),
            labels: Default::default(),
            created_ms: 0,
            version,
        }
    }

    #[test]
    fn old_news_changes_nothing() {
        let mut state = State::<()>::default();
        state.put(topic(1, 5));
        state.put(topic(1, 4));
        state.remove("n", "t", 5);
        assert_eq!(state.by_name["n"]["t"].topic.version, 5);
        state.put(topic(2, 7));
        assert!(!state.by_id.contains_key(&TopicId(1)));
        state.remove("n", "t", 8);
        assert!(state.by_name["n"].is_empty() && state.by_id.is_empty());
    }

    #[test]
    fn what_was_deleted_here_does_not_come_back() {
        let mut state = State::<()>::default();
        state.deleted.entry(Topic::key("n", "t")).or_default().push_back(TopicId(1));
        state.put(topic(1, 5));
        assert!(state.by_id.is_empty());
        state.put(topic(2, 9));
        assert!(state.by_id.contains_key(&TopicId(2)));
    }
}
