//! A partition's batches in the order of their offsets, a piece at a time, as compaction reads them.

use codec_record::Batch;
use core_rpc::FetchError;
use std::sync::Arc;

use crate::cold::{failed, read_entries};
use crate::pack::Pack;
use crate::pack::index::IndexEntry;
use crate::partition::{Partition, Segment};

/// A piece has so many batches or bytes, unless one batch is larger.
const PIECE_BATCHES: usize = 512;
const PIECE_BYTES: u64 = 1 << 20;

/// Batches that lie in one pack.
pub struct Piece {
    pub pack: Arc<Pack>,
    pub batches: Vec<Batch>,
    pub bytes: u64,
}

/// Reads from an offset on.
pub struct Source<'a> {
    partition: &'a Partition,
    offset: u64,
    until: u64,
}

enum Place {
    Sealed(Segment),
    Open(Arc<Pack>, Vec<IndexEntry>, u64),
}

impl<'a> Source<'a> {
    /// The batches that begin before `until`. What is trimmed is passed over.
    pub fn new(partition: &'a Partition, offset: u64, until: u64) -> Source<'a> {
        Source { partition, offset, until }
    }

    /// The next piece, verified; None at the end. An error where batches are missing or damaged.
    pub fn next(&mut self) -> Result<Option<Piece>, FetchError> {
        loop {
            let Some(place) = self.locate()? else { return Ok(None) };
            let (pack, entries, segment_next) = match place {
                Place::Open(pack, entries, next) => (pack, entries, next),
                Place::Sealed(segment) => {
                    let mut taken = Taken::default();
                    let until = self.until;
                    (segment.entries(self.partition.id, self.offset, &mut |entry| taken.take(entry, until)))
                        .map_err(failed)?;
                    (segment.pack, taken.entries, segment.next)
                }
            };
            let Some(last) = entries.last() else {
                // The rest of the segment was compacted away, or begins after the end.
                self.offset = segment_next;
                continue;
            };
            self.offset = last.next_offset();
            let mut batches = Vec::with_capacity(entries.len());
            read_entries(&pack, self.partition.id, &entries, &mut batches)?;
            let bytes = batches.iter().map(|batch| batch.stored_bytes() as u64).sum();
            return Ok(Some(Piece { pack, batches, bytes }));
        }
    }

    fn locate(&mut self) -> Result<Option<Place>, FetchError> {
        let state = self.partition.lock();
        self.offset = self.offset.max(state.bounds()?.start_offset);
        if self.offset >= self.until {
            return Ok(None);
        }
        let at = state.sealed.partition_point(|segment| segment.next <= self.offset);
        if let Some(segment) = state.sealed.get(at).filter(|segment| segment.first <= self.offset) {
            return Ok(Some(Place::Sealed(segment.clone())));
        }
        for segment in &state.open {
            let at = segment.entries.partition_point(|entry| entry.next_offset() <= self.offset);
            if segment.entries.get(at).is_some_and(|entry| entry.base_offset <= self.offset) {
                let mut taken = Taken::default();
                segment.entries[at..].iter().all(|entry| taken.take(entry, self.until));
                return Ok(Some(Place::Open(segment.pack.clone(), taken.entries, segment.next())));
            }
        }
        // Damage took what is there. To go on would hide that.
        Err(FetchError::Corrupt)
    }
}

#[derive(Default)]
struct Taken {
    entries: Vec<IndexEntry>,
    bytes: u64,
}

impl Taken {
    /// Whether to go on.
    fn take(&mut self, entry: &IndexEntry, until: u64) -> bool {
        let full = self.entries.len() >= PIECE_BATCHES
            || (!self.entries.is_empty() && self.bytes + entry.stored_bytes() > PIECE_BYTES);
        if full || entry.base_offset >= until {
            return false;
        }
        self.bytes += entry.stored_bytes();
        self.entries.push(*entry);
        true
    }
}
