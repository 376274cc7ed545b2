//! A core whose transfers (`tx.commit`, dead letters, what was delayed), or new topics, take as long as a test wants.

use std::future::Future;
use std::time::Duration;

use core_log::LocalCore;
use core_rpc::*;
use tokio::sync::watch;

/// The core, behind a gate.
#[derive(Clone)]
pub struct GatedCore {
    core: LocalCore,
    gate: Gate,
    creates: Gate,
}

/// Through which calls go. Every clone is the same.
#[derive(Clone)]
pub struct Gate {
    open: watch::Sender<bool>,
    /// Calls that came to it.
    came: watch::Sender<u64>,
}

impl Gate {
    pub fn close(&self) {
        self.open.send_replace(false);
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until so many calls have come, let through or not.
    pub async fn came(&self, count: u64) {
        let mut came = self.came.subscribe();
        super::within(came.wait_for(|came| *came >= count)).await.expect("a gate");
    }

    async fn pass(&self) {
        self.came.send_modify(|came| *came += 1);
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}

impl GatedCore {
    /// With the gates of transfers and of new topics, both open.
    pub fn new(core: LocalCore) -> (GatedCore, Gate, Gate) {
        let open = || Gate { open: watch::Sender::new(true), came: watch::Sender::new(0) };
        let (gate, creates) = (open(), open());
        (GatedCore { core, gate: gate.clone(), creates: creates.clone() }, gate, creates)
    }
}

macro_rules! through {
    ($($verb:ident($($argument:ident: $kind:ty),+) -> $answer:ty;)+) => {
        impl Core for GatedCore {
            fn transfer(&self, request: TransferRequest) -> impl Future<Output = TransferAnswer> + Send {
                async move {
                    self.gate.pass().await;
                    self.core.transfer(request).await
                }
            }

            fn topic_create(&self, create: TopicCreate) -> impl Future<Output = Result<Topic, TopicError>> + Send {
                async move {
                    self.creates.pass().await;
                    self.core.topic_create(create).await
                }
            }

            $(fn $verb(&self, $($argument: $kind),+) -> impl Future<Output = $answer> + Send {
                self.core.$verb($($argument),+)
            })+
        }
    };
}

through! {
    append(request: AppendRequest) -> AppendAnswer;
    fetch(request: FetchRequest) -> FetchAnswer;
    offsets(request: OffsetsRequest) -> OffsetsAnswer;
    trim(request: TrimRequest) -> TrimAnswer;
    inspect(partitions: Vec<PartitionId>) -> InspectAnswer;
    transaction_end(end: TransactionEnd) -> Result<Vec<PartitionId>, TransactionError>;
    transactions_open(producer_id: Option<i64>) -> Result<Vec<OpenTransaction>, TransactionError>;
    commit(request: CommitRequest) -> CommitAnswer;
    committed(group: GroupName, partitions: Vec<PartitionId>) -> Result<Vec<Committed>, CursorError>;
    cursors(group: GroupName) -> Result<Vec<(PartitionId, Committed)>, CursorError>;
    groups(namespace: String) -> Result<Vec<String>, CursorError>;
    forget(group: GroupName, partitions: Option<Vec<PartitionId>>) -> Result<(), CursorError>;
    acquire(request: AcquireRequest) -> AcquireAnswer;
    settle(request: SettleRequest) -> SettleAnswer;
    renew(request: RenewRequest) -> SettleAnswer;
    release(request: ReleaseRequest) -> Result<(), LeaseError>;
    discard(request: DiscardRequest) -> DiscardAnswer;
    lease_seek(request: SeekRequest) -> SeekAnswer;
    peek(request: PeekRequest) -> Result<PeekAnswer, LeaseError>;
    lease_groups(namespace: String) -> Result<Vec<String>, LeaseError>;
    lease_forget(group: GroupName, partitions: Option<Vec<PartitionId>>) -> Result<(), LeaseError>;
    topic_alter(namespace: String, name: String, alter: TopicAlter) -> Result<Topic, TopicError>;
    topic_delete(namespace: String, name: String) -> Result<(), TopicError>;
    meta_get(key: String) -> Result<Option<MetaEntry>, MetaError>;
    meta_list(prefix: String) -> Result<MetaList, MetaError>;
    meta_put(put: MetaPut) -> Result<u64, MetaError>;
    meta_delete(key: String, condition: MetaCondition) -> Result<(), MetaError>;
    meta_watch(watch: MetaWatch) -> Result<MetaChanges, MetaError>;
    session_open(time_to_live: Duration) -> Result<SessionId, MetaError>;
    session_renew(session: SessionId) -> Result<(), MetaError>;
    session_close(session: SessionId) -> Result<(), MetaError>;
}
