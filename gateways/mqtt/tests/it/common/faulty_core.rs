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

impl FaultyCore {
    async fn claim_by_transfer(&self, request: TransferRequest) -> TransferAnswer {
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

    async fn claim_by_settle(&self, request: SettleRequest) -> SettleAnswer {
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

macro_rules! one {
    (transfer($request:ident: $kind:ty) -> $answer:ty) => {
        fn transfer(&self, $request: $kind) -> impl Future<Output = $answer> + Send {
            self.claim_by_transfer($request)
        }
    };
    (settle($request:ident: $kind:ty) -> $answer:ty) => {
        fn settle(&self, $request: $kind) -> impl Future<Output = $answer> + Send {
            self.claim_by_settle($request)
        }
    };
    // What may stand for long is asked again when the core is back.
    (fetch($($rest:tt)+) -> $answer:ty) => { one! { again fetch($($rest)+) -> $answer } };
    (acquire($($rest:tt)+) -> $answer:ty) => { one! { again acquire($($rest)+) -> $answer } };
    (meta_watch($($rest:tt)+) -> $answer:ty) => { one! { again meta_watch($($rest)+) -> $answer } };
    (again $verb:ident($request:ident: $kind:ty) -> $answer:ty) => {
        fn $verb(&self, $request: $kind) -> impl Future<Output = $answer> + Send {
            async move {
                self.calls.fetch_add(1, Ordering::Relaxed);
                loop {
                    let core = self.here().await;
                    tokio::select! {
                        biased;
                        answer = core.$verb($request.clone()) => return answer,
                        () = self.gone() => {}
                    }
                }
            }
        }
    };
    ($verb:ident($($argument:ident: $kind:ty),+) -> $answer:ty) => {
        fn $verb(&self, $($argument: $kind),+) -> impl Future<Output = $answer> + Send {
            async move {
                self.calls.fetch_add(1, Ordering::Relaxed);
                self.here().await.$verb($($argument),+).await
            }
        }
    };
}

macro_rules! through {
    ($($verb:ident($($argument:ident: $kind:ty),+) -> $answer:ty;)+) => {
        impl Core for FaultyCore {
            $(one! { $verb($($argument: $kind),+) -> $answer })+
        }
    };
}

with_verbs!(through);
