//! Tells the core what was settled, for all queues of the gateway, in as few calls as there are.
//!
//! ```text
//!   channels, dispatchers ── push ─► a queue's marks ─┐
//!                                                     ├─ all at once, for each vhost one call ─► Core::settle
//!                            push ─► another's  ──────┘      what comes meanwhile is for the next
//! ```
//! Nobody waits for an acknowledgement to be kept, and so it need not be on the disk when the call answers (RabbitMQ promises
//! no more), and where many come they are gathered for [`GATHER`] first. What is given back others wait for: it goes at once.
//! Who must see what was pushed before (basic.get behind a nack, a count, channel.close) waits for [`Settler::settled`].

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use core_rpc::{Core, GroupName, PartitionId, SessionId, SettleRange, SettleRequest, Settlement};
use gateway_runtime::Marks;
use gateway_runtime::settling::{self, Rounds};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Held;
use crate::state::CoreSession;
use crate::state::lifecycle::{Returns, drops_oldest};
use crate::state::topology::Queue;

/// How far apart rounds begin at least, if nobody waits for one.
const GATHER: Duration = Duration::from_millis(20);

/// The queues with something to settle, and how far settling has come. Cheap to clone; every clone is the same.
#[derive(Clone, Debug)]
pub struct Settler {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    rounds: Rounds<Arc<Pending>>,
    returns: Returns,
}

/// What is to be settled in one queue.
#[derive(Debug)]
pub struct Pending {
    pub group: GroupName,
    pub held: Held,
    queue: Arc<Queue>,
    /// There were messages in it that expire by themselves.
    has_mortal: AtomicBool,
    marks: Mutex<PendingMarks>,
}

#[derive(Debug, Default)]
struct PendingMarks {
    partitions: Vec<(PartitionId, Marks)>,
    /// Whether it is among the dirty ones.
    listed: bool,
    returned: Returned,
}

/// What is given back, and is to be looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Returned {
    may_be_over: bool,
    may_be_too_many: bool,
}

impl Returned {
    fn is_any(self) -> bool {
        self.may_be_over || self.may_be_too_many
    }
}

impl Pending {
    pub fn new(queue: Arc<Queue>, held: Held) -> Arc<Pending> {
        let has_mortal = AtomicBool::new(false);
        Arc::new(Pending { group: queue.group(), held, queue, has_mortal, marks: Mutex::default() })
    }

    /// A message was handed out that expires by itself.
    pub fn note_mortal(&self) {
        self.has_mortal.store(true, Ordering::Relaxed);
    }

    /// Takes out what is to be settled.
    fn take(&self) -> (Returned, Vec<Ranges>) {
        let mut marks = self.marks.lock();
        marks.listed = false;
        let partitions = marks.partitions.iter_mut().filter(|(_, marks)| !marks.is_empty());
        let partitions = partitions.map(|(partition, marks)| (*partition, marks.take())).collect();
        (std::mem::take(&mut marks.returned), partitions)
    }

    /// What giving these back may give back.
    fn returned(&self, ranges: &[SettleRange]) -> Returned {
        if !ranges.iter().any(|range| matches!(range.settlement, Settlement::Release | Settlement::Fail)) {
            return Returned::default();
        }
        Returned {
            may_be_over: self.has_mortal.load(Ordering::Relaxed) || self.queue.config().message_ttl_ms.is_some(),
            may_be_too_many: drops_oldest(&self.queue),
        }
    }
}

impl Settler {
    /// Starts the task that settles; it ends with `stop`, when what was pushed before is settled.
    pub fn start<C: Core>(core: C, session: CoreSession, returns: Returns, stop: CancellationToken) -> Settler {
        let settler = Settler { shared: Arc::new(Shared { rounds: Rounds::default(), returns }) };
        tokio::spawn(run(core, session, settler.shared.clone(), stop));
        settler
    }

    /// Has these ranges of one partition settled, behind what was pushed before.
    pub fn push(&self, pending: &Arc<Pending>, partition: PartitionId, ranges: Vec<SettleRange>) {
        if ranges.is_empty() {
            return;
        }
        let returned = pending.returned(&ranges);
        let is_urgent = ranges.iter().any(|range| range.settlement != Settlement::Accept);
        let listed = {
            let mut marks = pending.marks.lock();
            marks.returned.may_be_over |= returned.may_be_over;
            marks.returned.may_be_too_many |= returned.may_be_too_many;
            match marks.partitions.iter_mut().find(|(other, _)| *other == partition) {
                Some((_, marks)) => marks.append(ranges),
                None => {
                    let mut fresh = Marks::default();
                    fresh.append(ranges);
                    marks.partitions.push((partition, fresh));
                }
            }
            std::mem::replace(&mut marks.listed, true)
        };
        if !listed {
            self.shared.rounds.push(pending.clone());
        }
        if is_urgent {
            self.shared.rounds.hurry();
        }
    }

    /// The round with which all is settled that was pushed before.
    pub fn round(&self) -> u64 {
        self.shared.rounds.current()
    }

    /// Waits until a round is over.
    pub async fn reached(&self, round: u64) {
        self.shared.rounds.reached(round).await;
    }

    /// Waits until all is settled that was pushed before.
    pub async fn settled(&self) {
        self.shared.rounds.settled().await;
    }
}

async fn run<C: Core>(core: C, session: CoreSession, shared: Arc<Shared>, stop: CancellationToken) {
    let mut not_before = Instant::now();
    while let Some(round) = shared.rounds.next_from(not_before, &stop).await {
        not_before = Instant::now() + GATHER;
        let returned = settle(&core, &session, &shared.returns, round.gathered).await;
        for (queue, returned) in returned {
            shared.returns.note(&queue, returned.may_be_over, returned.may_be_too_many);
        }
        shared.rounds.finish(round.number);
    }
}

/// Of one partition.
type Ranges = (PartitionId, Vec<SettleRange>);

/// Returns the queues into which something was given back that is to be looked at.
async fn settle<C: Core>(
    core: &C,
    session: &CoreSession,
    returns: &Returns,
    dirty: Vec<Arc<Pending>>,
) -> Vec<(Arc<Queue>, Returned)> {
    let mut calls: HashMap<(GroupName, SessionId), (Arc<str>, Vec<Ranges>)> = HashMap::new();
    let mut returned = Vec::new();
    for pending in dirty {
        let (given_back, mut partitions) = pending.take();
        if given_back.is_any() {
            returned.push((pending.queue.clone(), given_back));
        }
        let Held { session, holder } = &pending.held;
        if given_back.may_be_too_many {
            partitions = returns.trim(&pending.queue, holder, partitions).await;
        }
        let call = calls.entry((pending.group.clone(), *session));
        call.or_insert_with(|| (holder.clone(), Vec::new())).1.extend(partitions);
    }
    let requests = calls.into_iter().map(|((group, held_under), (holder, partitions))| {
        (held_under, SettleRequest { group, holder: holder.to_string(), partitions, durable: false })
    });
    let lost = "acknowledgements were not kept: those messages will be delivered again";
    settling::settle(core, session, requests, lost).await;
    returned
}
