//! Rewriting sparse packs: a few batches that are still needed must not keep a whole pack.
//!
//! What lives on in packs that are mostly dead is copied into a kept pack ([`super::kept`]); then the partitions' segments
//! are exchanged, and the old packs fall free.
//!
//! Of a partition that a group consumes ([`core_rpc::TopicSettings::consumed_by`]) what that group has settled is not
//! copied: one message that nobody settles must not keep all that came after it. The offsets of what is left out become
//! holes, as after a compaction, and neighbouring segments one; its last batch always stays, so that the segment has an
//! end. Should a crash take back what was settled without a sync, the map finds nothing where those messages were, and
//! counts them as settled.

use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use core_rpc::{GroupName, PartitionId, TopicSettings};

use super::Shard;
use super::kept::KeptWriter;
use crate::cold::read_entries;
use crate::engine::Inner;
use crate::leases::LeaseSlot;
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

/// Segments to be copied into one: neighbours where the partition is consumed, else a single one.
struct Source {
    partition: Arc<Partition>,
    segments: Vec<Segment>,
    consumed: Option<Arc<LeaseSlot>>,
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
            match (&source.consumed, &source.segments[..]) {
                (None, [segment]) => source.partition.exchange(segment, part, &pack),
                _ => source.partition.replace(part, 0, &HashSet::new(), &pack),
            }
        }
        pack.release();
        drop((sources, pack));
        self.reclaim(shard);
        Ok(())
    }

    /// The live segments of sparse packs, sorted by partition and offset; none if copying them would not free enough.
    fn sparse_segments(&self, shard: &Shard) -> Vec<Source> {
        let partitions = self.partitions_of(shard.number);
        let consumed = self.consumed_partitions(shard);
        let mut live_bytes: HashMap<*const Pack, u64> = HashMap::new();
        for partition in &partitions {
            let slot = consumed.get(&partition.id);
            for segment in &partition.lock().sealed {
                let bytes = slot.map_or(segment.bytes, |slot| unsettled_bytes(slot, segment));
                *live_bytes.entry(Arc::as_ptr(&segment.pack)).or_default() += bytes;
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
        let mut sources: Vec<Source> = Vec::new();
        for partition in partitions {
            let slot = consumed.get(&partition.id);
            // Where the segment before ended, if that is copied too and this one may join it.
            let mut end = None;
            for segment in &partition.lock().sealed {
                if !packs.iter().any(|pack| Arc::ptr_eq(pack, &segment.pack)) {
                    continue;
                }
                match sources.last_mut() {
                    Some(source) if slot.is_some() && end == Some(segment.first) => {
                        source.segments.push(segment.clone());
                    }
                    _ => sources.push(Source {
                        partition: partition.clone(),
                        segments: vec![segment.clone()],
                        consumed: slot.cloned(),
                    }),
                }
                end = Some(segment.next);
            }
        }
        sources.sort_unstable_by_key(|source| (source.partition.id, source.segments[0].first));
        sources
    }

    /// The maps of the groups that consume partitions of this shard. Not where something was rolled back, or may be: who
    /// reads must find the markers; nor where records are compacted, which is planned by what has holes.
    fn consumed_partitions(&self, shard: &Shard) -> HashMap<PartitionId, Arc<LeaseSlot>> {
        let mut consumed = HashMap::new();
        for topic in self.topics() {
            let group = match &*topic.settings.read() {
                TopicSettings { consumed_by: Some(group), compaction: None, .. } => group.clone(),
                _ => continue,
            };
            let group = GroupName { namespace: topic.namespace.clone(), group };
            for partition in topic.partitions.read().iter().filter(|partition| partition.shard == shard.number) {
                let is_plain = {
                    let state = partition.lock();
                    state.transactions.first_open().is_none() && state.transactions.all_aborted().is_empty()
                };
                let slot = if is_plain { shard.leases.get(&group, partition.id) } else { None };
                consumed.extend(slot.map(|slot| (partition.id, slot)));
            }
        }
        consumed
    }
}

/// About how many bytes of a segment are of messages that are not settled.
fn unsettled_bytes(slot: &LeaseSlot, segment: &Segment) -> u64 {
    let messages = u128::from((segment.next - segment.first).max(1));
    let settled = u128::from(slot.lock().map.settled_between(segment.first, segment.next - 1));
    // Never nothing: it is still there.
    ((u128::from(segment.bytes) * messages.saturating_sub(settled) / messages) as u64).max(1)
}

impl Source {
    /// Copies what is kept of the segments, verified.
    fn copy(&self, writer: &mut KeptWriter<'_>) -> io::Result<()> {
        let Source { partition, segments, consumed } = self;
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Ok(()) };
        let start = partition.bounds().map_or(first.first, |bounds| bounds.start_offset);
        let mut copied = Vec::new();
        for segment in segments {
            let mut old: Vec<IndexEntry> = Vec::new();
            // At least the last batch: a segment is never empty.
            let from = start.min(last.next - 1);
            if segment.next <= from {
                continue;
            }
            segment.entries(partition.id, from, &mut |entry| {
                old.push(*entry);
                true
            })?;
            if let Some(slot) = consumed {
                old.retain(|entry| {
                    let next = entry.next_offset();
                    next == last.next || !slot.lock().map.is_settled(entry.base_offset, next - 1)
                });
            }
            for entries in old.chunks(COPY_ENTRIES) {
                let mut batches = Vec::with_capacity(entries.len());
                read_entries(&segment.pack, partition.id, entries, &mut batches)
                    .map_err(|_| io::Error::from(ErrorKind::InvalidData))?;
                for batch in batches {
                    copied.push(writer.batch(partition.id, &batch.header, &batch.payload)?);
                }
            }
        }
        if copied.last().is_none_or(|entry| entry.next_offset() != last.next) {
            return Err(ErrorKind::InvalidData.into());
        }
        let has_holes = consumed.is_some() || segments.iter().any(|segment| segment.compacted);
        writer.segment(partition.id, first.first, has_holes, copied);
        Ok(())
    }
}
