//! The core in this process: the engine and meta over one disk, behind the [`Core`] trait.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use codec_record::Formats;
use core_rpc::*;

use crate::clock::SystemClock;
use crate::config::Config;
use crate::disk::{Disk, RealDisk};
use crate::engine::{Engine, OpenError};
use crate::meta::{Meta, MetaOptions, OpenedMeta, SteadyClock, TopicOwner};

/// The whole core without a network. Cheap to clone; stops with [`LocalCore::stop`], or with its last clone.
#[derive(Clone)]
pub struct LocalCore {
    pub engine: Engine,
    pub meta: Meta,
}

impl LocalCore {
    /// Opens the core of a disk, making what is not there. Blocks.
    pub fn open(
        config: Config,
        disk: Arc<dyn Disk>,
        formats: Formats,
        options: MetaOptions,
    ) -> Result<LocalCore, OpenError> {
        let clock = options.clock.clone();
        let meta = OpenedMeta::open(disk.clone(), options)?;
        let engine = Engine::open(config, disk, clock, formats, meta.topics())?;
        let meta = meta.start(Arc::new(engine.clone()))?;
        Ok(LocalCore { engine, meta })
    }

    /// Opens the core of a directory with the machine's clocks and randomness. Blocks.
    pub fn open_directory(config: Config, directory: &Path, formats: Formats) -> Result<LocalCore, OpenError> {
        let options = MetaOptions {
            clock: Arc::new(SystemClock),
            session_clock: Arc::new(SteadyClock::default()),
            random: Box::new(random),
        };
        LocalCore::open(config, Arc::new(RealDisk::open(directory)?), formats, options)
    }

    /// Why it cannot do all of its work until it is opened again, if so.
    pub fn trouble(&self) -> Option<String> {
        let failed: Vec<u32> =
            self.engine.shard_reports().iter().filter(|shard| shard.failed).map(|shard| shard.number).collect();
        if !failed.is_empty() {
            return Some(format!("the storage of shards {failed:?} failed: they take no writes until a restart"));
        }
        self.meta.has_failed().then(|| "the storage of meta failed: it takes no changes until a restart".to_owned())
    }

    /// Finishes what was asked, writes everything to the disk and ends the threads. What is asked afterwards is answered
    /// `Unavailable`. Blocks.
    pub fn stop(&self) {
        // Meta first: it tells the engine of new topics.
        self.meta.stop();
        self.engine.stop();
    }
}

/// From the keys that the standard library takes from the operating system's randomness.
fn random() -> u128 {
    let half = || u128::from(RandomState::new().build_hasher().finish());
    half() << 64 | half()
}

impl TopicOwner for Engine {
    fn add_topic(&self, topic: &Topic) {
        Engine::add_topic(self, topic);
    }

    fn update_topic(&self, topic: &Topic) {
        Engine::update_topic(self, topic);
    }

    fn remove_topic(&self, id: TopicId) {
        Engine::remove_topic(self, id);
    }

    fn end_session(&self, session: SessionId) {
        Engine::end_session(self, session);
    }
}

impl From<LocalCore> for AnyCore {
    #[inline(never)]
    fn from(core: LocalCore) -> AnyCore {
        AnyCore::new(core)
    }
}

impl Core for LocalCore {
    fn append(&self, request: AppendRequest) -> impl Future<Output = AppendAnswer> + Send {
        self.engine.append(request)
    }

    async fn fetch(&self, request: FetchRequest) -> FetchAnswer {
        self.engine.fetch(request).await
    }

    async fn offsets(&self, request: OffsetsRequest) -> OffsetsAnswer {
        self.engine.offsets(request).await
    }

    fn trim(&self, request: TrimRequest) -> impl Future<Output = TrimAnswer> + Send {
        self.engine.trim(request)
    }

    async fn inspect(&self, partitions: Vec<PartitionId>) -> InspectAnswer {
        self.engine.inspect(partitions).await
    }

    fn transaction_end(
        &self,
        end: TransactionEnd,
    ) -> impl Future<Output = Result<Vec<PartitionId>, TransactionError>> + Send {
        self.engine.transaction_end(end)
    }

