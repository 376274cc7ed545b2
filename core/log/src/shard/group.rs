//! A group: what is written and synced at once, and what is to be done when it is kept.

use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;
use codec_record::Batch;
use core_rpc::{
    AppendError, Appended, CursorError, Durability, FetchError, GroupName, LeaseError, PartitionId, TransactionError,
    TransferAnswer, TransferError,
};

use super::{Answer, Ended, Shard};
use crate::disk::DiskFile;
use crate::leases::staged::LeaseStaged;
use crate::pack::entry::{CursorBody, ENTRY_BYTES, EndBody, EntryHead, Kind, PendingBody};
use crate::partition::Partition;
use crate::producers::ProducerEntry;
use crate::transactions::Open;

/// Payloads up to this size are copied: a slice of its own costs more.
const COPY_BYTES_MAX: usize = 4096;

/// The write of a group ends at a multiple of this: a block that is overwritten in full need not be read first.
const PAGE_BYTES: u64 = 4096;

/// Entries gathered for one write. Reused from group to group.
#[derive(Default)]
pub struct Group {
    copied: Vec<u8>,
    parts: Vec<Part>,
    /// Length of all entries.
    pub bytes: u64,
    /// In the order of the journal.
    pub staged: Vec<Staged>,
    /// What to put back should the write find no room, oldest first.
    pub undo: Vec<(Arc<Partition>, i64, Option<ProducerEntry>)>,
    /// As `undo`, of transactions.
    pub undo_open: Vec<(i64, PartitionId, Option<Open>)>,
    /// Something in it is answered only when it is on the disk.
    pub needs_sync: bool,
    /// Something in it is answered before it is written.
    pub has_memory: bool,
    /// Something in it happens all at once: nothing is answered before it is written.
    pub has_units: bool,
}

enum Part {
    /// So many of the copied bytes.
    Copied(usize),
    Shared(Bytes),
}

/// Something to publish and answer.
pub enum Staged {
    Batch {
        partition: Arc<Partition>,
        batch: Batch,
        /// Of the entry in the pack.
        position: u64,
        durability: Durability,
        /// The first offset of the transaction it is part of.
        transaction: Option<u64>,
        published: bool,
        /// None: answered already, or a marker, for which nobody waits.
        answer: Option<Answer<Result<Appended, AppendError>>>,
    },
    /// A batch that was appended before; perhaps in this same group, so its answer waits too.
    Duplicate {
        partition: Arc<Partition>,
        appended: Appended,
        answer: Answer<Result<Appended, AppendError>>,
    },
    Trim {
        partition: Arc<Partition>,
        start: u64,
        answer: Answer<Result<u64, FetchError>>,
    },
    Cursor {
        partition: Arc<Partition>,
        body: CursorBody,
        answer: Answer<Result<(), CursorError>>,
    },
    Pending {
        partition: Arc<Partition>,
        body: PendingBody,
        answer: Answer<Result<(), CursorError>>,
    },
    /// The end of a transaction; its markers are staged before it.
    End {
        /// None: nothing was open any more, but what ended it may be in this same group.
        ended: Option<EndedHere>,
        answer: Answer<Ended>,
    },
    Fence,
    Forget {
        partition: PartitionId,
        group: GroupName,
        answer: Answer<Result<(), CursorError>>,
    },
    Sync {
        answer: Answer<bool>,
    },
    Lease(LeaseStaged),
    /// The end of a transfer; what it consists of is staged before it, unless it was done before.
    Transfer {
        partitions: Vec<Arc<Partition>>,
        appended: Vec<Appended>,
        answer: Answer<TransferAnswer>,
    },
}

/// What is to be published of a transaction's end.
pub struct EndedHere {
    pub body: EndBody,
    /// Those of the body.
    pub partitions: Vec<Arc<Partition>>,
    /// All in which it was open.
    pub all: Vec<PartitionId>,
}

/// Why a whole group is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    DiskFull,
    StorageFailed,
    /// Something else went wrong before anything was written; it may be better next time.
    Unavailable,
}

impl From<Refusal> for AppendError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::DiskFull => AppendError::DiskFull,
            Refusal::StorageFailed => AppendError::StorageFailed,
            Refusal::Unavailable => AppendError::Unavailable,
        }
    }
}

impl From<Refusal> for CursorError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::DiskFull => CursorError::DiskFull,
            Refusal::StorageFailed => CursorError::StorageFailed,
            Refusal::Unavailable => CursorError::Unavailable,
        }
    }
}

impl From<Refusal> for TransactionError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::DiskFull => TransactionError::DiskFull,
            Refusal::StorageFailed => TransactionError::StorageFailed,
            Refusal::Unavailable => TransactionError::Unavailable,
        }
    }
}

