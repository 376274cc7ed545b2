//! The index of all retained messages, as this gateway sees them: read from the log when it starts, and kept by reading on.
//!
//! ```text
//! __mqtt_retained ── fetch, standing ──► tail ──► index ◄── deliver ── a new subscription
//! ```
//! The topic is compacted by name, so what is read at the start is about as much as there are retained messages. A subscription waits
//! until the tail has read what the log holds when it is made: whoever saw a publish acknowledged finds it, at whichever gateway.

use std::sync::Arc;
use std::time::{Duration, Instant};

use codec_record::mqtt_message::{MessageParts, batch_of, messages, walk};
use codec_record::{Batch, FormatId};
use core_rpc::{
    AnyCore, Append, AppendRequest, Core, FetchError, FetchPartition, FetchRequest, Isolation, OffsetAt,
    OffsetsRequest, PartitionId,
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::index::{Body, Cursor, Retained, RetainedIndex};
use super::stale::Stale;
use crate::now_ms;
use crate::state::sessions::{Delivery, Place, Session, SubscriptionIds, Waiting, Wish, loader};
use crate::state::topics::{Own, Topics, partitions_of};
use crate::translate;

/// How long one fetch stands; it is renewed at once.
const FETCH_WAIT: Duration = Duration::from_secs(30);
/// Read at once, of all partitions, and of one.
const FETCH_BYTES_MAX: u32 = 8 << 20;
const PARTITION_BYTES_MAX: u32 = 1 << 20;
/// How long to wait before asking a core again that could not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// How long a subscription waits for the tail, before it gets what is known.
const BEHIND_MAX: Duration = Duration::from_secs(10);
/// Names of one part of a delivery: so many the lock is held for.
const CHUNK: usize = 256;
/// Names that are looked at for being over while the lock is held, how often it is taken for that in a row, and how long it is left
/// alone then at least.
const SWEEP: usize = 4096;
const SWEEPS: usize = 16;
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// What a partition is reminded by ([`super::stale`]) that something in it is over: a tombstone of no name.
const REMINDER: MessageParts<'static> =
    MessageParts { qos: 0, retain: true, publisher: 0, expiry_s: None, topic: b"", properties: b"", payload: b"" };
/// How often the first reading tells how far it is.
const PROGRESS: Duration = Duration::from_secs(5);

/// The retained messages.
pub struct RetainedStore {
    core: AnyCore,
    topics: Arc<Topics>,
    index: RwLock<RetainedIndex>,
    stale: Mutex<Stale>,
    /// Up to where each partition is in the index.
    positions: watch::Sender<Vec<u64>>,
}

impl RetainedStore {
    /// Begins to read, in a task that ends with `stop`. Messages of at most `cache_bytes` are kept in memory.
    pub fn start(
        core: AnyCore,
        topics: Arc<Topics>,
        cache_bytes: usize,
        stop: CancellationToken,
    ) -> Arc<RetainedStore> {
        let partitions = topics.own(Own::Retained).partitions as usize;
        let store = Arc::new(RetainedStore {
            core,
            topics,
            index: RwLock::new(RetainedIndex::new(cache_bytes)),
            stale: Mutex::new(Stale::new(partitions)),
            positions: watch::Sender::new(vec![0; partitions]),
        });
        let tail = store.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tail.follow() => {}
            }
        });
        store
    }

    /// How many names have a retained message, the bytes of those messages that are kept in memory, and of all of them in the log.
    pub fn size(&self) -> (usize, usize, u64) {
        let index = self.index.read();
        (index.len(), index.bytes(), index.stored_bytes())
    }

    /// Where the log ends now, by partition: what lies before is retained for a subscription that was just made, and it gets what
    /// comes behind as anybody does. An error: the core cannot say.
    pub async fn ends_now(&self) -> Result<Vec<u64>, FetchError> {
        let queries = self.partitions().map(|partition| (partition, OffsetAt::Latest)).collect();
        let mut ends = Vec::new();
        for answer in self.core.offsets(OffsetsRequest { queries }).await {
            ends.push(answer?.offset.unwrap_or(0));
        }
        Ok(ends)
    }

    /// Waits until all is in the index that the log holds now. An error if the core cannot say what that is.
    pub async fn caught_up(&self) -> Result<(), FetchError> {
        self.caught_up_to(&self.ends_now().await?).await;
        Ok(())
    }

    async fn caught_up_to(&self, ends: &[u64]) {
        let mut positions = self.positions.subscribe();
        // An error would be the end of the store.
        let _ = positions.wait_for(|positions| positions.iter().zip(ends).all(|(at, end)| at >= end)).await;
    }

    /// Waits, but not for ever, until [`RetainedStore::deliver`] finds all that lies before these ends.
    pub async fn ready(&self, ends: &[u64]) {
        if timeout(BEHIND_MAX, self.caught_up_to(ends)).await.is_err() {
            tracing::warn!("retained messages are read slowly: a new subscription may miss some");
        }
    }

    /// Gives a subscription that was just made what is retained under the names that its filter matches (3.3.1.3), as fast as its
    /// session takes it; until its connection is gone. `may_read`: of which names. Not what lies behind `ends`: that it gets, or got,
    /// when it was published.
    pub async fn deliver(
        &self,
        session: &Session,
        filter: &str,
        wish: Wish,
        ends: &[u64],
        may_read: impl Fn(&str) -> bool,
    ) {
        let is_kept = |one: &Retained| ends.get(one.partition as usize).is_none_or(|end| one.offset < *end);
        let mut cursor: Option<Cursor> = None;
        loop {
            let chunk = self.index.read().matching_after(filter, cursor.as_ref(), CHUNK);
            let now_ms = now_ms();
            let found = chunk.found.into_iter();
            let found =
                found.filter(|(name, retained)| is_kept(retained) && !retained.is_over(now_ms) && may_read(name));
            for delivery in self.deliveries(found.map(|(_, retained)| retained), wish).await {
                let publisher = delivery.message.publisher;
                if wish.no_local && publisher != 0 && publisher == session.publisher {
                    continue;
                }
                if !session.has_room().await {
                    return;
                }
                if session.push_delivery(delivery) {
                    session.wake();
                }
            }
            cursor = chunk.next;
            if cursor.is_none() {
                return;
            }
        }
    }

    /// What a subscription gets of these, in their order: those that the log has no more are left out.
    async fn deliveries(&self, found: impl Iterator<Item = Retained>, wish: Wish) -> Vec<Delivery> {
        let topic = self.topics.own(Own::Retained).id;
        let subscription_ids = wish.subscription_id.map_or(SubscriptionIds::None, SubscriptionIds::One);
        let mut deliveries = Vec::new();
        let mut places = Vec::new();
        let mut waiting = Vec::new();
        for retained in found {
            let partition = PartitionId { topic, index: retained.partition };
            let place = Place { partition, offset: retained.offset };
            match retained.body {
                Body::InMemory(body) => {
                    deliveries.extend(message_of(body, place, retained.expires_ms).map(|message| {
                        let (qos, subscription_ids) = (wish.qos.min(message.qos), subscription_ids.clone());
                        Some(Delivery { message: Arc::new(message), qos, retain: true, subscription_ids, share: None })
                    }))
                }
                Body::InLog => {
                    places.push(deliveries.len());
                    deliveries.push(None);
                    let (qos, subscription_ids) = (wish.qos, subscription_ids.clone());
                    waiting.push(Waiting { place, qos, retain: true, subscription_ids });
                }
            }
        }
        if !waiting.is_empty() {
            let loaded = loop {
                match loader::load(&self.core, &self.topics, &waiting).await {
                    Ok(loaded) => break loaded,
                    Err(error) => {
                        tracing::debug!(%error, "cannot read retained messages");
                        tokio::time::sleep(RETRY_AFTER).await;
                    }
                }
            };
            for (at, delivery) in places.into_iter().zip(loaded) {
                deliveries[at] =
                    delivery.map(|delivery| Delivery { qos: wish.qos.min(delivery.message.qos), ..delivery });
            }
        }
        deliveries.into_iter().flatten().collect()
    }

    fn partitions(&self) -> impl Iterator<Item = PartitionId> {
        partitions_of(self.topics.own(Own::Retained))
    }

    // The tail.

    async fn follow(&self) {
        let began = Instant::now();
        let mut first = Some((began, self.ends().await));
        let (mut sweep, mut swept) = (None, began);
        loop {
            let positions = self.positions.borrow().clone();
            if let Some((told, ends)) = &mut first {
                if positions.iter().zip(&*ends).all(|(at, end)| at >= end) {
                    let (names, bytes, _) = self.size();
                    tracing::info!(names, bytes, elapsed = ?began.elapsed(), "retained messages are read");
                    first = None;
                } else if told.elapsed() >= PROGRESS {
                    *told = Instant::now();
                    let (done, all): (u64, u64) = (positions.iter().sum(), ends.iter().sum());
                    tracing::info!(done, all, "reading retained messages");
                }
            }
            let partitions = self.partitions().zip(&positions);
            let request = FetchRequest {
                partitions: partitions
                    .map(|(partition, offset)| FetchPartition {
                        partition,
                        offset: *offset,
                        bytes_max: PARTITION_BYTES_MAX,
                    })
                    .collect(),
                bytes_min: 1,
                bytes_max: FETCH_BYTES_MAX,
                wait: FETCH_WAIT,
                isolation: Isolation::Committed,
            };
            let mut next = positions;
            let mut failed = None;
            for ((partition, answer), next) in (0..).zip(self.core.fetch(request).await).zip(&mut next) {
                match answer {
                    Ok(fetched) => {
                        for batch in &fetched.batches {
                            self.apply(partition, batch);
                            *next = batch.header.next_offset().max(*next);
                        }
                    }
                    // What is no more there was replaced.
                    Err(FetchError::OutOfRange(bounds)) => *next = bounds.start_offset,
                    Err(error) => failed = Some(error),
                }
            }
            self.positions.send_replace(next);
            if swept.elapsed() >= SWEEP_EVERY {
                sweep = self.sweep(sweep, now_ms()).await;
                swept = Instant::now();
            }
            // Before all is read nobody knows when there was written last.
            if first.is_none() {
                self.remind(now_ms()).await;
            }
            if let Some(error) = failed {
                tracing::debug!(%error, "cannot read retained messages");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }

    /// Takes out of the index what is over, among some names from the cursor on.
    pub(super) async fn sweep(&self, mut cursor: Option<Cursor>, now_ms: i64) -> Option<Cursor> {
        for _ in 0..SWEEPS {
            {
                let mut stale = self.stale.lock();
                let mut seen = |partition| stale.seen(partition, now_ms);
                cursor = self.index.write().sweep(cursor.as_ref(), SWEEP, now_ms, &mut seen);
            }
            if cursor.is_none() {
                break;
            }
            tokio::task::yield_now().await;
        }
        cursor
    }

    /// Has the log forget what is over where nobody writes. One that was not written is written another time.
    pub async fn remind(&self, now_ms: i64) {
        let due = self.stale.lock().due(now_ms);
        if due.is_empty() {
            return;
        }
        let topic = self.topics.own(Own::Retained).id;
        let append =
            |index: &u32| Append { partition: PartitionId { topic, index: *index }, batch: batch_of(&REMINDER, -1) };
        let answers = self.core.append(AppendRequest { appends: due.iter().map(append).collect() }).await;
        for (partition, answer) in due.into_iter().zip(answers) {
            match answer {
                Ok(_) => self.stale.lock().written(partition, now_ms),
                Err(error) => tracing::debug!(partition, %error, "retained messages that are over stay for now"),
            }
        }
    }

    /// Where the log ends, of each partition; 0 where nobody knows.
    async fn ends(&self) -> Vec<u64> {
        let queries = self.partitions().map(|partition| (partition, OffsetAt::Latest)).collect();
        let answers = self.core.offsets(OffsetsRequest { queries }).await;
        answers.into_iter().map(|answer| answer.ok().and_then(|found| found.offset).unwrap_or(0)).collect()
    }

    fn apply(&self, partition: u32, batch: &Batch) {
        if batch.header.format != FormatId::MQTT {
            return;
        }
        let now_ms = now_ms();
        let mut stale = self.stale.lock();
        stale.written(partition, batch.header.append_time_ms);
        let mut index = self.index.write();
        for stored in walk(&batch.payload) {
            let Ok(stored) = stored else {
                tracing::warn!(partition, offset = batch.header.base_offset, "retained messages cannot be understood");
                return;
            };
            let Ok(name) = std::str::from_utf8(stored.parts.topic) else { continue };
            let offset = batch.header.base_offset + u64::from(stored.position);
            let expires_ms = translate::expires_ms(&batch.header, stored.parts.expiry_s);
            if stored.parts.payload.is_empty() || expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms) {
                index.remove(name, partition, offset);
                if !name.is_empty() {
                    stale.seen(partition, now_ms);
                }
            } else {
                index.put(name, partition, offset, expires_ms, stored.bytes);
            }
        }
    }
}

/// A message that was kept in memory as it is stored.
fn message_of(body: bytes::Bytes, place: Place, expires_ms: Option<i64>) -> Option<crate::state::sessions::Message> {
    let view = messages(&body).next()?.ok()?;
    translate::message_at(place, expires_ms, view)
}
