//! The index of a sealed pack: where each batch of each partition lies.
//!
//! ```text
//!  0        8        12       16       20       24
//!  ├ magic ─┼ pack ──┼ parts ─┼ entries┼ crc ───┤  crc: CRC-32C of bytes 8..20 and the directory
//!  directory, sorted by partition, 64 bytes each:
//!  ├ topic (16) ─────────────┼ index ─┼ from ──┤24  from, count: its entries
//!  ├ count ─┼ flags ┼ first offset ──┼ next offset ─┤48
//!  ├ max time ms ────┼ bytes ─────────┤64           bytes: of its batches, headers included; flags: 1 compacted
//!  entries, by partition and offset, 32 bytes each:
//!  ├ base offset ────┼ max time ms ────┤16
//!  ├ position┼ length┼ count ─┼ crc ───┤32  position: of the journal entry; length: of the payload; crc: of bytes 0..28
//! ```
//! All integers are little-endian. The directory is read when the engine opens; entries are read when they are needed,
//! and verified one by one. An index that is missing or damaged is made again from its pack.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;

use codec_record::{BatchHeader, HEADER_BYTES};
use core_rpc::{PartitionId, TopicId};

use super::entry::{CoverBody, ENTRY_BYTES};
use crate::disk::{Disk, DiskFile, write_whole};

const MAGIC: &[u8; 8] = b"PACKIDX1";
const HEAD_BYTES: usize = 24;
const PART_BYTES: usize = 64;
const INDEX_ENTRY_BYTES: usize = 32;

/// Entries read at once: a page.
const VISIT_ENTRIES: u32 = 128;

/// Where a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    pub base_offset: u64,
    /// The batch's greatest time, its append time if its format has none.
    pub max_time_ms: i64,
    /// Of the journal entry in the pack.
    pub position: u32,
    pub payload_length: u32,
    pub count: u32,
}

impl IndexEntry {
    /// Of the batch whose journal entry at `position` has this body. None if it is not a batch.
    pub fn of(position: u64, body: &[u8]) -> Option<IndexEntry> {
        BatchHeader::decode(body).ok().map(|header| IndexEntry::new(position, &header))
    }

    pub fn new(position: u64, header: &BatchHeader) -> IndexEntry {
        IndexEntry {
            base_offset: header.base_offset,
            max_time_ms: time_of(header),
            position: position as u32,
            payload_length: header.payload_length,
            count: header.count,
        }
    }

    pub fn next_offset(&self) -> u64 {
        self.base_offset + u64::from(self.count)
    }

    /// Bytes of the batch, header included.
    pub fn stored_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.payload_length)
    }

    /// Where the journal entry begins and ends.
    pub fn range(&self) -> (u64, u64) {
        let begin = u64::from(self.position);
        (begin, begin + ENTRY_BYTES as u64 + self.stored_bytes())
    }

    fn encode(&self) -> [u8; INDEX_ENTRY_BYTES] {
        let mut bytes = [0; INDEX_ENTRY_BYTES];
        bytes[0..8].copy_from_slice(&self.base_offset.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.max_time_ms.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.position.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.payload_length.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.count.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..28]);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<IndexEntry> {
        if u32_at(bytes, 28) != crc32c::crc32c(&bytes[..28]) {
            return None;
        }
        Some(IndexEntry {
            base_offset: u64_at(bytes, 0),
            max_time_ms: u64_at(bytes, 8) as i64,
            position: u32_at(bytes, 16),
            payload_length: u32_at(bytes, 20),
            count: u32_at(bytes, 24),
        })
    }
}

/// The time by which a batch is found and expires.
pub fn time_of(header: &BatchHeader) -> i64 {
    if header.max_time_ms < 0 { header.append_time_ms } else { header.max_time_ms }
}

/// What the directory says of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexPart {
    pub partition: PartitionId,
    /// Its entries are `from..from + count`.
    pub from: u32,
    pub count: u32,
    pub first_offset: u64,
    pub next_offset: u64,
    pub max_time_ms: i64,
    pub bytes: u64,
    /// Compacted by key: offsets may be missing before its first entry and between them.
    pub compacted: bool,
}

/// What an index is to have of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartEntries {
    pub partition: PartitionId,
    /// In offset order.
    pub entries: Arc<Vec<IndexEntry>>,
    /// None: the entries' own range.
    pub cover: Option<CoverBody>,
}

