//! A core in memory, complete enough for the gateway's handlers; nothing is durable and nothing is fast.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use codec_record::{Batch, BatchFlags};
use core_rpc::*;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, timeout_at};

#[derive(Clone)]
pub struct MemoryCore {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
}

#[derive(Default)]
struct State {
    logs: HashMap<PartitionId, Log>,
    topics: BTreeMap<String, Topic>,
    meta: BTreeMap<String, MetaEntry>,
    events: Vec<MetaEvent>,
    revision: u64,
    next_topic: u128,
    last_session: u64,
    sessions: std::collections::BTreeSet<SessionId>,
    cursors: BTreeMap<(String, String), BTreeMap<PartitionId, Cursor>>,
    /// The lowest epoch of a producer that is not fenced.
    fences: HashMap<i64, i16>,
    /// By producer: the last decision that was carried out.
    decisions: HashMap<i64, u64>,
    /// Cursors of open transactions: of which producer and epoch.
    pending: Vec<(TransactionProducer, GroupName, PartitionId, Cursor)>,
    next_put: PutFate,
    ends_fail: bool,
}

/// What becomes of the next put into meta.
#[derive(Clone, Copy, Default, PartialEq)]
pub enum PutFate {
    #[default]
    Succeeds,
    Fails,
    /// Written, but reported as failed.
    AnswerLost,
}

#[derive(Default)]
struct Log {
    start: u64,
    end: u64,
    batches: Vec<Batch>,
    /// Open transactions: the producer's id, its epoch and the first offset.
    open: BTreeMap<i64, (i16, u64)>,
    aborted: Vec<AbortedTransaction>,
}

impl Log {
    fn bounds(&self) -> Bounds {
        Bounds { start_offset: self.start, stable_offset: self.stable(), end_offset: self.end }
    }

    fn stable(&self) -> u64 {
        self.open.values().map(|(_, first)| *first).min().unwrap_or(self.end)
    }

    /// Ends the producer's transaction, if it is open and of such an epoch.
    fn end_transaction(&mut self, end: &TransactionEnd) -> bool {
        let Some(&(epoch, first_offset)) = self.open.get(&end.producer_id) else { return false };
        if epoch > end.ended_epoch_max {
            return false;
        }
        self.open.remove(&end.producer_id);
        let last_offset = self.put(end.marker.clone());
        if end.outcome == Outcome::Abort {
            self.aborted.push(AbortedTransaction { producer_id: end.producer_id, first_offset, last_offset });
            self.aborted.sort_by_key(|aborted| aborted.first_offset);
        }
        true
    }

    fn put(&mut self, mut batch: Batch) -> u64 {
        batch.header.base_offset = self.end;
        self.end = batch.header.next_offset();
        let offset = batch.header.base_offset;
        self.batches.push(batch);
        offset
    }

    fn append(&mut self, batch: Batch, fences: &HashMap<i64, i16>) -> Result<Appended, AppendError> {
        let appended = |offset, duplicate, start| Appended {
            base_offset: offset,
            append_time_ms: 1,
            start_offset: start,
            duplicate,
        };
        let is_control = |batch: &Batch| batch.header.flags.contains(BatchFlags::CONTROL);
        if let Some(producer) = batch.header.producer {
            if fences.get(&producer.id).is_some_and(|fence| producer.epoch < *fence) {
                return Err(AppendError::ProducerFenced);
            }
            let is_transactional = batch.header.flags.contains(BatchFlags::TRANSACTIONAL);
            if let Some((epoch, _)) = self.open.get(&producer.id)
                && (producer.epoch > *epoch || !is_transactional)
            {
                return Err(AppendError::TransactionOpen);
            }
            let data = self.batches.iter().filter(|kept| !is_control(kept));
            let mut of_producer = data.filter_map(|kept| Some((kept, kept.header.producer?)));
            if let Some((kept, last)) = of_producer.rfind(|(_, kept)| kept.id == producer.id) {
                if producer.epoch < last.epoch {
                    return Err(AppendError::ProducerFenced);
                }
                if producer == last {
                    return Ok(appended(kept.header.base_offset, true, self.start));
                }
                if producer.epoch == last.epoch && producer.sequence != last.sequence + kept.header.count as i32 {
                    return Err(AppendError::SequenceGap);
                }
            }
        }
        if !batch.payload_is_intact() {
            return Err(AppendError::Corrupt);
        }
        let (producer, flags) = (batch.header.producer, batch.header.flags);
        let offset = self.put(batch);
        if let Some(producer) = producer.filter(|_| flags.contains(BatchFlags::TRANSACTIONAL)) {
            self.open.entry(producer.id).or_insert((producer.epoch, offset));
        }
        Ok(appended(offset, false, self.start))
    }

