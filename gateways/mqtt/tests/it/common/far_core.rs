//! A core that is out of one gateway's reach for a time, as for one that stands still or whose line is cut: what the gateway asks
//! meanwhile arrives when it is back, however much others have done by then.

use std::future::Future;
use std::time::Duration;

use core_log::LocalCore;
use core_rpc::*;
use tokio::sync::watch;

/// What does not arrive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Held {
    #[default]
    Nothing,
    /// Batches in which this stands.
    With(&'static str),
    All,
}

/// The way to the core. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct FarCore {
    core: LocalCore,
    held: watch::Sender<Held>,
    /// Calls with batches that are on their way.
    on_their_way: watch::Sender<usize>,
}

impl FarCore {
    pub fn new(core: LocalCore) -> FarCore {
        FarCore { core, held: watch::Sender::default(), on_their_way: watch::Sender::default() }
    }

    /// From now on batches in which this stands are on their way.
    pub fn hold(&self, what: &'static str) {
        self.held.send_replace(Held::With(what));
    }

    /// Waits until some are.
    pub async fn holds_some(&self) {
        super::within(self.on_their_way.subscribe().wait_for(|count| *count > 0)).await.expect("a count");
    }

    /// From now on nothing arrives, neither what is asked nor an answer.
    pub fn cut(&self) {
        self.held.send_replace(Held::All);
    }

    /// Everything arrives. Returns when what was on its way with batches has.
    pub async fn mend(&self) {
        self.held.send_replace(Held::Nothing);
        super::within(self.on_their_way.subscribe().wait_for(|count| *count == 0)).await.expect("a count");
    }

    async fn reach(&self, appends: &[Append]) {
        let has = |what: &str| {
            let bytes = what.as_bytes();
            appends.iter().any(|append| append.batch.payload.windows(bytes.len()).any(|window| window == bytes))
        };
        let may_pass = |held: &Held| match held {
            Held::Nothing => true,
            Held::With(what) => !has(what),
            Held::All => false,
        };
        self.held.subscribe().wait_for(may_pass).await.expect("a way");
    }
}

/// While it lives, a call with batches is on its way.
struct OnItsWay(watch::Sender<usize>);

impl OnItsWay {
    fn of(counted: &watch::Sender<usize>) -> OnItsWay {
        counted.send_modify(|count| *count += 1);
        OnItsWay(counted.clone())
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

macro_rules! one {
    (append($request:ident: $kind:ty) -> $answer:ty) => { one! { batches append($request: $kind) -> $answer } };
    (transfer($request:ident: $kind:ty) -> $answer:ty) => { one! { batches transfer($request: $kind) -> $answer } };
    (batches $verb:ident($request:ident: $kind:ty) -> $answer:ty) => {
        fn $verb(&self, $request: $kind) -> impl Future<Output = $answer> + Send {
            let (far, core) = (self.clone(), self.core.clone());
            // What was sent arrives, whoever waits for the answer.
            let sent = tokio::spawn(async move {
                let held = far.held.borrow().clone();
                let on_its_way = (held != Held::Nothing).then(|| OnItsWay::of(&far.on_their_way));
                far.reach(&$request.appends).await;
                let answer = core.$verb($request).await;
                drop(on_its_way);
                far.reach(&[]).await;
                answer
            });
            async move { sent.await.expect("an answer") }
        }
    };
    ($verb:ident($($argument:ident: $kind:ty),+) -> $answer:ty) => {
        fn $verb(&self, $($argument: $kind),+) -> impl Future<Output = $answer> + Send {
            async move {
                self.reach(&[]).await;
                let answer = self.core.$verb($($argument),+).await;
                self.reach(&[]).await;
                answer
            }
        }
    };
}

macro_rules! through {
    ($($verb:ident($($argument:ident: $kind:ty),+) -> $answer:ty;)+) => {
        impl Core for FarCore {
            $(one! { $verb($($argument: $kind),+) -> $answer })+
        }
    };
}

with_verbs!(through);
