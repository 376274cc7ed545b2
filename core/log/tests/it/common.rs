//! What the tests share: an engine with topics over some disk, a clock they set, and short ways to ask.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use codec_record::{Batch, BatchFlags, FormatId, Formats, Producer};
use core_log::disk::Disk;
use core_log::{Clock, Config, Engine, OpenError};
use core_rpc::*;

pub const TOPIC: TopicId = TopicId(0x1111);

/// A disk as another process would find it after a clean stop.
pub type Reopen<'a> = &'a dyn Fn() -> Arc<dyn Disk>;

/// Runs a case on each disk. `reopen` gives the disk again as another process would find it after a clean stop.
macro_rules! on_every_disk {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $name() {
                let disk = core_log::disk::MemoryDisk::new();
                super::$name(&|| std::sync::Arc::new(disk.clone())).await;
            })*
        }
        mod real {
            $(#[tokio::test] async fn $name() {
                let directory = tempfile::tempdir().unwrap();
                super::$name(&|| std::sync::Arc::new(core_log::disk::RealDisk::open(directory.path()).unwrap())).await;
            })*
        }
    };
}
pub(crate) use on_every_disk;

/// A clock that moves when it is told to.
#[derive(Clone, Default)]
pub struct TestClock(pub Arc<AtomicI64>);

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.now_ms() as u64)
    }
}

