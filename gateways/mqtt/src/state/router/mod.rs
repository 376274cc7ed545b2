//! From the log to the sessions: what is appended, by whomever, is matched against the subscriptions and pushed.
//!
//! ```text
//! subscribe ─► trie ◄─ matches ─ tail (one task for each topic that a filter may match) ◄─ a standing fetch ─ core
//!                                  └─► Session::push, then one wake for each session of a batch
//! ```
//! A tail begins where its topic ends when the first filter comes that may match it, at the start for topics that are made
//! later, and ends when no filter may match it any more. Sessions that come from the log (their gateway died, or was
//! restarted) get what they missed from the tail too, before anything new ([`Router::adopt`]).

mod missed;
mod tail;
mod targets;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use codec_mqtt::Text;
use codec_mqtt::topic::SHARE_PREFIX;
use codec_record::translate::names;
use core_rpc::{AnyCore, Core, OffsetAt, OffsetsRequest, PartitionId, TopicId};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::missed::Missed;
use self::tail::Tail;
use self::targets::Subscriber;
use super::EXCLUSIVE_PREFIX;
use super::sessions::{Message, Session, SessionKey, Wish};
use super::topics::{Known, Topics, partitions_of};
use super::trie::{FirstLevels, Trie};

/// How long a new subscription waits for tails that are behind.
const BARRIER_MAX: Duration = Duration::from_secs(2);

/// How long to wait before asking a core again that could not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// How long to wait after topics changed, for more changes.
const SETTLE: Duration = Duration::from_millis(20);

/// The router. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct Router {
    shared: Arc<Shared>,
}

struct Shared {
    core: AnyCore,
    topics: Arc<Topics>,
    trie: RwLock<Trie<SessionKey, Subscriber>>,
    tails: Mutex<HashMap<TopicId, Handle>>,
    /// Topics that filters were held against since they are there: of any other, somebody may be waiting for its first message.
    seen: Mutex<HashSet<TopicId>>,
    stop: CancellationToken,
}

/// A session that was kept in the log, and from where on it has missed messages, by partition.
pub type Adopted = (Arc<Session>, Vec<(PartitionId, u64)>);

/// What others know of a tail.
struct Handle {
    missed: mpsc::UnboundedSender<Missed>,
    /// Of each partition: all before was pushed.
    positions: Arc<[AtomicU64]>,
    /// Told after each step.
    moved: watch::Receiver<()>,
    stop: CancellationToken,
}

/// What a filter asks the router for: None for shared subscriptions, which take from leases instead.
pub fn routed_filter(filter: &str) -> Option<&str> {
    match filter.strip_prefix(EXCLUSIVE_PREFIX) {
        Some(filter) => Some(filter),
        None => (!filter.starts_with(SHARE_PREFIX)).then_some(filter),
    }
}

/// Where a tail begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// At the first message.
    Start,
    /// Behind the last.
    End,
}

impl Router {
    pub fn start(core: AnyCore, topics: Arc<Topics>, stop: CancellationToken) -> Router {
        let seen = Mutex::new(topics.all().iter().map(|known| known.topic.id).collect());
        let shared = Shared { core, topics, trie: RwLock::default(), tails: Mutex::default(), seen, stop };
        let router = Router { shared: Arc::new(shared) };
        tokio::spawn(router.clone().follow_topics());
        router
    }

    /// Subscribes a session. When this returns, it gets what is published from now on, and nothing that was acknowledged before,
    /// by whichever gateway. The core is asked once for all of the filters.
    pub async fn subscribe(&self, session: &Arc<Session>, filters: &[(Text, Wish)]) {
        let routed = || filters.iter().filter_map(|(filter, wish)| Some((routed_filter(filter)?, *wish)));
        if routed().next().is_none() {
            return;
        }
        // What is under way was published before.
        let topics = self.all_caught_up(routed().map(|(filter, _)| filter)).await;
        {
            let mut trie = self.shared.trie.write();
            for (filter, wish) in routed() {
                trie.insert(filter, session.key, Subscriber { session: session.clone(), wish });
            }
        }
        // Until now nobody may have wanted them, and they may have been ended: there nothing waits for anybody.
        for known in &topics {
            self.tail(known, Begin::End).await;
        }
    }

