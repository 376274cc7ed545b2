//! [`AnyCore`]: any core behind one type.
//!
//! A gateway is written for any [`Core`], and compiled for this one: once, in its own crate, instead of once more in every
//! binary and test that starts it. A call through it costs one allocation; what travels is a batch. Each core's crate has the
//! `From` that compiles that core's verbs there.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::*;

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Any core, local or remote. Cheap to clone.
#[derive(Clone)]
pub struct AnyCore(Arc<dyn Verbs>);

impl AnyCore {
    pub fn new(core: impl Core) -> AnyCore {
        AnyCore(Arc::new(core))
    }
}

impl From<RemoteCore> for AnyCore {
    #[inline(never)]
    fn from(core: RemoteCore) -> AnyCore {
        AnyCore::new(core)
    }
}

/// Each verb of [`Core`] once: as a method that can be called without knowing the core, and back.
macro_rules! verbs {
    ($($verb:ident($($argument:ident: $kind:ty),+) -> $answer:ty;)+) => {
        trait Verbs: Send + Sync {
            $(fn $verb(&self, $($argument: $kind),+) -> Answer<'_, $answer>;)+
        }

        impl<C: Core> Verbs for C {
            $(fn $verb(&self, $($argument: $kind),+) -> Answer<'_, $answer> {
                Box::pin(Core::$verb(self, $($argument),+))
            })+
        }

        impl Core for AnyCore {
            $(fn $verb(&self, $($argument: $kind),+) -> impl Future<Output = $answer> + Send {
                Verbs::$verb(&*self.0, $($argument),+)
            })+
        }
    };
}

verbs! {
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
    transfer(request: TransferRequest) -> TransferAnswer;
    discard(request: DiscardRequest) -> DiscardAnswer;
    lease_seek(request: SeekRequest) -> SeekAnswer;
    peek(request: PeekRequest) -> Result<PeekAnswer, LeaseError>;
    lease_groups(namespace: String) -> Result<Vec<String>, LeaseError>;
    lease_forget(group: GroupName, partitions: Option<Vec<PartitionId>>) -> Result<(), LeaseError>;
    topic_create(create: TopicCreate) -> Result<Topic, TopicError>;
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