impl TestClock {
    pub fn now(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    pub fn set(&self, now_ms: i64) {
        self.0.store(now_ms, Ordering::SeqCst);
    }
}

/// Small packs, so that little data needs many.
pub fn config() -> Config {
    Config {
        shards: Some(2),
        pack_bytes: 64 << 10,
        pack_bytes_first: 16 << 10,
        cache_bytes: 32 << 10,
        group_bytes_max: 16 << 10,
        clean_interval: Duration::ZERO,
        ..Config::default()
    }
}

pub fn topic(id: TopicId, partitions: u32, settings: TopicSettings) -> Topic {
    Topic {
        id,
        namespace: "default".to_owned(),
        name: format!("t{}", id.0),
        partitions,
        settings,
        labels: BTreeMap::new(),
        created_ms: 0,
        version: 1,
    }
}

pub fn settings(durability: Durability) -> TopicSettings {
    TopicSettings { durability, batch_bytes_max: 1 << 20, ..TopicSettings::default() }
}

pub fn partition(index: u32) -> PartitionId {
    PartitionId { topic: TOPIC, index }
}

pub struct Setup {
    pub config: Config,
    pub clock: TestClock,
    pub topics: Vec<Topic>,
    pub formats: Formats,
}

impl Default for Setup {
    fn default() -> Self {
        let clock = TestClock::default();
        clock.set(1_000_000);
        Setup {
            config: config(),
            clock,
            topics: vec![topic(TOPIC, 4, settings(Durability::Fsync))],
            formats: Formats::default(),
        }
    }
}

impl Setup {
    pub fn open(&self, disk: Arc<dyn Disk>) -> Result<Engine, OpenError> {
        let clock = Arc::new(self.clock.clone());
        Engine::open(self.config.clone(), disk, clock, self.formats.clone(), self.topics.clone())
    }
}

pub fn batch(count: u32, payload: impl Into<Bytes>) -> Batch {
    Batch::new(FormatId::RAW, count, -1, payload.into())
}

pub fn timed(count: u32, max_time_ms: i64) -> Batch {
    Batch::new(FormatId::RAW, count, max_time_ms, Bytes::from_static(b"timed"))
}

pub fn from_producer(id: i64, epoch: i16, sequence: i32, count: u32) -> Batch {
    let mut batch = batch(count, format!("{id} {epoch} {sequence}"));
    batch.header.producer = Some(Producer { id, epoch, sequence });
    batch
}

pub async fn append(engine: &Engine, partition: PartitionId, batch: Batch) -> Result<Appended, AppendError> {
    let mut answers = engine.append(AppendRequest { appends: vec![Append { partition, batch }] }).await;
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

pub fn fetch_request(partitions: &[(PartitionId, u64)], bytes_max: u32) -> FetchRequest {
    let slot = |(partition, offset): &(PartitionId, u64)| FetchPartition {
        partition: *partition,
        offset: *offset,
        bytes_max: u32::MAX,
    };
    FetchRequest {
        partitions: partitions.iter().map(slot).collect(),
        bytes_min: 0,
        bytes_max,
        wait: Duration::ZERO,
        isolation: Isolation::All,
    }
}

pub async fn fetch(
    engine: &Engine,
    partition: PartitionId,
    offset: u64,
    bytes_max: u32,
) -> Result<Fetched, FetchError> {
    engine.fetch(fetch_request(&[(partition, offset)], bytes_max)).await.remove(0)
}

/// Reads a whole partition in steps of at most `bytes_max`; checks that it has no gaps and is intact.
pub async fn read_all(engine: &Engine, partition: PartitionId, bytes_max: u32) -> Result<Vec<Batch>, FetchError> {
    let bounds = fetch_bounds(engine, partition).await?;
    let mut offset = bounds.start_offset;
    let mut batches: Vec<Batch> = Vec::new();
    while offset < bounds.end_offset {
        let fetched = fetch(engine, partition, offset, bytes_max).await?;
        assert!(!fetched.batches.is_empty(), "no batch at {offset} of {bounds:?}");
        for batch in fetched.batches {
            assert!(batch.payload_is_intact());
            let contiguous = if batches.is_empty() {
                batch.header.base_offset <= offset && offset < batch.header.next_offset()
            } else {
                batch.header.base_offset == offset
            };
            assert!(contiguous, "{:?} at {offset}", batch.header);
            offset = batch.header.next_offset();
            batches.push(batch);
        }
    }
    Ok(batches)
}

pub async fn fetch_bounds(engine: &Engine, partition: PartitionId) -> Result<Bounds, FetchError> {
    engine.inspect(vec![partition]).await.remove(0).map(|state| state.bounds)
}

pub fn group(name: &str) -> GroupName {
    GroupName { namespace: "default".to_owned(), group: name.to_owned() }
}

pub fn cursor(offset: u64) -> Cursor {
    Cursor { offset, epoch: -1, metadata: format!("at {offset}"), time_ms: 5 }
}

/// A group that has this cursor and no pending one.
pub fn at(offset: u64) -> Committed {
    Committed { cursor: Some(cursor(offset)), pending: false }
}

pub async fn commit(
    engine: &Engine,
    name: &str,
    generation: Option<u64>,
    partition: PartitionId,
    offset: u64,
) -> Result<(), CursorError> {
    let request =
        CommitRequest { group: group(name), generation, transaction: None, cursors: vec![(partition, cursor(offset))] };
    engine.commit(request).await.remove(0)
}

/// A batch of a transaction.
pub fn transactional(id: i64, epoch: i16, sequence: i32, payload: impl Into<Bytes>) -> Batch {
    let mut batch = batch(1, payload);
    batch.header.producer = Some(Producer { id, epoch, sequence });
    batch.header.flags = BatchFlags::TRANSACTIONAL;
    batch
}

/// The end of a transaction of this epoch; the next has the epoch after it.
pub fn end_of(id: i64, epoch: i16, outcome: Outcome) -> TransactionEnd {
    end_with(id, epoch, epoch + 1, outcome)
}

/// The end of a transaction of an epoch up to `ended`; from now on `epoch` is the lowest.
pub fn end_with(id: i64, ended: i16, epoch: i16, outcome: Outcome) -> TransactionEnd {
    let mut marker = batch(1, format!("{outcome:?}"));
    marker.header.producer = Some(Producer { id, epoch, sequence: -1 });
    marker.header.flags = BatchFlags(BatchFlags::TRANSACTIONAL.0 | BatchFlags::CONTROL.0);
    TransactionEnd { producer_id: id, epoch, ended_epoch_max: ended, decision: None, outcome, marker }
}

pub async fn commit_pending(
    engine: &Engine,
    name: &str,
    producer: (i64, i16),
    partition: PartitionId,
    offset: u64,
) -> Result<(), CursorError> {
    let transaction = Some(TransactionProducer { id: producer.0, epoch: producer.1 });
    let cursors = vec![(partition, cursor(offset))];
    engine.commit(CommitRequest { group: group(name), generation: None, transaction, cursors }).await.remove(0)
}

/// What a committed reader delivers of a partition: fetches in steps of at most `bytes_max`, leaves out markers and
/// what it is told was aborted.
pub async fn read_committed(engine: &Engine, partition: PartitionId, bytes_max: u32) -> Vec<Batch> {
    let bounds = fetch_bounds(engine, partition).await.unwrap();
    let mut offset = bounds.start_offset;
    let mut delivered = Vec::new();
    while offset < bounds.stable_offset {
        let request =
            FetchRequest { isolation: Isolation::Committed, ..fetch_request(&[(partition, offset)], bytes_max) };
        let fetched = engine.fetch(request).await.remove(0).unwrap();
        assert!(!fetched.batches.is_empty(), "no batch at {offset} of {bounds:?}");
        assert!(fetched.aborted.is_sorted_by_key(|aborted| aborted.first_offset));
        for batch in fetched.batches {
            let header = &batch.header;
            offset = header.next_offset();
            assert!(offset <= bounds.stable_offset, "{header:?} is not stable");
            let producer = header.producer.map(|producer| producer.id);
            let is_aborted = |aborted: &AbortedTransaction| {
                header.flags.contains(BatchFlags::TRANSACTIONAL)
                    && producer == Some(aborted.producer_id)
                    && (aborted.first_offset..aborted.last_offset).contains(&header.base_offset)
            };
            if !header.flags.contains(BatchFlags::CONTROL) && !fetched.aborted.iter().any(is_aborted) {
                delivered.push(batch);
            }
        }
    }
    delivered
}
