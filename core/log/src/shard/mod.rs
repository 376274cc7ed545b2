//! Shards: the unit of ownership, of writing and of recovery.
//!
//! A shard has one writer and its thread, one journal (a sequence of packs, the last of which is being written) and the state
//! that the journal rebuilds: the bounds and producers of its partitions, cursors and lease maps. Partitions are spread over the
//! shards by [`shard_of`] and [`shard_of_namespace`], which must never change for a data directory; where one lies, it knows.

pub mod group;
pub mod housekeeper;
mod inline;
pub mod kept;
pub mod recover;
pub mod rewrite;
pub mod syncer;
mod transactions;
pub mod transfers;
pub mod writer;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::time::Instant;

use codec_record::Batch;
use core_rpc::{
    AppendError, Appended, CursorError, Durability, FetchError, GroupName, PartitionId, TransactionEnd,
    TransactionError, TransactionProducer,
};
use parking_lot::{Condvar, Mutex};

use crate::cursors::Cursors;
use crate::leases::Leases;
use crate::leases::staged::LeaseCommand;
use crate::pack::Pack;
use crate::pack::entry::{CursorBody, FenceBody};
use crate::partition::Partition;
use crate::transactions::Transactions;
use crate::wait::Answers;
use syncer::Syncer;
use transfers::Transfer;
use writer::Writer;

/// The shard of a partition: the topic's hash chooses where its partitions begin, then they go around, so that a topic's
/// partitions are spread evenly.
pub fn shard_of(partition: PartitionId, shards: u32) -> u32 {
    let begin = crc32c::crc32c(&partition.topic.0.to_le_bytes());
    ((u64::from(begin) + u64::from(partition.index)) % u64::from(shards)) as u32
}

/// The shard of all partitions of a namespace's topics that lie together.
pub fn shard_of_namespace(namespace: &str, shards: u32) -> u32 {
    crc32c::crc32c(namespace.as_bytes()) % shards
}

/// What the writer, the housekeeper and callers share of a shard.
pub struct Shard {
    pub number: u32,
    pub directory: String,
    /// Locked before the queue. None: not begun, or ended.
    writer: Mutex<Option<Box<Writer>>>,
    queue: Mutex<Queue>,
    ready: Condvar,
    /// What is durable of the cursors.
    pub cursors: Mutex<Cursors>,
    pub transactions: Mutex<Transactions>,
    pub leases: Leases,
    /// The packs that can be read, the one being written among them.
    pub packs: Mutex<BTreeMap<u32, Arc<Pack>>>,
    /// The pack in which the journal behind the oldest snapshot begins; those before are not needed for recovery.
    pub snapshot_pack: AtomicU32,
    /// The packs that hold what lives on of others.
    pub kept: Mutex<BTreeMap<u32, Arc<Pack>>>,
    /// The number of the last kept pack; locked while one is written, and from the choice of what is rewritten to its
    /// exchange: of two that rewrite the same, the newer would win after a crash.
    pub kept_last: Mutex<u32>,
    /// Files to be filled again: (number, capacity).
    pub spares: Mutex<Vec<(u32, u64)>>,
    pub next: Mutex<Next>,
    pub next_changed: Condvar,
    /// When it was last told that no pack could be prepared, since one could.
    pub next_failure_told: Mutex<Option<Instant>>,
    /// What is to be synced that nobody waits for.
    pub syncer: Syncer,
    /// A write or sync failed: nothing is written any more until the engine is opened again.
    pub failed: AtomicBool,
}

/// The pack that the journal goes on in.
pub enum Next {
    Idle,
    /// The housekeeper is at it.
    Asked,
    Ready(Pack),
    Failed {
        disk_full: bool,
        at: Instant,
    },
}

#[derive(Default)]
struct Queue {
    commands: VecDeque<Command>,
    /// When the thread that waits will look by itself.
    thread_due: Option<Instant>,
    stopping: bool,
}

/// What callers ask of a writer. Each is answered in its slot of its request's answers; dropping it unanswered tells the
/// caller that the core is unavailable.
pub enum Command {
    Append {
        partition: Arc<Partition>,
        batch: Batch,
        durability: Durability,
        answer: Answer<Result<Appended, AppendError>>,
    },
    Trim {
        partition: Arc<Partition>,
        /// None: up to the end.
        before: Option<u64>,
        answer: Answer<Result<u64, FetchError>>,
    },
    Commit {
        partition: Arc<Partition>,
        body: CursorBody,
        /// Pending until this producer's transaction ends.
        transaction: Option<TransactionProducer>,
        answer: Answer<Result<(), CursorError>>,
    },
    Forget {
        partition: PartitionId,
        group: GroupName,
        answer: Answer<Result<(), CursorError>>,
    },
    /// Ends a transaction in the shard's partitions. The fence is raised already.
    End {
        end: Arc<TransactionEnd>,
        answer: Answer<Ended>,
    },
    /// Remembers a fence that is raised already; nobody waits for it.
    Fence {
        body: FenceBody,
    },
    /// Answered when all that was published before is on the disk.
    Sync {
        answer: Answer<bool>,
    },
    Lease(LeaseCommand),
    Transfer(Box<Transfer>),
}

/// Where and why a transaction's end failed, or where it was ended.
pub type Ended = Result<Vec<PartitionId>, TransactionError>;

/// A slot to be filled.
pub struct Answer<T> {
    pub answers: Arc<Answers<T>>,
    pub slot: u32,
}

impl<T> Answer<T> {
    pub fn give(self, value: T) {
        self.answers.set(self.slot, value);
    }
}

impl Shard {
    pub fn new(number: u32) -> Shard {
        Shard {
            number,
            directory: format!("shard-{number:04}"),
            writer: Mutex::default(),
            queue: Mutex::default(),
            ready: Condvar::new(),
            cursors: Mutex::default(),
            transactions: Mutex::default(),
            leases: Leases::new(number),
            packs: Mutex::default(),
            snapshot_pack: AtomicU32::new(0),
            kept: Mutex::default(),
            kept_last: Mutex::new(0),
            spares: Mutex::default(),
            next: Mutex::new(Next::Idle),
            next_changed: Condvar::new(),
            next_failure_told: Mutex::new(None),
            syncer: Syncer::default(),
            failed: AtomicBool::new(false),
        }
    }

    /// Hands commands to the writer, in order. A stopped writer takes none: they are dropped.
    pub fn push(&self, commands: Vec<Command>) {
        let Err(commands) = self.write_here(commands) else { return };
        let mut queue = self.queue.lock();
        if queue.stopping {
            return;
        }
        let was_empty = queue.commands.is_empty();
        queue.commands.extend(commands);
        if was_empty && !queue.commands.is_empty() {
            self.ready.notify_one();
        }
    }

    pub fn is_stopping(&self) -> bool {
        self.queue.lock().stopping
    }

    /// Takes no more commands and drops those that wait, which tells their callers.
    fn close(&self) {
        let commands = {
            let mut queue = self.queue.lock();
            queue.stopping = true;
            std::mem::take(&mut queue.commands)
        };
        drop(commands);
    }

    /// Lets the writer finish what waits, and then end.
    pub fn stop(&self) {
        self.queue.lock().stopping = true;
        self.ready.notify_one();
    }

    /// Has the writer look how things are.
    pub fn wake(&self) {
        // With the lock, or it could come between the writer's look and its wait.
        let _queue = self.queue.lock();
        self.ready.notify_one();
    }
}
