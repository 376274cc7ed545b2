//! The stored batch: a fixed header and a payload in the writer's native form.
//!
//! ```text
//!  0        4        8        12       16
//!  ├ crc  ──┼ length ┼ p.crc ─┼ count ─┤   crc: CRC-32C of bytes 4..64; length, p.crc: of the payload
//!  ├ base offset ────┼ max time ms ────┤32 count: offsets the batch spans, at least 1
//!  ├ append time ms ─┼ producer id ────┤48 producer id -1: none
//!  ├ seq ───┼ep┼fm┼fl┼ horizon ms ────┤64 ep: producer epoch, fm: format, fl: flags; horizon 0: none; with the
//!                                         flag DELAYED it is `not_before_ms`, else `tombstones_until_ms`
//!  ├ payload …
//! ```
//! All integers are little-endian. The header's CRC and the payload's are apart so that the payload's can be
//! computed before the base offset is known, off the writer's thread.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::format::FormatId;

/// Length of the encoded header, bytes.
pub const HEADER_BYTES: usize = 64;

const NO_PRODUCER: i64 = -1;

/// One stored batch. Cloning shares the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub header: BatchHeader,
    pub payload: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub format: FormatId,
    pub flags: BatchFlags,
    /// Offsets the batch spans (last offset − base offset + 1); records may be missing inside after compaction.
    pub count: u32,
    /// Assigned by the core at append; what the caller puts here is ignored there.
    pub base_offset: u64,
    /// The greatest time of a record in the batch, ms since the Unix epoch; -1 if the format has none.
    pub max_time_ms: i64,
    /// When the core appended it, ms since the Unix epoch; assigned by the core.
    pub append_time_ms: i64,
    /// Ids below -1 are made up by the RPC's clients, for batches that come without a producer.
    pub producer: Option<Producer>,
    /// Set by compaction only: from this time on, ms since the Unix epoch, the batch's tombstones may go. It is set when
    /// the batch is compacted for the first time, which is when what the tombstones delete goes. Never 0. Not stored of a
    /// batch with `not_before_ms`.
    pub tombstones_until_ms: Option<i64>,
    /// Who acquires gets the batch's messages only from then on, ms since the Unix epoch; who fetches sees them at once.
    pub not_before_ms: Option<i64>,
    pub payload_length: u32,
    pub payload_crc: u32,
}

/// Who appends, so that a retried append is recognised: sequences count records within (id, epoch) and partition
/// and wrap from `i32::MAX` to 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
    /// Sequence of the batch's first record.
    pub sequence: i32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchFlags(pub u8);

impl BatchFlags {
    /// Part of a transaction: becomes visible to committed readers when its producer commits.
    pub const TRANSACTIONAL: BatchFlags = BatchFlags(1);
    /// A marker of the core or a gateway, not data of a client.
    pub const CONTROL: BatchFlags = BatchFlags(2);
    /// Only in the encoded header, where it says that there is a `not_before_ms`: set and taken away by the encoding.
    const DELAYED: BatchFlags = BatchFlags(4);

    pub fn contains(self, other: BatchFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("batch header is shorter than {HEADER_BYTES} bytes")]
    Truncated,
    #[error("batch header's CRC does not match")]
    Crc,
}

impl Batch {
    /// A batch to append: computes length and CRC of the payload; offset and append time are the core's to set.
    pub fn new(format: FormatId, count: u32, max_time_ms: i64, payload: Bytes) -> Self {
        let header = BatchHeader {
            format,
            flags: BatchFlags::default(),
            count,
            base_offset: 0,
            max_time_ms,
            append_time_ms: 0,
            producer: None,
            tombstones_until_ms: None,
            not_before_ms: None,
            payload_length: payload.len() as u32,
            payload_crc: crc32c::crc32c(&payload),
        };
        Batch { header, payload }
    }

    /// Bytes that the batch takes when stored or sent.
    pub fn stored_bytes(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }

    /// Whether the payload is the one the header was made for.
    pub fn payload_is_intact(&self) -> bool {
        self.payload.len() == self.header.payload_length as usize
            && crc32c::crc32c(&self.payload) == self.header.payload_crc
    }
}