impl From<Refusal> for LeaseError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::DiskFull => LeaseError::DiskFull,
            Refusal::StorageFailed => LeaseError::StorageFailed,
            Refusal::Unavailable => LeaseError::Unavailable,
        }
    }
}

impl From<Refusal> for TransferError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::DiskFull => TransferError::DiskFull,
            Refusal::StorageFailed => TransferError::StorageFailed,
            Refusal::Unavailable => TransferError::Unavailable,
        }
    }
}

/// A trim has no answer of its own for a full disk; it may succeed later.
impl From<Refusal> for FetchError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::DiskFull | Refusal::Unavailable => FetchError::Unavailable,
            Refusal::StorageFailed => FetchError::StorageFailed,
        }
    }
}

impl Group {
    pub fn is_empty(&self) -> bool {
        self.staged.is_empty()
    }

    pub fn clear(&mut self) {
        self.copied.clear();
        self.parts.clear();
        self.bytes = 0;
        self.staged.clear();
        self.undo.clear();
        self.undo_open.clear();
        self.needs_sync = false;
        self.has_memory = false;
        self.has_units = false;
    }

    /// Whether what needs no disk is visible before the group is written.
    pub fn publishes_early(&self) -> bool {
        self.has_memory && !self.has_units
    }

    /// Adds an entry without a payload.
    pub fn push_entry(&mut self, pack: u32, run: u32, kind: Kind, partition: PartitionId, body: &[u8]) {
        let head = EntryHead { length: body.len() as u32, pack, run, kind: kind as u8, partition };
        self.copy(&head.encode(body));
        self.copy(body);
    }

    /// Adds a batch.
    pub fn push_batch(&mut self, pack: u32, run: u32, partition: PartitionId, batch: &Batch) {
        let length = batch.stored_bytes() as u32;
        let head = EntryHead { length, pack, run, kind: Kind::Batch as u8, partition };
        let header = batch.header.encode();
        self.copy(&head.encode(&header));
        self.copy(&header);
        if batch.payload.len() <= COPY_BYTES_MAX {
            self.copy(&batch.payload);
        } else {
            self.bytes += batch.payload.len() as u64;
            self.parts.push(Part::Shared(batch.payload.clone()));
        }
    }

    fn copy(&mut self, bytes: &[u8]) {
        self.copied.extend_from_slice(bytes);
        self.bytes += bytes.len() as u64;
        match self.parts.last_mut() {
            Some(Part::Copied(length)) => *length += bytes.len(),
            _ => self.parts.push(Part::Copied(bytes.len())),
        }
    }

    /// Writes all entries at `position` with one vectored write, and zeros from there to the end of the page, but not
    /// beyond `capacity`.
    pub fn write(&self, file: &dyn DiskFile, position: u64, capacity: u64) -> std::io::Result<()> {
        static ZEROS: [u8; PAGE_BYTES as usize] = [0; PAGE_BYTES as usize];
        let mut slices = Vec::with_capacity(self.parts.len() + 1);
        let mut at = 0;
        for part in &self.parts {
            match part {
                Part::Copied(length) => {
                    slices.push(IoSlice::new(&self.copied[at..at + length]));
                    at += length;
                }
                Part::Shared(bytes) => slices.push(IoSlice::new(bytes)),
            }
        }
        let end = position + self.bytes;
        let padding = end.next_multiple_of(PAGE_BYTES).min(capacity).saturating_sub(end);
        slices.push(IoSlice::new(&ZEROS[..padding as usize]));
        file.write_at(position, &slices)
    }
}

impl Staged {
    /// Answers that nothing was kept (`DiskFull`) or that nobody knows (`StorageFailed`).
    pub fn refuse(self, shard: &Shard, refusal: Refusal) {
        match self {
            Staged::Batch { answer, .. } => {
                if let Some(answer) = answer {
                    answer.give(Err(refusal.into()));
                }
            }
            Staged::Duplicate { answer, .. } => answer.give(Err(refusal.into())),
            Staged::Trim { answer, .. } => answer.give(Err(refusal.into())),
            Staged::Cursor { answer, .. } | Staged::Pending { answer, .. } | Staged::Forget { answer, .. } => {
                answer.give(Err(refusal.into()));
            }
            Staged::End { answer, .. } => answer.give(Err(refusal.into())),
            Staged::Fence => {}
            Staged::Sync { answer } => answer.give(false),
            Staged::Lease(staged) => staged.refuse(shard, refusal.into()),
            Staged::Transfer { answer, .. } => answer.give(Err(refusal.into())),
        }
    }
}

/// Length of the entry of a body.
pub fn entry_bytes(body: usize) -> u64 {
    (ENTRY_BYTES + body) as u64
}