    fn read(&self, offset: u64, bytes_max: usize, isolation: Isolation) -> Result<Fetched, FetchError> {
        if offset < self.start || offset > self.end {
            return Err(FetchError::OutOfRange(self.bounds()));
        }
        let mut bytes = 0;
        let from = self.batches.iter().skip_while(|batch| batch.header.next_offset() <= offset);
        let end = if isolation == Isolation::Committed { self.stable() } else { self.end };
        let visible = from.take_while(|batch| batch.header.base_offset < end);
        let batches = visible.take_while(|batch| {
            let first = bytes == 0;
            bytes += batch.payload.len();
            first || bytes <= bytes_max
        });
        let batches: Vec<Batch> = batches.cloned().collect();
        let next = batches.last().map_or(offset, |batch| batch.header.next_offset());
        let overlaps = |aborted: &&AbortedTransaction| aborted.first_offset < next && aborted.last_offset >= offset;
        let aborted = match isolation {
            Isolation::Committed => self.aborted.iter().filter(overlaps).copied().collect(),
            Isolation::All => Vec::new(),
        };
        Ok(Fetched { bounds: self.bounds(), batches, aborted })
    }

    fn find(&self, at: OffsetAt) -> FoundOffset {
        let nothing = FoundOffset { offset: None, time_ms: -1 };
        let at_batch =
            |batch: &Batch| FoundOffset { offset: Some(batch.header.base_offset), time_ms: batch.header.max_time_ms };
        match at {
            OffsetAt::Earliest => FoundOffset { offset: Some(self.start), time_ms: -1 },
            OffsetAt::Latest => FoundOffset { offset: Some(self.end), time_ms: -1 },
            OffsetAt::Stable => FoundOffset { offset: Some(self.stable()), time_ms: -1 },
            OffsetAt::Time(time) => {
                self.batches.iter().find(|batch| batch.header.max_time_ms >= time).map_or(nothing, at_batch)
            }
            OffsetAt::MaxTime => {
                let greatest = self.batches.iter().rev().max_by_key(|batch| batch.header.max_time_ms);
                greatest.map_or(nothing, at_batch)
            }
        }
    }
}

impl State {
    fn committed(&self, group: &GroupName, partition: &PartitionId) -> Committed {
        let cursors = self.cursors.get(&(group.namespace.clone(), group.group.clone()));
        let pending = self.pending.iter().any(|(_, name, id, _)| name == group && id == partition);
        Committed { cursor: cursors.and_then(|cursors| cursors.get(partition)).cloned(), pending }
    }

    fn put_meta(&mut self, key: String, value: Bytes, session: Option<SessionId>) -> u64 {
        self.revision += 1;
        let entry = MetaEntry { key: key.clone(), value, version: self.revision, session };
        self.meta.insert(key, entry.clone());
        self.events.push(MetaEvent::Put(entry));
        self.revision
    }

    fn put_topic(&mut self, mut topic: Topic) -> Topic {
        topic.version = self.revision + 1;
        let key = Topic::key(&topic.namespace, &topic.name);
        let value = topic.to_value().unwrap();
        self.put_meta(key.clone(), value.into(), None);
        for index in 0..topic.partitions {
            self.logs.entry(PartitionId { topic: topic.id, index }).or_default();
        }
        self.topics.insert(key, topic.clone());
        topic
    }

