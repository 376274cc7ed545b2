//! Journal entries: what a pack is made of, one after the other from its first byte.
//!
//! ```text
//!  0        4        8        12       16   17      20
//!  ├ crc ───┼ length ┼ pack ──┼ run ───┼kind┼ 0 ────┤   length: bytes of the body; pack: the pack's number
//!  ├ topic ─────────────────────────────────┼ index ┤40 run: which opening of the engine wrote it
//!  ├ body …
//! ```
//! All integers are little-endian. The CRC-32C covers bytes 4..40 and the body; of a batch only the first
//! [`HEADER_BYTES`] of the body, because the batch's header holds the CRC of its payload.
//!
//! | kind | topic, index | body |
//! |---|---|---|
//! | 1 batch | partition | batch header and payload |
//! | 2 trim | partition | the new start offset, u64 |
//! | 3 cursor | partition | postcard of [`CursorBody`] |
//! | 4 forget | partition | postcard of the group's name |
//! | 5 start | 0 | empty: the first entry of each run |
//! | 6 seal | 0 | empty: the pack's last entry; the journal goes on in the next pack |
//! | 7 synced | 0 | empty: written after all packs before this one were synced |
//! | 8 cover | partition | in kept packs only: [`CoverBody`] |
//! | 9 unit | 0 | length of the entries behind it that happen together, u64 |
//! | 16 lease settle | partition | postcard of [`crate::leases::record::SettleBody`] |
//! | 17 lease seek | partition | postcard of [`crate::leases::record::SeekBody`] |
//! | 18 lease forget | partition | postcard of the group's name |
//! | 48 end | 0 | postcard of [`EndBody`] |
//! | 49 pending | partition | postcard of [`PendingBody`] |
//! | 50 fence | 0 | postcard of [`FenceBody`] |
//! | others | | seats for more of lease maps (19–31), timers (32–47) and more of transactions (51–63) |
//!
//! The pack's number keeps the old bytes of a recycled file from being replayed. The run keeps the bytes behind a torn
//! tail from being replayed: they are of an earlier run than the start entry that was written over the tear.

use codec_record::HEADER_BYTES;
use core_rpc::{Cursor, GroupName, Outcome, PartitionId, TopicId, TransactionProducer};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Length of an entry without its body, bytes.
pub const ENTRY_BYTES: usize = 40;

/// Length of an entry that holds a batch, without the payload.
pub const BATCH_ENTRY_BYTES: usize = ENTRY_BYTES + HEADER_BYTES;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Batch = 1,
    Trim = 2,
    Cursor = 3,
    Forget = 4,
    Start = 5,
    Seal = 6,
    Synced = 7,
    Cover = 8,
    Unit = 9,
    LeaseSettle = 16,
    LeaseSeek = 17,
    LeaseForget = 18,
    End = 48,
    Pending = 49,
    Fence = 50,
}

impl Kind {
    /// Whether an entry of this kind is only written when all packs before its own are synced.
    pub fn follows_sync(self) -> bool {
        matches!(self, Kind::Start | Kind::Synced)
    }

    pub fn of(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Batch,
            2 => Kind::Trim,
            3 => Kind::Cursor,
            4 => Kind::Forget,
            5 => Kind::Start,
            6 => Kind::Seal,
            7 => Kind::Synced,
            8 => Kind::Cover,
            9 => Kind::Unit,
            16 => Kind::LeaseSettle,
            17 => Kind::LeaseSeek,
            18 => Kind::LeaseForget,
            48 => Kind::End,
            49 => Kind::Pending,
            50 => Kind::Fence,
            _ => return None,
        })
    }
}

/// The partition of entries that have none.
pub const NO_PARTITION: PartitionId = PartitionId { topic: TopicId(0), index: 0 };

/// An entry's first [`ENTRY_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHead {
    pub length: u32,
    pub pack: u32,
    pub run: u32,
    /// Not a [`Kind`]: an entry of a later version must be told from a bad one.
    pub kind: u8,
    pub partition: PartitionId,
}

/// Body of a cursor entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorBody {
    pub group: GroupName,
    pub generation: Option<u64>,
    pub cursor: Cursor,
}

/// Body of a pending entry: a cursor that waits for its transaction's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingBody {
    pub producer: TransactionProducer,
    pub cursor: CursorBody,
    /// When it was committed, by the core's clock.
    pub time_ms: i64,
}

/// Body of an end entry: a producer's transaction is ended in all partitions of the shard, and its pending cursors there
/// are committed or dropped. The markers lie before it in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndBody {
    pub producer_id: i64,
    /// The fence from now on.
    pub epoch: i16,
    /// Transactions of later epochs go on.
    pub ended_epoch_max: i16,
    pub outcome: Outcome,
    pub time_ms: i64,
    pub partitions: Vec<EndedPartition>,
    /// Number of the decision that is carried out; 0 if it has none.
    pub decision: u64,
}

/// Where batches were ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedPartition {
    pub partition: PartitionId,
    /// Of the transaction's first batch.
    pub first_offset: u64,
    /// Of its marker.
    pub last_offset: u64,
}

/// Body of a fence entry: lower epochs of the producer are refused, and what was decided until then is carried out here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceBody {
    pub producer_id: i64,
    pub epoch: i16,
    pub time_ms: i64,
    /// Number of the decision that is carried out; 0 if it has none.
    pub decision: u64,
}

