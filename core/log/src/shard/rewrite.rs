//! Rewriting sparse packs: a few batches that are still needed must not keep a whole pack.
//!
//! What lives on in packs that are mostly dead is copied into a *kept* pack, `kept-<number>.log` with an index like any
//! pack's; then the partitions' segments are exchanged, and the old packs fall free. A kept pack is written once and is no
//! part of the journal. Its index is durable before its log gets its name, and its log before a segment is exchanged: a
//! crash leaves both packs or the old one, and recovery takes of two equal segments the kept one.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use codec_record::BatchHeader;
use core_rpc::PartitionId;

use super::Shard;
use crate::cold::read_entries;
use crate::disk::DiskFile;
use crate::engine::Inner;
use crate::pack::entry::{ENTRY_BYTES, EntryHead, Kind};
use crate::pack::index::{IndexEntry, IndexPart, PackIndex};
use crate::pack::scan::scan_sealed;
use crate::pack::{Pack, kept_index_name, kept_log_name};
use crate::partition::{Partition, Segment};

/// A pack is sparse when less than one in so many of its bytes is needed.
const SPARSE: u64 = 4;

/// Entries copied at once.
const COPY_ENTRIES: usize = 64;

/// A segment to be copied.
struct Source {
    partition: Arc<Partition>,
    segment: Segment,
}