    fn delete_meta(&mut self, key: &str) {
        if self.meta.remove(key).is_some() {
            self.revision += 1;
            self.events.push(MetaEvent::Deleted { key: key.to_owned(), revision: self.revision });
        }
    }
}

impl Default for MemoryCore {
    fn default() -> Self {
        MemoryCore { state: Arc::default(), changed: Arc::new(watch::channel(0).0) }
    }
}

impl MemoryCore {
    pub fn next_put(&self, fate: PutFate) {
        self.state.lock().next_put = fate;
    }

    /// Whether the core cannot end transactions.
    pub fn fail_ends(&self, fail: bool) {
        self.state.lock().ends_fail = fail;
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock());
        self.changed.send_modify(|changes| *changes += 1);
        result
    }

    /// Looks until there is something to see, or the time is up.
    async fn wait_for<T>(&self, wait: Duration, look: impl Fn(&mut State) -> (T, bool)) -> T {
        let mut changed = self.changed.subscribe();
        let deadline = Instant::now() + wait;
        loop {
            let (seen, enough) = look(&mut self.state.lock());
            if enough || timeout_at(deadline, changed.changed()).await.is_err() {
                return seen;
            }
        }
    }
}

impl From<MemoryCore> for AnyCore {
    fn from(core: MemoryCore) -> AnyCore {
        AnyCore::new(core)
    }
}

impl Core for MemoryCore {
    async fn append(&self, request: AppendRequest) -> AppendAnswer {
        let append = |state: &mut State, append: Append| {
            let log = state.logs.get_mut(&append.partition).ok_or(AppendError::UnknownPartition)?;
            log.append(append.batch, &state.fences)
        };
        self.change(|state| request.appends.into_iter().map(|one| append(state, one)).collect())
    }

    async fn fetch(&self, request: FetchRequest) -> FetchAnswer {
        self.wait_for(request.wait, |state| {
            let mut left = request.bytes_max as usize;
            let mut read = |asked: &FetchPartition| {
                let log = state.logs.get(&asked.partition).ok_or(FetchError::UnknownPartition)?;
                let fetched = log.read(asked.offset, left.min(asked.bytes_max as usize), request.isolation)?;
                left = left.saturating_sub(fetched.batches.iter().map(|batch| batch.payload.len()).sum());
                Ok(fetched)
            };
            let answer: FetchAnswer = request.partitions.iter().map(&mut read).collect();
            let bytes = request.bytes_max as usize - left;
            let enough = bytes >= request.bytes_min as usize || answer.iter().any(Result::is_err);
            (answer, enough)
        })
        .await
    }

    async fn offsets(&self, request: OffsetsRequest) -> OffsetsAnswer {
        let state = self.state.lock();
        let find = |(partition, at): &(PartitionId, OffsetAt)| {
            Ok(state.logs.get(partition).ok_or(FetchError::UnknownPartition)?.find(*at))
        };
        request.queries.iter().map(find).collect()
    }

    async fn trim(&self, request: TrimRequest) -> TrimAnswer {
        let trim = |state: &mut State, partition: &PartitionId, before: Option<u64>| {
            let log = state.logs.get_mut(partition).ok_or(FetchError::UnknownPartition)?;
            let before = before.unwrap_or(log.end);
            if before > log.end {
                return Err(FetchError::OutOfRange(log.bounds()));
            }
            log.start = log.start.max(before);
            Ok(log.start)
        };
        self.change(|state| request.trims.iter().map(|(partition, before)| trim(state, partition, *before)).collect())
    }

