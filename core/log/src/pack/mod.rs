//! Packs: files of journal entries of many partitions, with an index each.
//!
//! A pack is a file of fixed capacity that was written in full (with zeros, or in an earlier life) before its first
//! entry: writing into blocks that are there already costs a fraction of appending to a file. It is filled from byte 0
//! on, sealed, and from then on only read. `pack-<number>.log` lies in its shard's directory beside its index
//! `pack-<number>.index` ([`index`]); numbers rise and are never used twice, `spare-<number>.log` is a pack nobody
//! needs any more, to be filled again under another number.

pub mod entry;
pub mod index;
pub mod scan;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use core_rpc::PartitionId;
use parking_lot::RwLock;

use crate::disk::{Disk, DiskFile};
use entry::{EntryHead, Kind};
use index::{IndexEntry, PackIndex};

/// A pack that can be read. Whoever holds it keeps its bytes from being recycled.
pub struct Pack {
    pub number: u32,
    pub file: Arc<dyn DiskFile>,
    pub capacity: u64,
    /// Holds what lives on of other packs; no part of the journal, and numbered apart.
    pub kept: bool,
    /// Partitions that have a segment here; when it falls to 0 the pack can go.
    live: AtomicU32,
    index: RwLock<Option<PackIndex>>,
}

impl Pack {
    pub fn open(disk: &dyn Disk, directory: &str, number: u32) -> io::Result<Pack> {
        let file = disk.open(&log_name(directory, number))?;
        Ok(Pack::new(number, file.len()?, file))
    }

    pub fn new(number: u32, capacity: u64, file: Arc<dyn DiskFile>) -> Pack {
        Pack { number, file, capacity, kept: false, live: AtomicU32::new(0), index: RwLock::new(None) }
    }

    pub fn new_kept(number: u32, capacity: u64, file: Arc<dyn DiskFile>) -> Pack {
        Pack { kept: true, ..Pack::new(number, capacity, file) }
    }

    pub fn set_index(&self, index: PackIndex) {
        *self.index.write() = Some(index);
    }

    /// A partition has a segment here now.
    pub fn hold(&self) {
        self.live.fetch_add(1, Ordering::Relaxed);
    }

    /// A partition's segment here is gone. Returns whether it was the last.
    pub fn release(&self) -> bool {
        self.live.fetch_sub(1, Ordering::Relaxed) == 1
    }

    pub fn is_dead(&self) -> bool {
        self.live.load(Ordering::Relaxed) == 0
    }

    /// The entries of a partition's segment, which are `range` in the index and end before `until`, in offset order from
    /// the first that ends after `offset` on. `visit` gets each and says whether to go on.
    ///
    /// Where the index is damaged, the entries are found by reading the whole pack.
    pub fn entries(
        &self,
        partition: PartitionId,
        range: Range<u32>,
        offset: u64,
        until: u64,
        visit: &mut dyn FnMut(&IndexEntry) -> bool,
    ) -> io::Result<()> {
        let mut seen = offset;
        let read = match &*self.index.read() {
            Some(index) => index.visit(range, offset, &mut |entry| {
                seen = entry.next_offset();
                visit(entry)
            }),
            None => Err(io::Error::other("the pack has no index")),
        };
        read.or_else(|error| {
            tracing::warn!(pack = self.number, %error, "the index of a pack is damaged: reading the pack instead");
            let mut entries = Vec::new();
            scan::scan_sealed(&*self.file, self.number, 0, &mut |position, head, body| {
                if head.kind == Kind::Batch as u8 && head.partition == partition {
                    entries.extend(IndexEntry::of(position, body));
                }
            })?;
            entries.retain(|entry| entry.next_offset() > seen && entry.base_offset < until);
            entries.sort_unstable_by_key(|entry| entry.base_offset);
            entries.iter().all(visit);
            Ok(())
        })
    }
}

pub fn log_name(directory: &str, number: u32) -> String {
    format!("{directory}/pack-{number:08x}.log")
}

pub fn index_name(directory: &str, number: u32) -> String {
    format!("{directory}/pack-{number:08x}.index")
}

pub fn kept_log_name(directory: &str, number: u32) -> String {
    format!("{directory}/kept-{number:08x}.log")
}

pub fn kept_index_name(directory: &str, number: u32) -> String {
    format!("{directory}/kept-{number:08x}.index")
}

pub fn spare_name(directory: &str, number: u32) -> String {
    format!("{directory}/spare-{number:08x}.log")
}

/// Reads the number out of a name made by the functions above: `number_in(name, "pack-", ".log")`.
pub fn number_in(name: &str, prefix: &str, suffix: &str) -> Option<u32> {
    u32::from_str_radix(name.strip_prefix(prefix)?.strip_suffix(suffix)?, 16).ok()
}

/// Whether the bytes at the pack's start are an entry of this pack: it has been written to.
pub fn is_begun(file: &dyn DiskFile, number: u32) -> io::Result<bool> {
    let mut window = scan::Window::new(file)?;
    let Some(head) = window.get(0, entry::ENTRY_BYTES)?.and_then(EntryHead::read) else { return Ok(false) };
    if head.pack != number {
        return Ok(false);
    }
    let bytes = window.get(0, entry::ENTRY_BYTES + head.checked_bytes())?;
    Ok(bytes.is_some_and(|bytes| head.matches(bytes)))
}