impl Inner {
    /// Copies what lives on in sparse packs, if that frees most of a pack. Does nothing when it fails but leave them.
    pub fn rewrite_sparse(&self, shard: &Shard) -> io::Result<()> {
        let mut kept_last = shard.kept_last.lock();
        let sources = self.sparse_segments(shard);
        if sources.is_empty() {
            return Ok(());
        }
        let number = *kept_last + 1;
        let (pack, parts) = self.write_kept(shard, number, &sources)?;
        *kept_last = number;
        let pack = Arc::new(pack);
        shard.kept.lock().insert(number, pack.clone());
        for (source, part) in sources.iter().zip(&parts) {
            source.partition.exchange(&source.segment, part, &pack);
        }
        drop(sources);
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
        // Recovery reads the journal from the oldest snapshot on: those packs stay anyway.
        let needed = shard.snapshot_pack.load(Ordering::Acquire);
        let mut packs: Vec<Arc<Pack>> = shard.kept.lock().values().cloned().collect();
        packs.extend(shard.packs.lock().range(..needed).map(|(_, pack)| pack.clone()));
        let mut freed = 0;
        let mut copied = 0;
        packs.retain(|pack| {
            let bytes = live_bytes.get(&Arc::as_ptr(pack)).copied().unwrap_or(0);
            let sparse = bytes > 0 && bytes * SPARSE < pack.capacity && copied + bytes <= self.config.pack_bytes / 2;
            if sparse {
                freed += pack.capacity - bytes;
                copied += bytes;
            }
            sparse
        });
        if freed < self.config.pack_bytes / 4 * 3 {
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

    /// Writes a kept pack and its index. The parts are those of the sources, in the same order.
    fn write_kept(&self, shard: &Shard, number: u32, sources: &[Source]) -> io::Result<(Pack, Vec<IndexPart>)> {
        let name = kept_log_name(&shard.directory, number);
        let temporary = format!("{name}.tmp");
        let file = self.disk.open(&temporary)?;
        let written = file.set_len(0).and_then(|()| {
            let mut copy = Copy { number, file: &*file, position: 0 };
            let parts = sources.iter().map(|source| Ok((source.partition.id, Arc::new(copy.segment(source)?))));
            let parts = parts.collect::<io::Result<Vec<_>>>()?;
            copy.end()?;
            let index = kept_index_name(&shard.directory, number);
            let (index, parts) = PackIndex::write(&*self.disk, &index, number, &parts)?;
            self.disk.rename(&temporary, &name)?;
            self.disk.sync_directory(&shard.directory)?;
            Ok((index, parts, copy.position))
        });
        match written {
            Ok((index, parts, capacity)) => {
                let pack = Pack::new_kept(number, capacity, file);
                pack.set_index(index);
                Ok((pack, parts))
            }
            Err(error) => {
                // What cannot be removed now is when the engine opens next: an index without a log, or a temporary file.
                let _ = self.disk.remove(&temporary);
                Err(error)
            }
        }
    }

    /// Opens a kept pack when the engine opens; makes its index again if that is damaged.
    pub fn open_kept(&self, shard: &Shard, number: u32) -> io::Result<()> {
        let file = self.disk.open(&kept_log_name(&shard.directory, number))?;
        let pack = Arc::new(Pack::new_kept(number, file.len()?, file));
        let name = kept_index_name(&shard.directory, number);
        let (index, parts) = PackIndex::open(&*self.disk, &name, number).or_else(|error| {
            tracing::warn!(shard = shard.number, kept = number, %error, "a kept pack's index is made again");
            PackIndex::write(&*self.disk, &name, number, &parts_of(&pack)?)
        })?;
        pack.set_index(index);
        for part in parts {
            if let Some(partition) = self.partition(part.partition) {
                partition.recover_sealed(&part, &pack);
            }
        }
        shard.kept.lock().insert(number, pack);
        Ok(())
    }
}

/// What is in a kept pack, as its index would say it: a partition has a part for each run of offsets.
fn parts_of(pack: &Pack) -> io::Result<Vec<(PartitionId, Arc<Vec<IndexEntry>>)>> {
    let mut entries: BTreeMap<(PartitionId, u64), IndexEntry> = BTreeMap::new();
    scan_sealed(&*pack.file, pack.number, 0, &mut |position, head, body| {
        if let Some(entry) = IndexEntry::of(position, body) {
            entries.insert((head.partition, entry.base_offset), entry);
        }
    })?;
    let mut parts: Vec<(PartitionId, Arc<Vec<IndexEntry>>)> = Vec::new();
    for ((partition, base_offset), entry) in entries {
        match parts.last_mut() {
            Some((last, run))
                if *last == partition && run.last().is_some_and(|last| last.next_offset() == base_offset) =>
            {
                Arc::make_mut(run).push(entry);
            }
            _ => parts.push((partition, Arc::new(vec![entry]))),
        }
    }
    Ok(parts)
}

/// Writes batches one after the other.
struct Copy<'a> {
    number: u32,
    file: &'a dyn DiskFile,
    position: u64,
}

impl Copy<'_> {
    /// Copies what is kept of a segment, verified. Returns where it lies now.
    fn segment(&mut self, source: &Source) -> io::Result<Vec<IndexEntry>> {
        let Source { partition, segment } = source;
        let start = partition.bounds().map_or(segment.first, |bounds| bounds.start_offset);
        let mut old: Vec<IndexEntry> = Vec::new();
        // At least the last batch: a part is never empty.
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
                copied.push(self.batch(partition.id, &batch.header, &batch.payload)?);
            }
        }
        if copied.is_empty() {
            return Err(ErrorKind::InvalidData.into());
        }
        Ok(copied)
    }

    fn batch(&mut self, partition: PartitionId, header: &BatchHeader, payload: &[u8]) -> io::Result<IndexEntry> {
        let entry = IndexEntry::new(self.position, header);
        let header = header.encode();
        let head = self.head(Kind::Batch, partition, entry.stored_bytes() as u32, &header);
        self.file.write_at(self.position, &[IoSlice::new(&head), IoSlice::new(&header), IoSlice::new(payload)])?;
        self.position = entry.range().1;
        Ok(entry)
    }

    fn end(&mut self) -> io::Result<()> {
        let head = self.head(Kind::Seal, crate::pack::entry::NO_PARTITION, 0, &[]);
        self.file.write_at(self.position, &[IoSlice::new(&head)])?;
        self.position += ENTRY_BYTES as u64;
        self.file.sync_data()
    }

    /// Kept packs have no runs: they are written once.
    fn head(&self, kind: Kind, partition: PartitionId, length: u32, checked: &[u8]) -> [u8; ENTRY_BYTES] {
        EntryHead { length, pack: self.number, run: 0, kind: kind as u8, partition }.encode(checked)
    }
}