    async fn inspect(&self, partitions: Vec<PartitionId>) -> InspectAnswer {
        let state = self.state.lock();
        let inspect = |partition: &PartitionId| {
            let log = state.logs.get(partition).ok_or(FetchError::UnknownPartition)?;
            let producers = log.batches.iter().filter_map(|batch| {
                let producer = batch.header.producer?;
                let last_sequence = producer.sequence + batch.header.count as i32 - 1;
                Some(ProducerState {
                    id: producer.id,
                    epoch: producer.epoch,
                    last_sequence,
                    last_time_ms: 1,
                    transaction_start: log.open.get(&producer.id).map(|(_, first)| *first),
                })
            });
            Ok(PartitionState {
                bounds: log.bounds(),
                size_bytes: log.batches.iter().map(|batch| batch.payload.len() as u64).sum(),
                producers: producers.collect(),
            })
        };
        partitions.iter().map(inspect).collect()
    }

    async fn transaction_end(&self, end: TransactionEnd) -> Result<Vec<PartitionId>, TransactionError> {
        self.change(|state| {
            if state.ends_fail {
                return Err(TransactionError::Unavailable);
            }
            if !end.marker_is_valid() {
                return Err(TransactionError::Marker);
            }
            let fence = state.fences.entry(end.producer_id).or_insert(end.epoch);
            if end.epoch < *fence {
                return Err(TransactionError::ProducerFenced);
            }
            *fence = end.epoch;
            if let Some(decision) = end.decision {
                let last = state.decisions.entry(end.producer_id).or_default();
                if decision <= *last {
                    return if decision < *last { Err(TransactionError::Outdated) } else { Ok(Vec::new()) };
                }
                *last = decision;
            }
            let mut ended = BTreeSet::new();
            for (partition, log) in &mut state.logs {
                if log.end_transaction(&end) {
                    ended.insert(*partition);
                }
            }
            let is_ended = |producer: &TransactionProducer| {
                producer.id == end.producer_id && producer.epoch <= end.ended_epoch_max
            };
            for (producer, group, partition, cursor) in std::mem::take(&mut state.pending) {
                if !is_ended(&producer) {
                    state.pending.push((producer, group, partition, cursor));
                    continue;
                }
                ended.insert(partition);
                if end.outcome == Outcome::Commit {
                    state.cursors.entry((group.namespace, group.group)).or_default().insert(partition, cursor);
                }
            }
            Ok(ended.into_iter().collect())
        })
    }

    async fn transactions_open(&self, producer_id: Option<i64>) -> Result<Vec<OpenTransaction>, TransactionError> {
        let state = self.state.lock();
        let mut open = Vec::new();
        for (&partition, log) in &state.logs {
            for (&id, &(epoch, first)) in &log.open {
                let first_offset = Some(first);
                open.push(OpenTransaction { producer_id: id, epoch, partition, first_offset, last_time_ms: 1 });
            }
        }
        for (producer, _, partition, _) in &state.pending {
            let TransactionProducer { id, epoch } = *producer;
            if !open.iter().any(|open| open.producer_id == id && open.partition == *partition) {
                let partition = *partition;
                open.push(OpenTransaction { producer_id: id, epoch, partition, first_offset: None, last_time_ms: 1 });
            }
        }
        open.retain(|open| producer_id.is_none_or(|id| id == open.producer_id));
        Ok(open)
    }

    async fn commit(&self, request: CommitRequest) -> CommitAnswer {
        self.change(|state| {
            let CommitRequest { group, transaction, cursors, .. } = request;
            let fenced = |producer: TransactionProducer| {
                state.fences.get(&producer.id).is_some_and(|fence| producer.epoch < *fence)
            };
            if transaction.is_some_and(fenced) {
                return cursors.iter().map(|_| Err(CursorError::ProducerFenced)).collect();
            }
            let count = cursors.len();
            for (partition, cursor) in cursors {
                match transaction {
                    Some(producer) => state.pending.push((producer, group.clone(), partition, cursor)),
                    None => {
                        let name = (group.namespace.clone(), group.group.clone());
                        state.cursors.entry(name).or_default().insert(partition, cursor);
                    }
                }
            }
            vec![Ok(()); count]
        })
    }

    async fn committed(&self, group: GroupName, partitions: Vec<PartitionId>) -> Result<Vec<Committed>, CursorError> {
        let state = self.state.lock();
        Ok(partitions.iter().map(|partition| state.committed(&group, partition)).collect())
    }