    async fn transactions_open(&self, producer_id: Option<i64>) -> Result<Vec<OpenTransaction>, TransactionError> {
        Ok(self.engine.transactions_open(producer_id))
    }

    fn commit(&self, request: CommitRequest) -> impl Future<Output = CommitAnswer> + Send {
        self.engine.commit(request)
    }

    async fn committed(&self, group: GroupName, partitions: Vec<PartitionId>) -> Result<Vec<Committed>, CursorError> {
        self.engine.committed(&group, &partitions)
    }

    async fn cursors(&self, group: GroupName) -> Result<Vec<(PartitionId, Committed)>, CursorError> {
        Ok(self.engine.cursors(&group))
    }

    async fn groups(&self, namespace: String) -> Result<Vec<String>, CursorError> {
        Ok(self.engine.groups(&namespace))
    }

    async fn forget(&self, group: GroupName, partitions: Option<Vec<PartitionId>>) -> Result<(), CursorError> {
        self.engine.forget(group, partitions).await
    }

    async fn acquire(&self, request: AcquireRequest) -> AcquireAnswer {
        let Lease::Session(session) = request.lease else { return self.engine.acquire(request).await };
        let unknown = vec![Err(LeaseError::UnknownSession); request.partitions.len()];
        // Whoever goes on under an older one would be handed again what it has, as if it had never had it.
        if !self.meta.can_lease(session) {
            return unknown;
        }
        let answer = self.engine.acquire(request).await;
        if !self.meta.has_session(session) {
            // It ended meanwhile, perhaps before there was anything to release.
            self.engine.end_session(session);
            return unknown;
        }
        answer
    }

    fn settle(&self, request: SettleRequest) -> impl Future<Output = SettleAnswer> + Send {
        self.engine.settle(request)
    }

    async fn renew(&self, request: RenewRequest) -> SettleAnswer {
        self.engine.renew(request)
    }

    async fn release(&self, request: ReleaseRequest) -> Result<(), LeaseError> {
        self.engine.release(request).await
    }

    fn transfer(&self, request: TransferRequest) -> impl Future<Output = TransferAnswer> + Send {
        let lives = request.session.map(|session| self.meta.lives(session));
        self.engine.transfer(request, lives)
    }

    async fn discard(&self, request: DiscardRequest) -> DiscardAnswer {
        self.engine.discard(request).await
    }

    async fn lease_seek(&self, request: SeekRequest) -> SeekAnswer {
        self.engine.lease_seek(request).await
    }

    async fn peek(&self, request: PeekRequest) -> Result<PeekAnswer, LeaseError> {
        Ok(self.engine.peek(&request))
    }

    async fn lease_groups(&self, namespace: String) -> Result<Vec<String>, LeaseError> {
        Ok(self.engine.lease_groups(&namespace))
    }

    async fn lease_forget(&self, group: GroupName, partitions: Option<Vec<PartitionId>>) -> Result<(), LeaseError> {
        self.engine.lease_forget(group, partitions).await
    }

    async fn topic_create(&self, create: TopicCreate) -> Result<Topic, TopicError> {
        self.meta.topic_create(create).await
    }

    async fn topic_alter(&self, namespace: String, name: String, alter: TopicAlter) -> Result<Topic, TopicError> {
        self.meta.topic_alter(namespace, name, alter).await
    }

    async fn topic_delete(&self, namespace: String, name: String) -> Result<(), TopicError> {
        self.meta.topic_delete(namespace, name).await
    }

    async fn meta_get(&self, key: String) -> Result<Option<MetaEntry>, MetaError> {
        self.meta.meta_get(key).await
    }

    async fn meta_list(&self, prefix: String) -> Result<MetaList, MetaError> {
        self.meta.meta_list(prefix).await
    }

    async fn meta_put(&self, put: MetaPut) -> Result<u64, MetaError> {
        self.meta.meta_put(put).await
    }

    async fn meta_delete(&self, key: String, condition: MetaCondition) -> Result<(), MetaError> {
        self.meta.meta_delete(key, condition).await
    }

    async fn meta_watch(&self, watch: MetaWatch) -> Result<MetaChanges, MetaError> {
        self.meta.meta_watch(watch).await
    }

