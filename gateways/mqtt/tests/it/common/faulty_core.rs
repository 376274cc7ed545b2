//! A core that goes away in the middle of a claim: nobody learns what became of it, and the core that comes back has forgotten who held
//! what, as after a crash.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use core_log::LocalCore;
use core_rpc::*;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::watch;

/// What of a claim is lost when the core goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It was never done.
    Request,
    /// It was done.
    Answer,
    /// It was done in the first of its partitions; where there is but one it is another that is lost.
    Rest,
}

/// How shared messages become their member's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Settled in the commit of the member's record.
    Transfer,
    /// Settled when that is kept, in a topic that other protocols' clients made.
    Settle,
}

/// The core, or what is left of it. Cheap to clone; every clone is the same. While it is away it says so of what is claimed, and everything
/// else waits for it.
#[derive(Clone)]
pub struct FaultyCore {
    core: watch::Sender<Option<LocalCore>>,
    /// What is to happen to the next claim.
    next: Arc<Mutex<Option<(By, Lost)>>>,
    /// What is away.
    gone: Arc<Mutex<Option<LocalCore>>>,
    /// Calls that were begun.
    calls: Arc<AtomicU64>,
}

impl FaultyCore {
    pub fn new(core: LocalCore) -> FaultyCore {
        let core = watch::Sender::new(Some(core));
        FaultyCore { core, next: Arc::default(), gone: Arc::default(), calls: Arc::default() }
    }

    /// How many calls have come to it, but for claims.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// The core goes with the next claim.
    pub fn lose(&self, by: By, lost: Lost) {
        *self.next.lock() = Some((by, lost));
    }

    /// Waits until it has gone.
    pub async fn gone(&self) {
        self.core.subscribe().wait_for(Option::is_none).await.expect("a core");
    }

    /// Starts another one on what it has left. What was under way ends without an answer first.
    pub async fn restart(&self, directory: &TempDir) {
        let gone = self.gone.lock().take().expect("it was lost");
        gone.stop();
        drop(gone);
        self.core.send_replace(Some(super::reopen_core(directory).await));
    }

    pub async fn here(&self) -> LocalCore {
        let mut core = self.core.subscribe();
        let core = core.wait_for(Option::is_some).await.expect("a core");
        core.clone().expect("it is there")
    }

    fn now(&self) -> Option<LocalCore> {
        self.core.borrow().clone()
    }

    /// What is to be lost of a claim, if this is the one.
    fn loses(&self, by: By) -> Option<Lost> {
        let mut next = self.next.lock();
        next.filter(|(claimed_by, _)| *claimed_by == by)?;
        next.take().map(|(_, lost)| lost)
    }

    fn is_next(&self, lost: Lost) -> bool {
        self.next.lock().is_some_and(|(_, next)| next == lost)
    }

    fn go(&self) {
        // Locked first: who sees that it is gone finds it here.
        let mut gone = self.gone.lock();
        *gone = self.core.send_replace(None);
    }
}

macro_rules! through {
    ({ $($waiting:ident($request:ty) -> $found:ty;)+ }
     $($verb:ident($($argument:ident: $kind:ty),+) -> $answer:ty;)+) => {
        impl Core for FaultyCore {
            fn transfer(&self, request: TransferRequest) -> impl Future<Output = TransferAnswer> + Send {
                async move {
                    let Some(core) = self.now() else { return Err(TransferError::Unavailable) };
                    let lost = if request.settles.is_empty() { None } else { self.loses(By::Transfer) };
                    if lost.is_some_and(|lost| lost != Lost::Request) {
                        core.transfer(request).await.expect("a claim");
                    } else if lost.is_none() {
                        return core.transfer(request).await;
                    }
                    self.go();
                    Err(TransferError::Unavailable)
                }
            }

            fn settle(&self, request: SettleRequest) -> impl Future<Output = SettleAnswer> + Send {
                async move {
                    let ranges = |(_, ranges): &(PartitionId, Vec<SettleRange>)| ranges.len();
                    let unavailable = |ranges| vec![Err(LeaseError::Unavailable); ranges];
                    let unavailable = request.partitions.iter().map(ranges).map(unavailable).collect();
                    let Some(core) = self.now() else { return unavailable };
                    // Acknowledgements are not waited for.
                    let is_wanted = request.durable && (request.partitions.len() > 1 || !self.is_next(Lost::Rest));
                    let lost = if is_wanted { self.loses(By::Settle) } else { None };
                    match lost {
                        None => return core.settle(request).await,
                        Some(Lost::Request) => {}
                        Some(Lost::Answer) => drop(core.settle(request).await),
                        Some(Lost::Rest) => {
                            let partitions = request.partitions.into_iter().take(1).collect();
                            core.settle(SettleRequest { partitions, ..request }).await;
                        }
                    }
                    self.go();
                    unavailable
                }
            }

            $(fn $waiting(&self, request: $request) -> impl Future<Output = $found> + Send {
                async move {
                    self.calls.fetch_add(1, Ordering::Relaxed);
                    loop {
                        let core = self.here().await;
                        tokio::select! {
                            biased;
                            answer = core.$waiting(request.clone()) => return answer,
                            () = self.gone() => {}
                        }
                    }
                }
            })+

            $(fn $verb(&self, $($argument: $kind),+) -> impl Future<Output = $answer> + Send {
                async move {
                    self.calls.fetch_add(1, Ordering::Relaxed);
                    self.here().await.$verb($($argument),+).await
                }
            })+
        }
    };
}

through! {
    // What may stand for long is asked again when the core is back.
    {
        fetch(FetchRequest) -> FetchAnswer;
        acquire(AcquireRequest) -> AcquireAnswer;
        meta_watch(MetaWatch) -> Result<MetaChanges, MetaError>;
    }
    append(request: AppendRequest) -> AppendAnswer;
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
    renew(request: RenewRequest) -> SettleAnswer;
    release(request: ReleaseRequest) -> Result<(), LeaseError>;
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
    session_open(time_to_live: Duration) -> Result<SessionId, MetaError>;
    session_renew(session: SessionId) -> Result<(), MetaError>;
    session_close(session: SessionId) -> Result<(), MetaError>;
}