    /// Returns when what was acknowledged was pushed to whoever has these filters: who connects then finds it among what waits, and
    /// what is only for who is there (QoS 0) not at all.
    pub async fn settled<'a>(&self, filters: impl IntoIterator<Item = &'a str>) {
        self.all_caught_up(filters).await;
    }

    /// Waits until all was pushed that the log has now of the topics that there are now and in which these filters may find
    /// messages. Returns those.
    async fn all_caught_up<'a>(&self, filters: impl IntoIterator<Item = &'a str>) -> Vec<Known> {
        self.shared.topics.caught_up().await;
        let matching = self.topics_matching(filters).into_iter();
        let topics: Vec<Known> = matching.filter_map(|topic| self.shared.topics.by_id(topic)).collect();
        for known in &topics {
            self.tail(known, self.begin_of(known.topic.id)).await;
        }
        let caught_up = async {
            let ends = self.ends(topics.iter().flat_map(|known| partitions_of(&known.topic)).collect()).await;
            let mut ends = ends.as_slice();
            for known in &topics {
                let (of_topic, others) = ends.split_at(known.topic.partitions as usize);
                self.caught_up(known.topic.id, of_topic).await;
                ends = others;
            }
        };
        if tokio::time::timeout(BARRIER_MAX, caught_up).await.is_err() {
            tracing::debug!("the router is behind what was published");
        }
        topics
    }

    /// `session` has the subscription no more. What it has subscribed to with and without `$exclusive/` is one here.
    pub fn unsubscribe(&self, session: &Arc<Session>, filter: &Text) {
        let Some(routed) = routed_filter(filter) else { return };
        let other =
            if routed.len() == filter.len() { format!("{EXCLUSIVE_PREFIX}{routed}") } else { routed.to_owned() };
        let other = Text::new(other).and_then(|other| session.subscription(&other));
        let mut trie = self.shared.trie.write();
        match other {
            Some(subscribed) => {
                trie.insert(routed, session.key, Subscriber { session: session.clone(), wish: subscribed.wish });
            }
            None => drop(trie.remove(routed, &session.key)),
        }
    }

    /// Takes out all filters of a session.
    pub fn forget(&self, session: &Session) {
        let subscriptions = session.subscriptions();
        let mut trie = self.shared.trie.write();
        for filter in subscriptions.iter().filter_map(|(filter, _)| routed_filter(filter)) {
            trie.remove(filter, &session.key);
        }
    }

    /// The topics in which filters may find messages, each once.
    pub fn topics_matching<'a>(&self, filters: impl IntoIterator<Item = &'a str>) -> Vec<TopicId> {
        // A client may have thousands of filters, and few first levels, which say it all.
        let levels: HashSet<&str> = filters.into_iter().filter_map(routed_filter).map(names::first_level).collect();
        let matching = levels.into_iter().flat_map(|level| self.shared.topics.matching(level));
        let mut topics: Vec<TopicId> = matching.map(|known| known.topic.id).collect();
        topics.sort_unstable();
        topics.dedup();
        topics
    }

    /// Sessions that were kept in the log, each with the offsets from which on it has missed messages (a partition that is
    /// not among them: from its start). They must hold ([`Session::restore`]) the topics that their filters may match. Returns
    /// when their filters are known; what they missed comes then, before anything new of its topic.
    pub async fn adopt(&self, sessions: Vec<Adopted>) {
        let mut missed: HashMap<TopicId, Vec<Adopted>> = HashMap::new();
        for (session, positions) in sessions {
            let subscriptions = session.subscriptions();
            let topics = self.topics_matching(subscriptions.iter().map(|(filter, _)| filter.as_str()));
            {
                let mut trie = self.shared.trie.write();
                for (filter, subscribed) in &subscriptions {
                    if let Some(filter) = routed_filter(filter) {
                        let subscriber = Subscriber { session: session.clone(), wish: subscribed.wish };
                        trie.insert(filter, session.key, subscriber);
                    }
                }
            }
            for topic in topics {
                let of_topic = positions.iter().filter(|(partition, _)| partition.topic == topic).copied().collect();
                missed.entry(topic).or_default().push((session.clone(), of_topic));
            }
        }
        for (topic, sessions) in missed {
            let Some(known) = self.shared.topics.by_id(topic) else { continue };
            self.tail(&known, self.begin_of(topic)).await;
            let tails = self.shared.tails.lock();
            if let Some(handle) = tails.get(&topic) {
                // A tail that has ended has no topic any more.
                let _ = handle.missed.send(Missed { sessions });
            }
        }
    }

    /// How far messages were pushed, in all partitions in which these filters may find some.
    pub fn positions<'a>(&self, filters: impl IntoIterator<Item = &'a str>) -> Vec<(PartitionId, u64)> {
        let topics = self.topics_matching(filters);
        let tails = self.shared.tails.lock();
        let of_topic = |topic: TopicId| {
            let positions = tails.get(&topic).map(|handle| handle.positions.clone());
            positions.into_iter().flat_map(move |positions| {
                let partition = move |index: usize| PartitionId { topic, index: index as u32 };
                let all = positions.iter().map(|position| position.load(Ordering::Acquire)).enumerate();
                all.map(|(index, position)| (partition(index), position)).collect::<Vec<_>>()
            })
        };
        topics.into_iter().flat_map(of_topic).collect()
    }

    /// How far messages were pushed, everywhere.
    pub fn all_positions(&self) -> Vec<(PartitionId, u64)> {
        let tails = self.shared.tails.lock();
        let of_topic = |(&topic, handle): (&TopicId, &Handle)| {
            let positions = handle.positions.iter().map(|position| position.load(Ordering::Acquire)).enumerate();
            positions.map(|(index, at)| (PartitionId { topic, index: index as u32 }, at)).collect::<Vec<_>>()
        };
        tails.iter().flat_map(of_topic).collect()
    }

    /// A message that lies nowhere, for whoever is there now (`$SYS`).
    pub fn push_local(&self, message: Message) {
        let message = Arc::new(message);
        let targets = targets::find(&self.shared.trie.read(), message.publish.topic());
        for target in targets.iter() {
            if target.session.push(&message, &target.wishes) {
                target.session.wake();
            }
        }
    }

    /// How many subscriptions there are.
    pub fn subscription_count(&self) -> usize {
        self.shared.trie.read().len()
    }

    /// Where to begin with a topic that may have come a moment ago: somebody may be waiting for its first message.
    fn begin_of(&self, topic: TopicId) -> Begin {
        if self.shared.seen.lock().contains(&topic) { Begin::End } else { Begin::Start }
    }

    /// Returns when the tail of a topic is running.
    async fn tail(&self, known: &Known, begin: Begin) {
        let id = known.topic.id;
        loop {
            if self.shared.tails.lock().contains_key(&id) {
                return;
            }
            let count = known.topic.partitions;
            let positions = match begin {
                Begin::Start => vec![0; count as usize],
                Begin::End => match self.ends(partitions_of(&known.topic).collect()).await.into_iter().collect() {
                    Some(positions) => positions,
                    None => {
                        if self.shared.stop.is_cancelled() || self.shared.topics.by_id(id).is_none() {
                            return;
                        }
                        tokio::time::sleep(RETRY_AFTER).await;
                        continue;
                    }
                },
            };
            let mut tails = self.shared.tails.lock();
            if !tails.contains_key(&id) {
                self.begin(&mut tails, known, positions);
            }
            return;
        }
    }

    /// Starts the tail of a topic at these offsets, in the place of another.
    fn begin(&self, tails: &mut HashMap<TopicId, Handle>, known: &Known, positions: Vec<u64>) {
        let id = known.topic.id;
        let (missed, asked) = mpsc::unbounded_channel();
        let (moves, moved) = watch::channel(());
        let positions: Arc<[AtomicU64]> = positions.into_iter().map(AtomicU64::new).collect();
        let stop = self.shared.stop.child_token();
        tails.insert(id, Handle { missed, positions: positions.clone(), moved, stop: stop.clone() });
        let tail = Tail::new(self.shared.clone(), known.clone(), positions.clone(), moves, asked);
        let shared = self.shared.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tail.run() => {}
            }
            let mut tails = shared.tails.lock();
            // Another may stand in its place.
            if tails.get(&id).is_some_and(|handle| Arc::ptr_eq(&handle.positions, &positions)) {
                tails.remove(&id);
            }
        });
    }

    /// Waits until all was pushed before these offsets of a topic's partitions.
    async fn caught_up(&self, topic: TopicId, ends: &[Option<u64>]) {
        let Some((positions, mut moved)) =
            (self.shared.tails.lock().get(&topic)).map(|handle| (handle.positions.clone(), handle.moved.clone()))
        else {
            return;
        };
        let is_there =
            || positions.iter().zip(ends).all(|(at, end)| end.is_none_or(|end| at.load(Ordering::Acquire) >= end));
        while !is_there() {
            if moved.changed().await.is_err() {
                return;
            }
        }
    }

    /// Behind the last message of each of these that can be read now; None, if the core cannot say.
    async fn ends(&self, partitions: Vec<PartitionId>) -> Vec<Option<u64>> {
        let queries = partitions.into_iter().map(|partition| (partition, OffsetAt::Stable)).collect();
        let found = self.shared.core.offsets(OffsetsRequest { queries }).await;
        found.into_iter().map(|found| found.ok()?.offset).collect()
    }

    /// Begins tails of topics that are new, and ends those of topics that are gone or that nobody wants.
    async fn follow_topics(self) {
        let mut changes = self.shared.topics.changes();
        loop {
            tokio::select! {
                () = self.shared.stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
            let all = self.shared.topics.all();
            let levels = self.shared.trie.read().first_levels();
            for known in &all {
                if self.is_wanted(known, &levels) {
                    self.grow(known);
                    self.tail(known, self.begin_of(known.topic.id)).await;
                } else {
                    self.end_unwanted(known);
                }
                self.shared.seen.lock().insert(known.topic.id);
            }
            let live: HashSet<TopicId> = all.iter().map(|known| known.topic.id).collect();
            self.shared.seen.lock().retain(|topic| live.contains(topic));
            let tails: Vec<TopicId> = self.shared.tails.lock().keys().copied().collect();
            tails.into_iter().filter(|topic| !live.contains(topic)).for_each(|gone| self.stop_tail(gone));
            // Whoever makes many topics makes them one after the other.
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// Whether filters that begin so may find messages in a topic.
    fn is_wanted(&self, known: &Known, levels: &FirstLevels) -> bool {
        let topics = &self.shared.topics;
        levels.wildcard && known.view.is_open
            || !levels.literals.is_empty() && topics.gathers(known)
            || names::unescape(&known.topic.name).is_some_and(|level| levels.literals.contains(&*level))
    }

    /// A topic with more partitions than its tail knows gets another, which goes on where the first was.
    fn grow(&self, known: &Known) {
        let (id, count) = (known.topic.id, known.topic.partitions as usize);
        let mut tails = self.shared.tails.lock();
        let Some(handle) = tails.get(&id).filter(|handle| handle.positions.len() < count) else { return };
        handle.stop.cancel();
        let mut positions: Vec<u64> = handle.positions.iter().map(|at| at.load(Ordering::Acquire)).collect();
        positions.resize(count, 0);
        self.begin(&mut tails, known, positions);
    }

    /// Ends a tail, if still nobody wants it: who subscribes meanwhile looks for it when his filter is in the trie.
    fn end_unwanted(&self, known: &Known) {
        let trie = self.shared.trie.read();
        if !self.is_wanted(known, &trie.first_levels()) {
            self.stop_tail(known.topic.id);
        }
    }

    fn stop_tail(&self, topic: TopicId) {
        if let Some(handle) = self.shared.tails.lock().remove(&topic) {
            handle.stop.cancel();
        }
    }
}