    async fn session_open(&self, time_to_live: Duration) -> Result<SessionId, MetaError> {
        self.meta.session_open(time_to_live).await
    }

    async fn session_renew(&self, session: SessionId) -> Result<(), MetaError> {
        self.meta.session_renew(session).await
    }

    async fn session_close(&self, session: SessionId) -> Result<(), MetaError> {
        self.meta.session_close(session).await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use codec_record::{Batch, FormatId};

    use super::*;

    #[tokio::test]
    async fn a_topic_lives_in_both_halves_and_over_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let open = || LocalCore::open_directory(Config::default(), directory.path(), Formats::default()).unwrap();
        let core = open();
        let create = TopicCreate {
            namespace: "default".to_owned(),
            name: "orders".to_owned(),
            partitions: 2,
            settings: TopicSettings::default(),
            labels: BTreeMap::new(),
        };
        let topic = core.topic_create(create).await.unwrap();
        let partition = PartitionId { topic: topic.id, index: 1 };
        let batch = Batch::new(FormatId::RAW, 1, -1, Bytes::from_static(b"first"));
        let appended = core.append(AppendRequest { appends: vec![Append { partition, batch }] }).await;
        assert_eq!(appended[0].as_ref().unwrap().base_offset, 0);
        core.stop();
        drop(core);
        let core = open();
        assert_eq!(core.inspect(vec![partition]).await[0].as_ref().unwrap().bounds.end_offset, 1);
        core.topic_delete("default".to_owned(), "orders".to_owned()).await.unwrap();
        assert_eq!(core.inspect(vec![partition]).await, [Err(FetchError::UnknownPartition)]);
    }

    #[tokio::test]
    async fn what_was_done_and_is_left_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let core = LocalCore::open_directory(Config::default(), directory.path(), Formats::default()).unwrap();
        let create = TopicCreate {
            namespace: "default".to_owned(),
            name: "orders".to_owned(),
            partitions: 1,
            settings: TopicSettings::default(),
            labels: BTreeMap::new(),
        };
        let partition = PartitionId { topic: core.topic_create(create).await.unwrap().id, index: 0 };
        for _ in 0..3 {
            let batch = Batch::new(FormatId::RAW, 1, -1, Bytes::from_static(b"order"));
            core.append(AppendRequest { appends: vec![Append { partition, batch }] }).await[0].as_ref().unwrap();
        }
        let batch = Batch::new(FormatId::RAW, 0, -1, Bytes::new());
        assert!(core.append(AppendRequest { appends: vec![Append { partition, batch }] }).await[0].is_err());
        let fetch = FetchRequest {
            partitions: vec![FetchPartition { partition, offset: 1, bytes_max: 1 << 20 }],
            bytes_min: 0,
            bytes_max: 1 << 20,
            wait: Duration::ZERO,
            isolation: Isolation::All,
        };
        core.fetch(fetch).await[0].as_ref().unwrap();
        let group = GroupName { namespace: "default".to_owned(), group: "readers".to_owned() };
        let cursor = Cursor { offset: 1, epoch: -1, metadata: String::new(), time_ms: 0 };
        let commit = CommitRequest { group, generation: None, transaction: None, cursors: vec![(partition, cursor)] };
        core.commit(commit).await[0].unwrap();

        let counts = core.engine.counts();
        let of = |count: &std::sync::atomic::AtomicU64| count.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!((of(&counts.appended_batches), of(&counts.appended_messages)), (3, 3));
        assert_eq!((of(&counts.fetched_batches), of(&counts.refused_otherwise)), (2, 1));
        assert_eq!(of(&counts.appended_bytes) * 2, of(&counts.fetched_bytes) * 3);
        assert_eq!(counts.appends.spread().count, 4);
        assert!(counts.syncs.spread().count > 0);
        let lags = core.engine.lags(&core.meta.topics());
        let seen: Vec<_> = lags.iter().map(|lag| (&*lag.namespace, &*lag.topic, &*lag.group, lag.messages)).collect();
        assert_eq!(seen, [("default", "orders", "readers", 2)]);
        assert_eq!((core.engine.partition_count(), core.trouble()), (1, None));
        core.stop();
    }
}
