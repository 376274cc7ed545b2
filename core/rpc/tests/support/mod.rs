//! A core for the RPC's own tests: logs in memory, nothing durable, and a gate that holds appends back.

#![allow(dead_code)]

use std::collections::HashMap;
use std::future::{Future, pending};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use codec_record::{Batch, FormatId};
use core_rpc::*;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What every fetch says is aborted.
pub const ABORTED: AbortedTransaction = AbortedTransaction { producer_id: 1, first_offset: 2, last_offset: 3 };

/// Ranges of partitions.
pub type Settled = Vec<(PartitionId, Vec<SettleRange>)>;

#[derive(Clone)]
pub struct MemoryCore {
    pub logs: Arc<Mutex<HashMap<PartitionId, Vec<Batch>>>>,
    /// What was settled by transfers.
    pub settled: Arc<Mutex<Settled>>,
    changed: Arc<watch::Sender<u64>>,
    /// While true, appends are kept but not answered.
    pub held: Arc<watch::Sender<bool>>,
    pub fetches_waiting: Arc<AtomicUsize>,
}

impl Default for MemoryCore {
    fn default() -> Self {
        MemoryCore {
            logs: Arc::default(),
            settled: Arc::default(),
            changed: Arc::new(watch::channel(0).0),
            held: Arc::new(watch::channel(false).0),
            fetches_waiting: Arc::default(),
        }
    }
}

