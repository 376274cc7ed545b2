//! A core that keeps meta and cursors in memory, and fails when it is told to. It has no log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use core_rpc::*;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

#[derive(Clone)]
pub struct CoreInMemory {
    state: Arc<Mutex<State>>,
    /// A put takes a permit; without one it waits.
    pub puts: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    meta: BTreeMap<String, MetaEntry>,
    revision: u64,
    cursors: BTreeMap<(GroupName, PartitionId), (Cursor, u64)>,
    next_put: PutFate,
}

/// What becomes of the next put.
#[derive(Clone, Copy, Default, PartialEq)]
pub enum PutFate {
    #[default]
    Succeeds,
    Fails,
    /// Written, but reported as failed.
    AnswerLost,
}

impl CoreInMemory {
    pub fn new() -> Self {
        CoreInMemory { state: Arc::default(), puts: Arc::new(Semaphore::new(1_000_000)) }
    }

    pub fn next_put(&self, fate: PutFate) {
        self.state.lock().next_put = fate;
    }

    pub fn value(&self, key: &str) -> Option<bytes::Bytes> {
        self.state.lock().meta.get(key).map(|entry| entry.value.clone())
    }

    /// Somebody else writes.
    pub fn overwrite(&self, key: &str, value: bytes::Bytes) {
        let mut state = self.state.lock();
        state.revision += 1;
        let version = state.revision;
        state.meta.insert(key.into(), MetaEntry { key: key.into(), value, version, session: None });
    }
}

fn holds(condition: MetaCondition, entry: Option<&MetaEntry>) -> Result<(), MetaError> {
    let holds = match condition {
        MetaCondition::Always => true,
        MetaCondition::Absent => entry.is_none(),
        MetaCondition::Version(version) => entry.is_some_and(|entry| entry.version == version),
    };
    if holds { Ok(()) } else { Err(MetaError::Conflict(entry.cloned())) }
}

impl Core for CoreInMemory {
    async fn append(&self, request: AppendRequest) -> AppendAnswer {
        request.appends.iter().map(|_| Err(AppendError::UnknownPartition)).collect()
    }

    async fn fetch(&self, request: FetchRequest) -> FetchAnswer {
        request.partitions.iter().map(|_| Err(FetchError::UnknownPartition)).collect()
    }

    async fn offsets(&self, request: OffsetsRequest) -> OffsetsAnswer {
        request.queries.iter().map(|_| Err(FetchError::UnknownPartition)).collect()
    }

    async fn trim(&self, request: TrimRequest) -> TrimAnswer {
        request.trims.iter().map(|_| Err(FetchError::UnknownPartition)).collect()
    }

    async fn inspect(&self, partitions: Vec<PartitionId>) -> InspectAnswer {
        partitions.iter().map(|_| Err(FetchError::UnknownPartition)).collect()
    }

    async fn transaction_end(&self, _: TransactionEnd) -> Result<Vec<PartitionId>, TransactionError> {
        Err(TransactionError::Unavailable)
    }

    async fn transactions_open(&self, _: Option<i64>) -> Result<Vec<OpenTransaction>, TransactionError> {
        Err(TransactionError::Unavailable)
    }

    async fn commit(&self, request: CommitRequest) -> CommitAnswer {
        let mut state = self.state.lock();
        let mut answers = Vec::new();
        for (partition, cursor) in request.cursors {
            let key = (request.group.clone(), partition);
            let seen = state.cursors.get(&key).map_or(0, |(_, generation)| *generation);
            let generation = request.generation.unwrap_or(seen);
            if generation < seen {
                answers.push(Err(CursorError::Fenced));
                continue;
            }
            state.cursors.insert(key, (cursor, generation));
            answers.push(Ok(()));
        }
        answers
    }

    async fn committed(&self, group: GroupName, partitions: Vec<PartitionId>) -> Result<Vec<Committed>, CursorError> {
        let state = self.state.lock();
        let cursor = |partition| {
            let cursor = state.cursors.get(&(group.clone(), partition)).map(|(cursor, _)| cursor.clone());
            Committed { cursor, pending: false }
        };
        Ok(partitions.into_iter().map(cursor).collect())
    }

    async fn cursors(&self, group: GroupName) -> Result<Vec<(PartitionId, Committed)>, CursorError> {
        let state = self.state.lock();
        let own = state.cursors.iter().filter(|((name, _), _)| *name == group);
        let committed = |cursor: &Cursor| Committed { cursor: Some(cursor.clone()), pending: false };
        Ok(own.map(|((_, partition), (cursor, _))| (*partition, committed(cursor))).collect())
    }

    async fn groups(&self, namespace: String) -> Result<Vec<String>, CursorError> {
        let state = self.state.lock();
        let mut names: Vec<String> = state.cursors.keys().map(|(name, _)| name.group.clone()).collect();
        drop(namespace);
        names.dedup();
        Ok(names)
    }

    async fn forget(&self, group: GroupName, partitions: Option<Vec<PartitionId>>) -> Result<(), CursorError> {
        let is_meant =
            |partition: &PartitionId| partitions.as_ref().is_none_or(|partitions| partitions.contains(partition));
        self.state.lock().cursors.retain(|(name, partition), _| *name != group || !is_meant(partition));
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
        let id = TopicId(u128::from_be_bytes(*b"topic of a test!") + self.state.lock().revision as u128);
        let TopicCreate { namespace, name, partitions, settings, labels } = create;
        let topic = Topic { id, namespace, name, partitions, settings, labels, created_ms: 0, version: 1 };
        let value = topic.to_value().expect("encodes").into();
        self.overwrite(&Topic::key(&topic.namespace, &topic.name), value);
        Ok(topic)
    }

    async fn topic_alter(&self, _: String, _: String, _: TopicAlter) -> Result<Topic, TopicError> {
        Err(TopicError::Unknown)
    }

    async fn topic_delete(&self, namespace: String, name: String) -> Result<(), TopicError> {
        let removed = self.state.lock().meta.remove(&Topic::key(&namespace, &name));
        removed.map(drop).ok_or(TopicError::Unknown)
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
        self.puts.acquire().await.expect("never closed").forget();
        let mut state = self.state.lock();
        let fate = std::mem::take(&mut state.next_put);
        if fate == PutFate::Fails {
            return Err(MetaError::Unavailable);
        }
        holds(put.condition, state.meta.get(&put.key))?;
        state.revision += 1;
        let MetaPut { key, value, session, .. } = put;
        let version = state.revision;
        state.meta.insert(key.clone(), MetaEntry { key, value, version, session });
        if fate == PutFate::AnswerLost { Err(MetaError::Unavailable) } else { Ok(version) }
    }

    async fn meta_delete(&self, key: String, condition: MetaCondition) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        holds(condition, state.meta.get(&key))?;
        state.meta.remove(&key);
        Ok(())
    }

    async fn meta_watch(&self, _: MetaWatch) -> Result<MetaChanges, MetaError> {
        std::future::pending().await
    }

    async fn session_open(&self, _: Duration) -> Result<SessionId, MetaError> {
        Ok(SessionId(1))
    }

    async fn session_renew(&self, _: SessionId) -> Result<(), MetaError> {
        Ok(())
    }

    async fn session_close(&self, _: SessionId) -> Result<(), MetaError> {
        Ok(())
    }
}