    async fn cursors(&self, group: GroupName) -> Result<Vec<(PartitionId, Committed)>, CursorError> {
        let state = self.state.lock();
        let known = state.cursors.get(&(group.namespace.clone(), group.group.clone()));
        let mut partitions: BTreeSet<PartitionId> = known.into_iter().flatten().map(|(id, _)| *id).collect();
        partitions.extend(state.pending.iter().filter(|(_, name, ..)| *name == group).map(|(_, _, id, _)| *id));
        Ok(partitions.into_iter().map(|id| (id, state.committed(&group, &id))).collect())
    }

    async fn groups(&self, namespace: String) -> Result<Vec<String>, CursorError> {
        let state = self.state.lock();
        let names = state.cursors.iter().filter(|(name, cursors)| name.0 == namespace && !cursors.is_empty());
        Ok(names.map(|(name, _)| name.1.clone()).collect())
    }

    async fn forget(&self, group: GroupName, partitions: Option<Vec<PartitionId>>) -> Result<(), CursorError> {
        self.change(|state| {
            let cursors = state.cursors.entry((group.namespace, group.group)).or_default();
            match partitions {
                None => cursors.clear(),
                Some(partitions) => cursors.retain(|partition, _| !partitions.contains(partition)),
            }
        });
        Ok(())
    }

    // Lease maps have tests of their own, with a whole core.
    async fn acquire(&self, request: AcquireRequest) -> AcquireAnswer {
        vec![Err(LeaseError::Unavailable); request.partitions.len()]
    }

    async fn settle(&self, request: SettleRequest) -> SettleAnswer {
        request.partitions.iter().map(|(_, ranges)| vec![Err(LeaseError::Unavailable); ranges.len()]).collect()
    }

    async fn renew(&self, request: RenewRequest) -> SettleAnswer {
        request.partitions.iter().map(|(_, ranges)| vec![Err(LeaseError::Unavailable); ranges.len()]).collect()
    }

    async fn release(&self, _: ReleaseRequest) -> Result<(), LeaseError> {
        Err(LeaseError::Unavailable)
    }

    async fn transfer(&self, _: TransferRequest) -> TransferAnswer {
        Err(TransferError::Unavailable)
    }

    async fn discard(&self, _: DiscardRequest) -> DiscardAnswer {
        Err(LeaseError::Unavailable)
    }

    async fn lease_seek(&self, request: SeekRequest) -> SeekAnswer {
        vec![Err(LeaseError::Unavailable); request.seeks.len()]
    }

    async fn peek(&self, _: PeekRequest) -> Result<PeekAnswer, LeaseError> {
        Err(LeaseError::Unavailable)
    }

    async fn lease_groups(&self, _: String) -> Result<Vec<String>, LeaseError> {
        Ok(Vec::new())
    }

    async fn lease_forget(&self, _: GroupName, _: Option<Vec<PartitionId>>) -> Result<(), LeaseError> {
        Ok(())
    }

    async fn topic_create(&self, create: TopicCreate) -> Result<Topic, TopicError> {
        self.change(|state| {
            if state.topics.contains_key(&Topic::key(&create.namespace, &create.name)) {
                return Err(TopicError::Exists);
            }
            state.next_topic += 1;
            let TopicCreate { namespace, name, partitions, settings, labels } = create;
            let id = TopicId(state.next_topic);
            Ok(state.put_topic(Topic { id, namespace, name, partitions, settings, labels, created_ms: 1, version: 0 }))
        })
    }

    async fn topic_alter(&self, namespace: String, name: String, alter: TopicAlter) -> Result<Topic, TopicError> {
        self.change(|state| {
            let mut topic = state.topics.get(&Topic::key(&namespace, &name)).cloned().ok_or(TopicError::Unknown)?;
            if alter.if_version.is_some_and(|version| version != topic.version) {
                return Err(TopicError::Conflict);
            }
            topic.partitions = alter.partitions.unwrap_or(topic.partitions);
            topic.settings = alter.settings.unwrap_or(topic.settings);
            topic.labels = alter.labels.unwrap_or(topic.labels);
            Ok(state.put_topic(topic))
        })
    }

