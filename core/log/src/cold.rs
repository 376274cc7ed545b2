//! Reads of batches that are no longer in memory. Everything here may block on the disk.

use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use codec_record::{Batch, BatchHeader, HEADER_BYTES};
use core_rpc::{FetchError, PartitionId};

use crate::buffers::{BUFFER_BYTES, read_into};
use crate::pack::Pack;
use crate::pack::entry::{ENTRY_BYTES, EntryHead};
use crate::pack::index::IndexEntry;
use crate::partition::{Partition, Segment, State};

/// Batches nearer than this to each other are read in one go.
const GAP_BYTES_MAX: u64 = 4 << 10;

/// The most that one read takes, unless a single batch is larger: a reader who keeps one small batch keeps all of it.
const READ_BYTES_MAX: u64 = BUFFER_BYTES as u64;

/// How much a reader takes.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub bytes: u64,
    /// The first batch is taken even if it is larger.
    pub first_free: bool,
    /// Only batches that end before this offset are taken.
    pub until: u64,
}

impl Limit {
    /// Whether a batch is still to be taken; if so, counts it.
    pub fn take(&mut self, next_offset: u64, bytes: u64) -> bool {
        let fits = next_offset <= self.until && (bytes <= self.bytes || self.first_free);
        if fits {
            self.first_free = false;
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        fits
    }
}

impl State {
    /// Batches from memory, from the one that contains `offset` on. None: they are not there.
    pub fn read_cached(&self, offset: u64, limit: &mut Limit) -> Option<Vec<Batch>> {
        if offset >= self.end.min(limit.until) {
            return Some(Vec::new());
        }
        if self.cached.front().is_none_or(|batch| batch.header.base_offset > offset) {
            return None;
        }
        let at = self.cached.partition_point(|batch| batch.header.next_offset() <= offset);
        let batches = self.cached.range(at..);
        let mut take = |batch: &Batch| limit.take(batch.header.next_offset(), batch.stored_bytes() as u64);
        Some(batches.take_while(|batch| take(batch)).cloned().collect())
    }
}

/// Where batches are to be read.
enum Place {
    Cached(Vec<Batch>),
    Sealed(Segment),
    Open(Arc<Pack>, Vec<IndexEntry>),
}

/// Reads batches from the one that contains `offset` on, from the disk and, where it gets there, from memory.
pub fn read(partition: &Partition, mut offset: u64, mut limit: Limit) -> Result<Vec<Batch>, FetchError> {
    let mut batches: Vec<Batch> = Vec::new();
    loop {
        let place = locate(&partition.lock(), offset, &mut limit);
        let read = match place {
            Ok(Place::Cached(more)) => {
                batches.extend(more);
                return Ok(batches);
            }
            Ok(Place::Sealed(segment)) => entries_of(partition, &segment, offset, &mut limit)
                .map_err(failed)
                .and_then(|entries| read_entries(&segment.pack, partition.id, &entries, &mut batches)),
            Ok(Place::Open(pack, entries)) => read_entries(&pack, partition.id, &entries, &mut batches),
            Err(error) => Err(error),
        };
        match read {
            // What was read before the damage is good; the error comes when it is asked for alone.
            Err(_) if !batches.is_empty() => return Ok(batches),
            Err(error) => return Err(error),
            Ok(0) => return Ok(batches),
            Ok(_) => {}
        }
        let Some(last) = batches.last() else { return Ok(batches) };
        offset = last.header.next_offset();
        if limit.bytes == 0 {
            return Ok(batches);
        }
    }
}

fn locate(state: &State, offset: u64, limit: &mut Limit) -> Result<Place, FetchError> {
    let bounds = state.bounds()?;
    if offset < bounds.start_offset || offset > bounds.end_offset {
        return Err(FetchError::OutOfRange(bounds));
    }
    if let Some(batches) = state.read_cached(offset, limit) {
        return Ok(Place::Cached(batches));
    }
    let at = state.sealed.partition_point(|segment| segment.next <= offset);
    if let Some(segment) = state.sealed.get(at).filter(|segment| segment.first <= offset) {
        return Ok(Place::Sealed(segment.clone()));
    }
    for segment in &state.open {
        let at = segment.entries.partition_point(|entry| entry.next_offset() <= offset);
        if segment.entries.get(at).is_some_and(|entry| entry.base_offset <= offset) {
            let entries =
                segment.entries[at..].iter().take_while(|entry| limit.take(entry.next_offset(), entry.stored_bytes()));
            return Ok(Place::Open(segment.pack.clone(), entries.copied().collect()));
        }
    }
    // Between the bounds but nowhere: damage took it.
    Err(FetchError::Corrupt)
}

fn entries_of(partition: &Partition, segment: &Segment, offset: u64, limit: &mut Limit) -> io::Result<Vec<IndexEntry>> {
    let mut entries: Vec<IndexEntry> = Vec::new();
    let mut hole = false;
    segment.entries(partition.id, offset, &mut |entry| {
        // After a compaction the next batch there is answers.
        hole |= !segment.compacted && entries.is_empty() && entry.base_offset > offset;
        let take = !hole && limit.take(entry.next_offset(), entry.stored_bytes());
        if take {
            entries.push(*entry);
        }
        take
    })?;
    if hole { Err(ErrorKind::InvalidData.into()) } else { Ok(entries) }
}

/// Reads and verifies the batches of some entries of one pack; adds those before the first bad one. Returns how many.
pub fn read_entries(
    pack: &Pack,
    partition: PartitionId,
    entries: &[IndexEntry],
    batches: &mut Vec<Batch>,
) -> Result<usize, FetchError> {
    let before = batches.len();
    let mut at = 0;
    while at < entries.len() {
        let (begin, mut end) = entries[at].range();
        let mut until = at + 1;
        while let Some((next_begin, next_end)) = entries.get(until).map(IndexEntry::range)
            && next_begin >= end
            && next_begin - end <= GAP_BYTES_MAX
            && next_end - begin <= READ_BYTES_MAX
        {
            end = next_end;
            until += 1;
        }
        let bytes = read_into((end - begin) as usize, |bytes| pack.file.read_at(begin, bytes)).map_err(failed)?;
        for entry in &entries[at..until] {
            let (entry_begin, entry_end) = entry.range();
            let bytes = bytes.slice((entry_begin - begin) as usize..(entry_end - begin) as usize);
            let Some(batch) = verified(bytes, partition, entry) else {
                let (pack, offset) = (pack.number, entry.base_offset);
                tracing::error!(?partition, offset, pack, position = entry_begin, "a batch on the disk is damaged");
                return Err(FetchError::Corrupt);
            };
            batches.push(batch);
        }
        at = until;
    }
    Ok(batches.len() - before)
}

/// The batch of a journal entry, if it is whole and the one that the index means.
fn verified(bytes: Bytes, partition: PartitionId, entry: &IndexEntry) -> Option<Batch> {
    let head = EntryHead::read(&bytes)?;
    if head.partition != partition || !head.matches(&bytes) {
        return None;
    }
    let header = BatchHeader::decode(&bytes[ENTRY_BYTES..]).ok()?;
    let batch = Batch { header, payload: bytes.slice(ENTRY_BYTES + HEADER_BYTES..) };
    (header.base_offset == entry.base_offset && batch.payload_is_intact()).then_some(batch)
}

/// Visits the index entries of a partition from the first that ends after `offset` on, until `visit` breaks with an
/// answer. Whole packs, of which `skip` is told, can be passed over.
pub fn walk<T>(
    partition: &Partition,
    mut offset: u64,
    mut skip: impl FnMut(&Segment) -> bool,
    mut visit: impl FnMut(&IndexEntry) -> ControlFlow<T>,
) -> Result<Option<T>, FetchError> {
    loop {
        let segment = {
            let state = partition.lock();
            offset = offset.max(state.bounds()?.start_offset);
            let at = state.sealed.partition_point(|segment| segment.next <= offset);
            let open = state.open.iter().find(|segment| segment.next() > offset);
            match (state.sealed.get(at), open) {
                (Some(sealed), open) if open.is_none_or(|open| sealed.first < open.first()) => sealed.clone(),
                (_, Some(open)) => {
                    let mut entries = open.entries.iter().skip_while(|entry| entry.next_offset() <= offset);
                    if let Some(found) = entries.find_map(|entry| visit(entry).break_value()) {
                        return Ok(Some(found));
                    }
                    offset = open.next();
                    continue;
                }
                _ => return Ok(None),
            }
        };
        if segment.first < offset || !skip(&segment) {
            let mut found = None;
            let visit = &mut |entry: &IndexEntry| match visit(entry) {
                ControlFlow::Break(value) => {
                    found = Some(value);
                    false
                }
                ControlFlow::Continue(()) => true,
            };
            segment.entries(partition.id, offset, visit).map_err(failed)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        offset = segment.next;
    }
}

pub fn failed(error: io::Error) -> FetchError {
    match error.kind() {
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => FetchError::Corrupt,
        _ => {
            tracing::error!(%error, "a read failed");
            FetchError::StorageFailed
        }
    }
}