impl BatchHeader {
    /// The batch with this header and another payload.
    pub fn with_payload(mut self, payload: Bytes) -> Batch {
        self.payload_length = payload.len() as u32;
        self.payload_crc = crc32c::crc32c(&payload);
        Batch { header: self, payload }
    }

    /// The offset after the batch's last.
    pub fn next_offset(&self) -> u64 {
        self.base_offset + u64::from(self.count)
    }

    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0u8; HEADER_BYTES];
        let producer = self.producer.unwrap_or(Producer { id: NO_PRODUCER, epoch: -1, sequence: -1 });
        bytes[4..8].copy_from_slice(&self.payload_length.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.count.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.base_offset.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.max_time_ms.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.append_time_ms.to_le_bytes());
        bytes[40..48].copy_from_slice(&producer.id.to_le_bytes());
        bytes[48..52].copy_from_slice(&producer.sequence.to_le_bytes());
        bytes[52..54].copy_from_slice(&producer.epoch.to_le_bytes());
        bytes[54] = self.format.0;
        let delayed = if self.not_before_ms.is_some() { BatchFlags::DELAYED.0 } else { 0 };
        bytes[55] = self.flags.0 & !BatchFlags::DELAYED.0 | delayed;
        let horizon_ms = self.not_before_ms.or(self.tombstones_until_ms).unwrap_or(0);
        bytes[56..64].copy_from_slice(&horizon_ms.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[4..]);
        bytes[0..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the first [`HEADER_BYTES`] of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; HEADER_BYTES] =
            bytes.get(..HEADER_BYTES).and_then(|b| b.try_into().ok()).ok_or(HeaderError::Truncated)?;
        if crc32c::crc32c(&bytes[4..]) != u32_at(bytes, 0) {
            return Err(HeaderError::Crc);
        }
        let producer_id = u64_at(bytes, 40) as i64;
        let producer = (producer_id != NO_PRODUCER).then(|| Producer {
            id: producer_id,
            sequence: u32_at(bytes, 48) as i32,
            epoch: i16::from_le_bytes([bytes[52], bytes[53]]),
        });
        let is_delayed = BatchFlags(bytes[55]).contains(BatchFlags::DELAYED);
        let horizon_ms = u64_at(bytes, 56) as i64;
        Ok(BatchHeader {
            format: FormatId(bytes[54]),
            flags: BatchFlags(bytes[55] & !BatchFlags::DELAYED.0),
            count: u32_at(bytes, 12),
            base_offset: u64_at(bytes, 16),
            max_time_ms: u64_at(bytes, 24) as i64,
            append_time_ms: u64_at(bytes, 32) as i64,
            producer,
            tombstones_until_ms: Some(horizon_ms).filter(|until_ms| *until_ms != 0 && !is_delayed),
            not_before_ms: Some(horizon_ms).filter(|_| is_delayed),
            payload_length: u32_at(bytes, 4),
            payload_crc: u32_at(bytes, 8),
        })
    }
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn header_survives_encoding(
            offset: u64, count in 1u32.., max_time_ms: i64, append_time_ms: i64,
            producer in proptest::option::of((0i64.., any::<i16>(), 0i32..)), format: u8, flags: u8,
            tombstones_until_ms in proptest::option::of(1i64..), not_before_ms: Option<i64>, payload: Vec<u8>,
        ) {
            let mut batch = Batch::new(FormatId(format), count, max_time_ms, Bytes::from(payload));
            batch.header.base_offset = offset;
            batch.header.append_time_ms = append_time_ms;
            batch.header.flags = BatchFlags(flags & !BatchFlags::DELAYED.0);
            batch.header.tombstones_until_ms = tombstones_until_ms.filter(|_| not_before_ms.is_none());
            batch.header.not_before_ms = not_before_ms;
            batch.header.producer = producer.map(|(id, epoch, sequence)| Producer { id, epoch, sequence });
            prop_assert_eq!(BatchHeader::decode(&batch.header.encode()), Ok(batch.header));
            prop_assert!(batch.payload_is_intact());
        }

        #[test]
        fn a_flipped_bit_in_the_header_is_found(bit in 0usize..HEADER_BYTES * 8) {
            let mut bytes = Batch::new(FormatId::RAW, 3, 7, Bytes::from_static(b"abc")).header.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(BatchHeader::decode(&bytes), Err(HeaderError::Crc));
        }
    }
}