impl IndexPart {
    /// Sums up entries in offset order; None if there are none.
    pub fn of(partition: PartitionId, from: u32, entries: &[IndexEntry]) -> Option<IndexPart> {
        Some(IndexPart {
            partition,
            from,
            count: entries.len() as u32,
            first_offset: entries.first()?.base_offset,
            next_offset: entries.last()?.next_offset(),
            max_time_ms: entries.iter().map(|entry| entry.max_time_ms).max()?,
            bytes: entries.iter().map(IndexEntry::stored_bytes).sum(),
            compacted: false,
        })
    }

    fn of_entries(part: &PartEntries, from: u32) -> Option<IndexPart> {
        let mut summed = IndexPart::of(part.partition, from, &part.entries)?;
        if let Some(cover) = part.cover {
            (summed.first_offset, summed.compacted) = (cover.first, cover.compacted);
        }
        Some(summed)
    }

    fn encode(&self) -> [u8; PART_BYTES] {
        let mut bytes = [0; PART_BYTES];
        bytes[0..16].copy_from_slice(&self.partition.topic.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.partition.index.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.from.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.count.to_le_bytes());
        bytes[28..32].copy_from_slice(&u32::from(self.compacted).to_le_bytes());
        bytes[32..40].copy_from_slice(&self.first_offset.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.next_offset.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.max_time_ms.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.bytes.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> IndexPart {
        let topic = TopicId(u128::from(u64_at(bytes, 0)) | u128::from(u64_at(bytes, 8)) << 64);
        IndexPart {
            partition: PartitionId { topic, index: u32_at(bytes, 16) },
            from: u32_at(bytes, 20),
            count: u32_at(bytes, 24),
            compacted: u32_at(bytes, 28) & 1 != 0,
            first_offset: u64_at(bytes, 32),
            next_offset: u64_at(bytes, 40),
            max_time_ms: u64_at(bytes, 48) as i64,
            bytes: u64_at(bytes, 56),
        }
    }
}

/// An index file whose directory was in order.
pub struct PackIndex {
    file: Arc<dyn DiskFile>,
    entries_at: u64,
    entries: u32,
}

impl PackIndex {
    /// Opens an index and reads its directory. `InvalidData` if it is damaged or another pack's.
    pub fn open(disk: &dyn Disk, name: &str, pack: u32) -> io::Result<(PackIndex, Vec<IndexPart>)> {
        if !disk.exists(name)? {
            return Err(ErrorKind::NotFound.into());
        }
        let file = disk.open(name)?;
        let damaged = || io::Error::from(ErrorKind::InvalidData);
        let len = file.len()?;
        let mut head = [0; HEAD_BYTES];
        if len < HEAD_BYTES as u64 {
            return Err(damaged());
        }
        file.read_at(0, &mut head)?;
        let (parts, entries) = (u32_at(&head, 12), u32_at(&head, 16));
        let entries_at = HEAD_BYTES as u64 + u64::from(parts) * PART_BYTES as u64;
        let wanted = entries_at + u64::from(entries) * INDEX_ENTRY_BYTES as u64;
        if &head[..8] != MAGIC || u32_at(&head, 8) != pack || len != wanted {
            return Err(damaged());
        }
        let mut directory = vec![0; parts as usize * PART_BYTES];
        file.read_at(HEAD_BYTES as u64, &mut directory)?;
        if crc32c::crc32c_append(crc32c::crc32c(&head[8..20]), &directory) != u32_at(&head, 20) {
            return Err(damaged());
        }
        let parts = directory.chunks_exact(PART_BYTES).map(IndexPart::decode).collect();
        Ok((PackIndex { file, entries_at, entries }, parts))
    }

    /// Writes the index of a pack durably.
    pub fn write(
        disk: &dyn Disk,
        name: &str,
        pack: u32,
        parts: &[PartEntries],
    ) -> io::Result<(PackIndex, Vec<IndexPart>)> {
        let mut directory = Vec::with_capacity(parts.len());
        let mut from = 0;
        for part in parts {
            directory.extend(IndexPart::of_entries(part, from));
            from += part.entries.len() as u32;
        }
        let entries_at = HEAD_BYTES + directory.len() * PART_BYTES;
        let mut bytes = Vec::with_capacity(entries_at + from as usize * INDEX_ENTRY_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&pack.to_le_bytes());
        bytes.extend_from_slice(&(directory.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&from.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        directory.iter().for_each(|part| bytes.extend_from_slice(&part.encode()));
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[8..20]), &bytes[HEAD_BYTES..]);
        bytes[20..24].copy_from_slice(&crc.to_le_bytes());
        for part in parts {
            part.entries.iter().for_each(|entry| bytes.extend_from_slice(&entry.encode()));
        }
        write_whole(disk, name, &bytes)?;
        let index = PackIndex { file: disk.open(name)?, entries_at: entries_at as u64, entries: from };
        Ok((index, directory))
    }

    /// The entries of a range, which are in offset order, from the first that ends after `offset` on, until
    /// `visit` says stop.
    pub fn visit(&self, range: Range<u32>, offset: u64, visit: &mut dyn FnMut(&IndexEntry) -> bool) -> io::Result<()> {
        let (mut low, mut high) = (range.start, range.end);
        let end = high;
        // Narrowed down until the first read below has it: more reads, of one entry each, would cost more.
        while high - low > VISIT_ENTRIES / 2 {
            let middle = low + (high - low) / 2;
            match self.read(middle, 1)?.first() {
                Some(entry) if entry.next_offset() > offset => high = middle,
                _ => low = middle + 1,
            }
        }
        let mut visit = |entry: &IndexEntry| entry.next_offset() <= offset || visit(entry);
        while low < end {
            let part = (end - low).min(VISIT_ENTRIES);
            if !self.read(low, part)?.iter().all(&mut visit) {
                break;
            }
            low += part;
        }
        Ok(())
    }

    /// Entries `from..from + count`. `InvalidData` if one is damaged.
    pub fn read(&self, from: u32, count: u32) -> io::Result<Vec<IndexEntry>> {
        if from.checked_add(count).is_none_or(|end| end > self.entries) {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; count as usize * INDEX_ENTRY_BYTES];
        self.file.read_at(self.entries_at + u64::from(from) * INDEX_ENTRY_BYTES as u64, &mut bytes)?;
        let entries = bytes.chunks_exact(INDEX_ENTRY_BYTES).map(IndexEntry::decode);
        entries.collect::<Option<_>>().ok_or_else(|| ErrorKind::InvalidData.into())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;
    use proptest::prelude::*;

    fn parts() -> impl Strategy<Value = Vec<PartEntries>> {
        let entry = (any::<i64>(), any::<u32>(), 0u32..1 << 20, 1u32..1000);
        let part =
            (any::<u128>(), any::<u32>(), proptest::collection::vec(entry, 1..20), proptest::option::of(any::<bool>()));
        proptest::collection::vec(part, 0..10).prop_map(|parts| {
            let part = |(topic, index, entries, cover): (u128, u32, Vec<_>, Option<bool>)| {
                let mut next = 7;
                let entries = entries.into_iter().map(|(max_time_ms, position, payload_length, count)| {
                    let base_offset = next;
                    next += u64::from(count);
                    IndexEntry { base_offset, max_time_ms, position, payload_length, count }
                });
                let entries = Arc::new(entries.collect());
                let cover = cover.map(|compacted| CoverBody { first: 3, next, compacted });
                PartEntries { partition: PartitionId { topic: TopicId(topic), index }, entries, cover }
            };
            parts.into_iter().map(part).collect()
        })
    }

    proptest! {
        #[test]
        fn an_index_survives_writing_and_damage_is_found(parts in parts(), flip: u64) {
            let disk = MemoryDisk::new();
            let (index, directory) = PackIndex::write(&disk, "i", 5, &parts).unwrap();
            let (opened, again) = PackIndex::open(&disk, "i", 5).unwrap();
            prop_assert_eq!(&directory, &again);
            prop_assert!(PackIndex::open(&disk, "i", 6).is_err());
            for (part, written) in directory.iter().zip(&parts) {
                prop_assert_eq!(part.partition, written.partition);
                prop_assert_eq!(part.first_offset, if written.cover.is_some() { 3 } else { 7 });
                prop_assert_eq!(part.compacted, written.cover.is_some_and(|cover| cover.compacted));
                prop_assert_eq!(&opened.read(part.from, part.count).unwrap(), &*written.entries);
                prop_assert_eq!(&index.read(part.from, part.count).unwrap(), &*written.entries);
            }
            prop_assert!(opened.read(opened.entries, 1).is_err());
            let bits = disk.used_bytes() * 8;
            let bit = flip % bits;
            disk.flip_bit("i", bit / 8, (bit % 8) as u8).unwrap();
            let found = match PackIndex::open(&disk, "i", 5) {
                Err(_) => true,
                Ok((damaged, _)) => damaged.read(0, damaged.entries).is_err(),
            };
            prop_assert!(found);
        }
    }
}