    async fn topic_delete(&self, namespace: String, name: String) -> Result<(), TopicError> {
        self.change(|state| {
            let key = Topic::key(&namespace, &name);
            let topic = state.topics.remove(&key).ok_or(TopicError::Unknown)?;
            state.logs.retain(|partition, _| partition.topic != topic.id);
            state.delete_meta(&key);
            Ok(())
        })
    }

    async fn meta_get(&self, key: String) -> Result<Option<MetaEntry>, MetaError> {
        Ok(self.state.lock().meta.get(&key).cloned())
    }

    async fn meta_list(&self, prefix: String) -> Result<MetaList, MetaError> {
        let state = self.state.lock();
        let entries = state.meta.values().filter(|entry| entry.key.starts_with(&prefix)).cloned().collect();
        Ok(MetaList { entries, revision: state.revision })
    }

    async fn meta_put(&self, put: MetaPut) -> Result<u64, MetaError> {
        self.change(|state| {
            let fate = std::mem::take(&mut state.next_put);
            if fate == PutFate::Fails {
                return Err(MetaError::Unavailable);
            }
            let current = state.meta.get(&put.key).cloned();
            let holds = match put.condition {
                MetaCondition::Always => true,
                MetaCondition::Absent => current.is_none(),
                MetaCondition::Version(version) => current.as_ref().is_some_and(|entry| entry.version == version),
            };
            if put.session.is_some_and(|session| !state.sessions.contains(&session)) {
                return Err(MetaError::UnknownSession);
            }
            match holds {
                true if fate == PutFate::AnswerLost => {
                    state.put_meta(put.key, put.value, put.session);
                    Err(MetaError::Unavailable)
                }
                true => Ok(state.put_meta(put.key, put.value, put.session)),
                false => Err(MetaError::Conflict(current)),
            }
        })
    }

    async fn meta_delete(&self, key: String, condition: MetaCondition) -> Result<(), MetaError> {
        self.change(|state| {
            let current = state.meta.get(&key).cloned();
            if let MetaCondition::Version(version) = condition
                && current.as_ref().is_none_or(|entry| entry.version != version)
            {
                return Err(MetaError::Conflict(current));
            }
            state.delete_meta(&key);
            Ok(())
        })
    }

    async fn meta_watch(&self, watch: MetaWatch) -> Result<MetaChanges, MetaError> {
        let changes = self.wait_for(watch.wait, |state| {
            let wanted = |event: &&MetaEvent| match event {
                MetaEvent::Put(entry) => entry.version > watch.after_revision && entry.key.starts_with(&watch.prefix),
                MetaEvent::Deleted { key, revision } => {
                    *revision > watch.after_revision && key.starts_with(&watch.prefix)
                }
            };
            let events: Vec<_> = state.events.iter().filter(wanted).cloned().collect();
            let some = !events.is_empty();
            (MetaChanges::Events { events, revision: state.revision }, some)
        });
        Ok(changes.await)
    }

    /// Sessions live until they are closed.
    async fn session_open(&self, _: Duration) -> Result<SessionId, MetaError> {
        let mut state = self.state.lock();
        state.last_session += 1;
        let session = SessionId(state.last_session);
        state.sessions.insert(session);
        Ok(session)
    }

    async fn session_renew(&self, session: SessionId) -> Result<(), MetaError> {
        self.state.lock().sessions.contains(&session).then_some(()).ok_or(MetaError::UnknownSession)
    }

    async fn session_close(&self, session: SessionId) -> Result<(), MetaError> {
        self.change(|state| {
            state.sessions.remove(&session);
            let of_session = state.meta.values().filter(|entry| entry.session == Some(session));
            let keys: Vec<String> = of_session.map(|entry| entry.key.clone()).collect();
            keys.iter().for_each(|key| state.delete_meta(key));
        });
        Ok(())
    }
}
