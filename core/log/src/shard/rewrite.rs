//! Rewriting sparse packs: a few batches that are still needed must not keep a whole pack.
//!
//! What lives on in packs that are mostly dead is copied into a kept pack ([`super::kept`]); then the partitions' segments
//! are exchanged, and the old packs fall free.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Shard;
use super::kept::KeptWriter;
use crate::cold::read_entries;
use crate::engine::Inner;
use crate::pack::Pack;
use crate::pack::index::IndexEntry;
use crate::partition::{Partition, Segment};

/// A pack is sparse when less than one in so many of its bytes is needed.
const SPARSE: u64 = 4;

/// Kept packs of less than a sixteenth of a pack are put together when there are so many: each has two files open.
const SMALL_PART: u64 = 16;
const SMALL_MAX: usize = 32;

/// Entries copied at once.
const COPY_ENTRIES: usize = 64;

/// A segment to be copied.
struct Source {
    partition: Arc<Partition>,
    segment: Segment,
}

impl Inner {
    /// Copies what lives on in sparse packs, if that frees most of a pack. Does nothing when it fails but leave them, nor
    /// while a compaction is under way: that rewrites the same segments.
    pub fn rewrite_sparse(&self, shard: &Shard) -> io::Result<()> {
        let Some(mut kept_last) = shard.kept_last.try_lock() else { return Ok(()) };
        let sources = self.sparse_segments(shard);
        if sources.is_empty() {
            return Ok(());
        }
        let number = *kept_last + 1;
        let mut writer = KeptWriter::new(self, shard, number)?;
        sources.iter().try_for_each(|source| source.copy(&mut writer))?;
        // Should it fail at the end, the number must not be used again: nobody knows what is there.
        *kept_last = number;
        let (pack, parts) = writer.finish()?;
        for (source, part) in sources.iter().zip(&parts) {
            source.partition.exchange(&source.segment, part, &pack);
        }
        pack.release();
        drop((sources, pack));
        self.reclaim(shard);
        Ok(())
    }

    /// The live segments of sparse packs, sorted by partition and offset; none if copying them would not free enough.
    fn sparse_segments(&self, shard: &Shard) -> Vec<Source> {
        let partitions = self.partitions_of(shard.number);
        let mut live_bytes: HashMap<*const Pack, u64> = HashMap::new();
        for partition in &partitions {
            for segment in &partition.lock().sealed {
                *live_bytes.entry(Arc::as_ptr(&segment.pack)).or_default() += segment.bytes;
            }
        }
        let live = |pack: &Arc<Pack>| live_bytes.get(&Arc::as_ptr(pack)).copied().unwrap_or(0);
        // Recovery reads the journal from the oldest snapshot on: those packs stay anyway.
        let needed = shard.snapshot_pack.load(Ordering::Acquire);
        let kept: Vec<Arc<Pack>> = shard.kept.lock().values().cloned().collect();
        let is_small = |pack: &Arc<Pack>| pack.capacity < self.config.pack_bytes / SMALL_PART && live(pack) > 0;
        let too_many = kept.iter().filter(|pack| is_small(pack)).count() > SMALL_MAX;
        let mut packs = kept;
        packs.extend(shard.packs.lock().range(..needed).map(|(_, pack)| pack.clone()));
        let mut freed = 0;
        let mut copied = 0;
        packs.retain(|pack| {
            let bytes = live(pack);
            let sparse = bytes > 0 && bytes * SPARSE < pack.capacity || too_many && pack.kept && is_small(pack);
            let taken = sparse && copied + bytes <= self.config.pack_bytes / 2;
            if taken {
                freed += pack.capacity.saturating_sub(bytes);
                copied += bytes;
            }
            taken
        });
        if freed < self.config.pack_bytes / 4 * 3 && !too_many {
            return Vec::new();
        }
        let mut sources = Vec::new();
        for partition in partitions {
            for segment in &partition.lock().sealed {
                if packs.iter().any(|pack| Arc::ptr_eq(pack, &segment.pack)) {
                    sources.push(Source { partition: partition.clone(), segment: segment.clone() });
                }
            }
        }
        sources.sort_unstable_by_key(|source| (source.partition.id, source.segment.first));
        sources
    }
}

impl Source {
    /// Copies what is kept of the segment, verified.
    fn copy(&self, writer: &mut KeptWriter<'_>) -> io::Result<()> {
        let Source { partition, segment } = self;
        let start = partition.bounds().map_or(segment.first, |bounds| bounds.start_offset);
        let mut old: Vec<IndexEntry> = Vec::new();
        // At least the last batch: a segment is never empty.
        let from = start.min(segment.next - 1);
        segment.entries(partition.id, from, &mut |entry| {
            old.push(*entry);
            true
        })?;
        let mut copied = Vec::with_capacity(old.len());
        for entries in old.chunks(COPY_ENTRIES) {
            let mut batches = Vec::with_capacity(entries.len());
            read_entries(&segment.pack, partition.id, entries, &mut batches)
                .map_err(|_| io::Error::from(ErrorKind::InvalidData))?;
            for batch in batches {
                copied.push(writer.batch(partition.id, &batch.header, &batch.payload)?);
            }
        }
        if copied.is_empty() {
            return Err(ErrorKind::InvalidData.into());
        }
        writer.segment(partition.id, segment.first, segment.compacted, copied);
        Ok(())
    }
}