struct Count(Arc<AtomicUsize>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Core for MemoryCore {
    async fn append(&self, request: AppendRequest) -> AppendAnswer {
        let mut answers = Vec::new();
        for Append { partition, mut batch } in request.appends {
            let mut logs = self.logs.lock();
            let log = logs.entry(partition).or_default();
            let known = log
                .iter()
                .find(|kept| batch.header.producer.is_some() && kept.header.producer == batch.header.producer);
            let (base_offset, duplicate) = match known {
                Some(kept) => (kept.header.base_offset, true),
                None => (log.last().map_or(0, |last| last.header.next_offset()), false),
            };
            batch.header.base_offset = base_offset;
            if !duplicate {
                log.push(batch);
            }
            answers.push(Ok(Appended { base_offset, append_time_ms: 1, start_offset: 0, duplicate }));
        }
        self.changed.send_modify(|changes| *changes += 1);
        let mut held = self.held.subscribe();
        let _ = held.wait_for(|held| !held).await;
        answers
    }

    async fn fetch(&self, request: FetchRequest) -> FetchAnswer {
        let mut changed = self.changed.subscribe();
        let fetch = || -> FetchAnswer {
            let logs = self.logs.lock();
            let one = |asked: &FetchPartition| {
                let log = logs.get(&asked.partition).ok_or(FetchError::UnknownPartition)?;
                let end_offset = log.last().map_or(0, |last| last.header.next_offset());
                let bounds = Bounds { start_offset: 0, stable_offset: end_offset, end_offset };
                let mut bytes = 0;
                let batches = log
                    .iter()
                    .skip_while(|batch| batch.header.next_offset() <= asked.offset)
                    .take_while(|batch| {
                        let first = bytes == 0;
                        bytes += batch.stored_bytes();
                        first || bytes <= asked.bytes_max.min(request.bytes_max) as usize
                    })
                    .cloned()
                    .collect();
                Ok(Fetched { bounds, batches, aborted: vec![ABORTED] })
            };
            request.partitions.iter().map(one).collect()
        };
        let ready =
            |answer: &FetchAnswer| answer.iter().any(|one| one.as_ref().map_or(true, |one| !one.batches.is_empty()));
        let answer = fetch();
        if request.wait.is_zero() || ready(&answer) {
            return answer;
        }
        self.fetches_waiting.fetch_add(1, Ordering::SeqCst);
        let _count = Count(self.fetches_waiting.clone());
        let deadline = tokio::time::Instant::now() + request.wait;
        loop {
            let waited = tokio::time::timeout_at(deadline, changed.changed()).await;
            let answer = fetch();
            if waited.is_err() || ready(&answer) {
                return answer;
            }
        }
    }

    async fn offsets(&self, request: OffsetsRequest) -> OffsetsAnswer {
        request.queries.iter().map(|_| Ok(FoundOffset { offset: Some(7), time_ms: -1 })).collect()
    }

    async fn trim(&self, request: TrimRequest) -> TrimAnswer {
        request.trims.iter().map(|(_, before)| Ok(before.unwrap_or(0))).collect()
    }

    async fn inspect(&self, partitions: Vec<PartitionId>) -> InspectAnswer {
        partitions.iter().map(|_| Err(FetchError::UnknownPartition)).collect()
    }

    async fn transaction_end(&self, end: TransactionEnd) -> Result<Vec<PartitionId>, TransactionError> {
        match end.outcome {
            Outcome::Commit => {
                Ok(vec![PartitionId { topic: TopicId(end.producer_id as u128), index: end.ended_epoch_max as u32 }])
            }
            Outcome::Abort => Err(TransactionError::ProducerFenced),
        }
    }

    async fn transactions_open(&self, producer_id: Option<i64>) -> Result<Vec<OpenTransaction>, TransactionError> {
        let partition = PartitionId { topic: TopicId(1), index: 2 };
        let open =
            |producer_id| OpenTransaction { producer_id, epoch: 3, partition, first_offset: None, last_time_ms: 4 };
        Ok(producer_id.map(open).into_iter().collect())
    }

    async fn commit(&self, request: CommitRequest) -> CommitAnswer {
        request.cursors.iter().map(|_| Err(CursorError::Fenced)).collect()
    }

    async fn committed(&self, _: GroupName, partitions: Vec<PartitionId>) -> Result<Vec<Committed>, CursorError> {
        Ok(vec![Committed::default(); partitions.len()])
    }

    async fn cursors(&self, _: GroupName) -> Result<Vec<(PartitionId, Committed)>, CursorError> {
        Ok(vec![])
    }

    async fn groups(&self, namespace: String) -> Result<Vec<String>, CursorError> {
        Ok(vec![namespace])
    }

    async fn forget(&self, _: GroupName, _: Option<Vec<PartitionId>>) -> Result<(), CursorError> {
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

    async fn transfer(&self, request: TransferRequest) -> TransferAnswer {
        let TransferRequest { settles, appends, .. } = request;
        let is_known = |append: &Append| {
            let logs = self.logs.lock();
            let mut log = logs.get(&append.partition).into_iter().flatten();
            log.any(|kept| kept.header.producer.is_some() && kept.header.producer == append.batch.header.producer)
        };
        if !appends.iter().all(is_known) {
            self.settled.lock().extend(settles);
        }
        let appended = self.append(AppendRequest { appends }).await;
        appended.into_iter().collect::<Result<_, _>>().map_err(|error| TransferError::Append { at: 0, error })
    }

    async fn discard(&self, request: DiscardRequest) -> DiscardAnswer {
        Ok(request.messages_max)
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
        let TopicCreate { namespace, name, partitions, settings, labels } = create;
        Ok(Topic { id: TopicId(u128::MAX), namespace, name, partitions, settings, labels, created_ms: 5, version: 6 })
    }

    async fn topic_alter(&self, _: String, _: String, _: TopicAlter) -> Result<Topic, TopicError> {
        Err(TopicError::PartitionCount { max: 9 })
    }

    async fn topic_delete(&self, _: String, _: String) -> Result<(), TopicError> {
        Err(TopicError::Unknown)
    }

    async fn meta_get(&self, key: String) -> Result<Option<MetaEntry>, MetaError> {
        Ok(Some(MetaEntry { value: key.clone().into(), key, version: 3, session: Some(SessionId(4)) }))
    }

    async fn meta_list(&self, _: String) -> Result<MetaList, MetaError> {
        Ok(MetaList { entries: vec![], revision: 8 })
    }

    async fn meta_put(&self, put: MetaPut) -> Result<u64, MetaError> {
        Err(MetaError::Conflict(Some(MetaEntry { key: put.key, value: put.value, version: 1, session: put.session })))
    }

    async fn meta_delete(&self, _: String, _: MetaCondition) -> Result<(), MetaError> {
        Ok(())
    }

    async fn meta_watch(&self, _: MetaWatch) -> Result<MetaChanges, MetaError> {
        pending().await
    }

    async fn session_open(&self, time_to_live: Duration) -> Result<SessionId, MetaError> {
        Ok(SessionId(time_to_live.as_millis() as u64))
    }

    async fn session_renew(&self, _: SessionId) -> Result<(), MetaError> {
        Err(MetaError::UnknownSession)
    }

    async fn session_close(&self, _: SessionId) -> Result<(), MetaError> {
        Ok(())
    }
}

/// A server that can be stopped, and started again at the same address.
pub struct Served {
    pub address: Address,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Served {
    pub async fn start(core: impl Core, address: &Address) -> Served {
        let listener = Listener::bind(address).await.expect("bind");
        let address = listener.address().expect("address");
        let stop = CancellationToken::new();
        let task = tokio::spawn(server::serve(core, listener, stop.clone()));
        Served { address, stop, task }
    }

    /// Drains and stops.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("the server stops");
    }
}

pub fn loopback() -> Address {
    Address::Tcp("127.0.0.1:0".into())
}

pub fn partition(index: u32) -> PartitionId {
    PartitionId { topic: TopicId(42), index }
}

pub fn append(index: u32, payload: impl Into<Bytes>) -> AppendRequest {
    AppendRequest {
        appends: vec![Append { partition: partition(index), batch: Batch::new(FormatId::RAW, 1, 0, payload.into()) }],
    }
}

pub fn fetch(index: u32, offset: u64, bytes_max: u32, wait: Duration) -> FetchRequest {
    FetchRequest {
        partitions: vec![FetchPartition { partition: partition(index), offset, bytes_max }],
        bytes_min: 1,
        bytes_max,
        wait,
        isolation: Isolation::All,
    }
}

/// Waits until it is so, or fails after ten seconds.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(what, waiting).await
}

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.unwrap_or_else(|_| panic!("in time: {what}"))
}