/// Reads a body that has gained a number at its end, which is 0 in entries that were written before.
pub fn read_numbered<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let read = postcard::from_bytes(body);
    read.or_else(|_| postcard::from_bytes(&[body, &[0]].concat())).ok()
}

/// Body of a cover entry: the batches of the partition with these offsets that lie in this pack are all there are, and
/// what other packs have of the range is older.
///
/// ```text
///  ├ first (u64) ────┼ next (u64) ─────┼ flags ─┤20   flags: 1 compacted
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoverBody {
    pub first: u64,
    pub next: u64,
    /// Its records were compacted by key: offsets may be missing between the batches.
    pub compacted: bool,
}

/// Length of an encoded [`CoverBody`].
pub const COVER_BYTES: usize = 20;

impl CoverBody {
    pub fn encode(&self) -> [u8; COVER_BYTES] {
        let mut bytes = [0; COVER_BYTES];
        bytes[0..8].copy_from_slice(&self.first.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.next.to_le_bytes());
        bytes[16] = u8::from(self.compacted);
        bytes
    }

    /// None if the length is not that of a cover.
    pub fn decode(bytes: &[u8]) -> Option<CoverBody> {
        let bytes: &[u8; COVER_BYTES] = bytes.try_into().ok()?;
        let u64_at = |at: usize| bytes[at..at + 8].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
        Some(CoverBody { first: u64_at(0), next: u64_at(8), compacted: bytes[16] & 1 != 0 })
    }
}

impl EntryHead {
    /// Encodes the head; `checked` is the part of the body that the CRC covers.
    pub fn encode(&self, checked: &[u8]) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.pack.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.run.to_le_bytes());
        bytes[16] = self.kind;
        bytes[20..36].copy_from_slice(&self.partition.topic.0.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.partition.index.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[4..]), checked);
        bytes[0..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the head without checking it. None if `bytes` are too few.
    pub fn read(bytes: &[u8]) -> Option<EntryHead> {
        let bytes: &[u8; ENTRY_BYTES] = bytes.get(..ENTRY_BYTES)?.try_into().ok()?;
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut topic = [0; 16];
        topic.copy_from_slice(&bytes[20..36]);
        Some(EntryHead {
            length: u32_at(4),
            pack: u32_at(8),
            run: u32_at(12),
            kind: bytes[16],
            partition: PartitionId { topic: TopicId(u128::from_le_bytes(topic)), index: u32_at(36) },
        })
    }

    /// How many bytes of the body the CRC covers.
    pub fn checked_bytes(&self) -> usize {
        let length = self.length as usize;
        if self.kind == Kind::Batch as u8 { length.min(HEADER_BYTES) } else { length }
    }

    /// Whether the CRC in `bytes`, which begin with the entry and hold at least its checked part, matches.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let Some(covered) = bytes.get(4..ENTRY_BYTES + self.checked_bytes()) else { return false };
        bytes[..4] == crc32c::crc32c(covered).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ends_and_fences_of_before_decisions_had_numbers_are_read() {
        let fence = FenceBody { producer_id: 7, epoch: 3, time_ms: 300, decision: 0 };
        let bytes = postcard::to_stdvec(&fence).unwrap();
        assert_eq!(read_numbered(&bytes[..bytes.len() - 1]), Some(fence));
        assert_eq!(read_numbered(&bytes), Some(fence));
        assert_eq!(read_numbered::<FenceBody>(&bytes[..bytes.len() - 3]), None);
        let partition = PartitionId { topic: TopicId(1), index: 300 };
        let partitions = vec![EndedPartition { partition, first_offset: 1, last_offset: 1 << 40 }];
        let outcome = Outcome::Abort;
        let end =
            EndBody { producer_id: 7, epoch: 3, ended_epoch_max: 2, outcome, time_ms: 9, partitions, decision: 0 };
        let bytes = postcard::to_stdvec(&end).unwrap();
        assert_eq!(read_numbered(&bytes[..bytes.len() - 1]), Some(end));
    }

    proptest! {
        #[test]
        fn covers_survive_encoding(first: u64, next: u64, compacted: bool) {
            let cover = CoverBody { first, next, compacted };
            prop_assert_eq!(CoverBody::decode(&cover.encode()), Some(cover));
            prop_assert_eq!(CoverBody::decode(&cover.encode()[1..]), None);
        }

        #[test]
        fn entries_survive_encoding_and_flips_are_found(
            pack: u32, run: u32, kind in 0u8..70, topic: u128, index: u32, body in proptest::collection::vec(any::<u8>(), 0..200), flip: usize,
        ) {
            let partition = PartitionId { topic: TopicId(topic), index };
            let head = EntryHead { length: body.len() as u32, pack, run, kind, partition };
            let mut bytes = head.encode(&body[..head.checked_bytes()]).to_vec();
            bytes.extend(&body);
            prop_assert_eq!(EntryHead::read(&bytes), Some(head));
            prop_assert!(head.matches(&bytes));
            let covered = ENTRY_BYTES + head.checked_bytes();
            let bit = flip % (covered * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let flipped = EntryHead::read(&bytes).unwrap();
            // A changed length or kind may ask for more bytes than there are; then it does not match either.
            prop_assert!(!flipped.matches(&bytes));
        }
    }
}
