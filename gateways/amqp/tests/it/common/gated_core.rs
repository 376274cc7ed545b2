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

impl GatedCore {
    /// Where a call of this verb must come through.
    fn gate_of(&self, verb: &str) -> Option<&Gate> {
        match verb {
            "transfer" => Some(&self.gate),
            "topic_create" => Some(&self.creates),
            _ => None,
        }
    }
}

macro_rules! through {
    ($($verb:ident($($argument:ident: $kind:ty),+) -> $answer:ty;)+) => {
        impl Core for GatedCore {
            $(fn $verb(&self, $($argument: $kind),+) -> impl Future<Output = $answer> + Send {
                async move {
                    if let Some(gate) = self.gate_of(stringify!($verb)) {
                        gate.pass().await;
                    }
                    self.core.$verb($($argument),+).await
                }
            })+
        }
    };
}

with_verbs!(through);
