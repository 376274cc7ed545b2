//! Kept packs: what lives on of other packs, written again.
//!
//! `kept-<number>.log` has an index like any pack; it is written once and is no part of the journal. For each segment it
//! has the batches, then a cover entry that says which offsets they stand for. Its index is durable before its log gets
//! its name, and its log before a partition's segments are exchanged: a crash leaves the old packs, or both, and recovery
//! takes of two packs with the same offsets the kept one, and of two kept ones the newer.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;

use codec_record::BatchHeader;
use core_rpc::PartitionId;

use super::Shard;
use crate::disk::DiskFile;
use crate::engine::Inner;
use crate::pack::entry::{COVER_BYTES, CoverBody, EntryHead, Kind, NO_PARTITION};
use crate::pack::index::{IndexEntry, IndexPart, PackIndex, PartEntries};
use crate::pack::scan::scan_sealed;
use crate::pack::{Pack, kept_index_name, kept_log_name};

/// Batches are gathered up to this size for one write.
const WRITE_BYTES: usize = 1 << 20;

/// Synced in steps of this size: a writer's sync must not wait for a whole pack to reach the disk.
const SYNC_STEP_BYTES: u64 = 4 << 20;

/// A kept pack that is being written. Dropped before it is finished, it leaves nothing.
pub struct KeptWriter<'a> {
    inner: &'a Inner,
    shard: &'a Shard,
    number: u32,
    file: Arc<dyn DiskFile>,
    /// What is not written yet.
    buffer: Vec<u8>,
    written: u64,
    synced: u64,
    parts: Vec<PartEntries>,
    finished: bool,
}

impl<'a> KeptWriter<'a> {
    /// Begins a pack. The number must be the shard's next, and nobody else may write one meanwhile.
    pub fn new(inner: &'a Inner, shard: &'a Shard, number: u32) -> io::Result<KeptWriter<'a>> {
        let file = inner.disk.open(&temporary_name(shard, number))?;
        let buffer = Vec::new();
        let writer = KeptWriter {
            inner,
            shard,
            number,
            file,
            buffer,
            written: 0,
            synced: 0,
            parts: Vec::new(),
            finished: false,
        };
        writer.file.set_len(0)?;
        Ok(writer)
    }

    /// Where the next entry goes.
    pub fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Adds a batch; a segment made of what this returns must follow.
    pub fn batch(&mut self, partition: PartitionId, header: &BatchHeader, payload: &[u8]) -> io::Result<IndexEntry> {
        let entry = IndexEntry::new(self.position(), header);
        let header = header.encode();
        self.entry(Kind::Batch, partition, entry.stored_bytes() as u32, &header);
        self.buffer.extend_from_slice(payload);
        if self.buffer.len() >= WRITE_BYTES {
            self.write()?;
            if self.written - self.synced >= SYNC_STEP_BYTES {
                self.file.sync_data()?;
                self.synced = self.written;
            }
        }
        Ok(entry)
    }

    /// Ends a segment, which stands for the offsets from `first` to the end of its last batch.
    pub fn segment(&mut self, partition: PartitionId, first: u64, compacted: bool, entries: Vec<IndexEntry>) {
        let Some(last) = entries.last() else { return };
        let cover = CoverBody { first, next: last.next_offset(), compacted };
        self.entry(Kind::Cover, partition, COVER_BYTES as u32, &cover.encode());
        self.parts.push(PartEntries { partition, entries: Arc::new(entries), cover: Some(cover) });
    }

    /// Makes the pack durable and known. The parts are those of the segments, in their order; no partition reads there yet.
    /// The pack is held until the caller, who has the partitions read there, releases it.
    pub fn finish(mut self) -> io::Result<(Arc<Pack>, Vec<IndexPart>)> {
        self.entry(Kind::Seal, NO_PARTITION, 0, &[]);
        self.write()?;
        self.file.sync_data()?;
        let (shard, number, disk) = (self.shard, self.number, &*self.inner.disk);
        let (index, parts) = PackIndex::write(disk, &kept_index_name(&shard.directory, number), number, &self.parts)?;
        disk.rename(&temporary_name(shard, number), &kept_log_name(&shard.directory, number))?;
        // From here on it may be there after a crash: it must stay as it is.
        self.finished = true;
        disk.sync_directory(&shard.directory)?;
        let pack = Arc::new(Pack::new_kept(number, self.written, self.file.clone()));
        pack.set_index(index);
        pack.hold();
        shard.kept.lock().insert(number, pack.clone());
        Ok((pack, parts))
    }

    /// Kept packs have no runs: they are written once.
    fn entry(&mut self, kind: Kind, partition: PartitionId, length: u32, checked: &[u8]) {
        let head = EntryHead { length, pack: self.number, run: 0, kind: kind as u8, partition };
        self.buffer.extend_from_slice(&head.encode(checked));
        self.buffer.extend_from_slice(checked);
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_at(self.written, &[IoSlice::new(&self.buffer)])?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Drop for KeptWriter<'_> {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed now is when the engine opens next: an index without a log, or a temporary file.
            let _ = self.inner.disk.remove(&temporary_name(self.shard, self.number));
        }
    }
}

fn temporary_name(shard: &Shard, number: u32) -> String {
    format!("{}.tmp", kept_log_name(&shard.directory, number))
}

impl Inner {
    /// Opens a kept pack when the engine opens, the newest first; makes its index again if that is damaged.
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
                partition.recover_sealed(&part, &pack)?;
            }
        }
        shard.kept.lock().insert(number, pack);
        Ok(())
    }
}

/// What is in a kept pack, as its index would say it.
fn parts_of(pack: &Pack) -> io::Result<Vec<PartEntries>> {
    let mut entries: BTreeMap<(PartitionId, u64), IndexEntry> = BTreeMap::new();
    let mut covers: Vec<(PartitionId, CoverBody)> = Vec::new();
    scan_sealed(&*pack.file, pack.number, 0, &mut |position, head, body| {
        if head.kind == Kind::Cover as u8 {
            covers.extend(CoverBody::decode(body).map(|cover| (head.partition, cover)));
        } else if let Some(entry) = IndexEntry::of(position, body) {
            entries.insert((head.partition, entry.base_offset), entry);
        }
    })?;
    let mut parts = Vec::with_capacity(covers.len());
    for (partition, cover) in covers {
        let range = (partition, cover.first)..(partition, cover.next);
        let keys: Vec<_> = entries.range(range).map(|(key, _)| *key).collect();
        let covered: Vec<IndexEntry> = keys.iter().filter_map(|key| entries.remove(key)).collect();
        parts.push(PartEntries { partition, entries: Arc::new(covered), cover: Some(cover) });
    }
    // Without their cover entry, of which an earlier version wrote none: a part for each run of offsets.
    for ((partition, base_offset), entry) in entries {
        match parts.last_mut() {
            Some(PartEntries { partition: last, entries: run, cover: None })
                if *last == partition && run.last().is_some_and(|last| last.next_offset() == base_offset) =>
            {
                Arc::make_mut(run).push(entry);
            }
            _ => parts.push(PartEntries { partition, entries: Arc::new(vec![entry]), cover: None }),
        }
    }
    Ok(parts)
}
