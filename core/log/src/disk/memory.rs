//! A disk in memory that knows what was synced, and can crash.
//!
//! Every file has a *durable* image and the list of changes made since its last sync; the *volatile* image, which
//! reads see, is both together. The names of files are kept in the same two ways, per directory. [`MemoryDisk::crash`]
//! makes the disk that a machine could find after a power cut: each change that was not synced is there whole, not at
//! all, or (writes) in any subset of its 512-byte sectors; changes of one file's name are lost from some point on.

use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, DiskFile, Random, directory_of, write_zeros};

/// What a disk writes atomically.
const SECTOR_BYTES: u64 = 512;

/// Cloning shares the disk.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    names: HashMap<String, u64>,
    durable_names: HashMap<String, u64>,
    pending_names: Vec<NameChange>,
    inodes: HashMap<u64, Inode>,
    inode_last: u64,
    /// The sum of all files' lengths may not grow beyond it.
    capacity_bytes: Option<u64>,
}

#[derive(Clone)]
enum NameChange {
    Create { name: String, inode: u64 },
    Remove { name: String, inode: u64 },
    Rename { from: String, to: String, inode: u64 },
}

#[derive(Default)]
struct Inode {
    volatile: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
}

impl MemoryDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// The disk after a power cut now; `seed` chooses what of the unsynced changes is there. This disk goes on as if
    /// nothing had happened: whoever still writes to it does so unseen.
    pub fn crash(&self, seed: u64) -> MemoryDisk {
        let mut random = Random(seed);
        let state = self.state.lock();
        let mut names = state.durable_names.clone();
        // File systems keep the order of the changes to one file: what comes after a lost one is lost too.
        let mut lost = HashSet::new();
        for change in &state.pending_names {
            let (NameChange::Create { inode, .. }
            | NameChange::Remove { inode, .. }
            | NameChange::Rename { inode, .. }) = change;
            if random.below(2) == 0 || lost.contains(inode) {
                lost.insert(*inode);
            } else {
                apply_name(&mut names, change);
            }
        }
        let mut inodes = HashMap::new();
        let mut in_order: Vec<_> = names.values().copied().collect();
        in_order.sort_unstable();
        for id in in_order {
            let old = &state.inodes[&id];
            let mut image = old.durable.clone();
            for change in &old.pending {
                apply_torn(&mut image, change, &mut random);
            }
            inodes.insert(id, Inode { volatile: image.clone(), durable: image, pending: Vec::new() });
        }
        let state = State {
            durable_names: names.clone(),
            names,
            pending_names: Vec::new(),
            inodes,
            inode_last: state.inode_last,
            capacity_bytes: state.capacity_bytes,
        };
        MemoryDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// Lets the files grow to no more than this in all. None: no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity_bytes = bytes;
    }

    /// The sum of all files' lengths.
    pub fn used_bytes(&self) -> u64 {
        let state = self.state.lock();
        state.names.values().map(|inode| state.inodes[inode].volatile.len() as u64).sum()
    }

    /// Flips one bit of a stored byte, durably: a medium that rots.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) -> io::Result<()> {
        let mut state = self.state.lock();
        let inode = *state.names.get(name).ok_or(ErrorKind::NotFound)?;
        let inode = state.inodes.get_mut(&inode).ok_or(ErrorKind::NotFound)?;
        for image in [&mut inode.volatile, &mut inode.durable] {
            if let Some(byte) = image.get_mut(offset as usize) {
                *byte ^= 1 << (bit % 8);
            }
        }
        Ok(())
    }

    /// Forgets what was written to the file since its last sync, as a kernel does whose write-back failed.
    pub(super) fn lose_unsynced(&self, inode: u64) {
        if let Some(inode) = self.state.lock().inodes.get_mut(&inode) {
            inode.pending.clear();
            inode.volatile = inode.durable.clone();
        }
    }

    pub(super) fn open_file(&self, name: &str) -> io::Result<MemoryFile> {
        let mut state = self.state.lock();
        let inode = match state.names.get(name) {
            Some(inode) => *inode,
            None => {
                state.inode_last += 1;
                let inode = state.inode_last;
                state.inodes.insert(inode, Inode::default());
                state.names.insert(name.to_owned(), inode);
                state.pending_names.push(NameChange::Create { name: name.to_owned(), inode });
                inode
            }
        };
        Ok(MemoryFile { disk: self.clone(), inode })
    }
}

impl Disk for MemoryDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(self.open_file(name)?))
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        Ok(self.state.lock().names.contains_key(name))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        let inside = state.names.keys().filter(|name| directory_of(name) == directory);
        let skip = if directory.is_empty() { 0 } else { directory.len() + 1 };
        Ok(inside.map(|name| name[skip..].to_owned()).collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let inode = state.names.remove(name).ok_or(ErrorKind::NotFound)?;
        state.pending_names.push(NameChange::Remove { name: name.to_owned(), inode });
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let inode = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), inode);
        state.pending_names.push(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        Ok(())
    }

    fn create_directory(&self, _directory: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let changes = std::mem::take(&mut state.pending_names);
        for change in changes {
            let (NameChange::Create { name, .. }
            | NameChange::Remove { name, .. }
            | NameChange::Rename { to: name, .. }) = &change;
            if directory_of(name) == directory {
                apply_name(&mut state.durable_names, &change);
            } else {
                state.pending_names.push(change);
            }
        }
        Ok(())
    }
}

pub(super) struct MemoryFile {
    disk: MemoryDisk,
    pub(super) inode: u64,
}

impl MemoryFile {
    fn with<T>(&self, work: impl FnOnce(&mut Inode) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state.lock();
        work(state.inodes.get_mut(&self.inode).ok_or(ErrorKind::NotFound)?)
    }

    /// Refuses growth to `len` if the disk has no room for it.
    fn grow(&self, len: u64) -> io::Result<()> {
        let state = self.disk.state.lock();
        let Some(capacity) = state.capacity_bytes else { return Ok(()) };
        let old = state.inodes.get(&self.inode).map_or(0, |inode| inode.volatile.len() as u64);
        let used: u64 = state.inodes.values().map(|inode| inode.volatile.len() as u64).sum();
        if len > old && used - old + len > capacity {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl DiskFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|inode| Ok(inode.volatile.len() as u64))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.with(|inode| {
            let begin = offset as usize;
            let bytes = inode.volatile.get(begin..begin + buffer.len()).ok_or(ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let bytes = slices.iter().map(|slice| &slice[..]).collect::<Vec<_>>().concat();
        self.grow(offset + bytes.len() as u64)?;
        self.with(|inode| {
            write_image(&mut inode.volatile, offset, &bytes);
            inode.pending.push(Change::Write { offset, bytes });
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.grow(len)?;
        self.with(|inode| {
            inode.volatile.resize(len as usize, 0);
            inode.pending.push(Change::SetLen(len));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|inode| {
            for change in std::mem::take(&mut inode.pending) {
                match change {
                    Change::Write { offset, bytes } => write_image(&mut inode.durable, offset, &bytes),
                    Change::SetLen(len) => inode.durable.resize(len as usize, 0),
                }
            }
            Ok(())
        })
    }

    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        write_zeros(self, offset, length)
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        // Keeps long test runs small: a file without a name and without a durable name is gone when closed. Other
        // handles of it would keep its inode alive on a real disk; here they get NotFound, which no code relies on.
        let mut state = self.disk.state.lock();
        let inode = self.inode;
        let named = state.names.values().chain(state.durable_names.values()).any(|named| *named == inode)
            || state.pending_names.iter().any(|change| {
                matches!(change, NameChange::Create { inode: of, .. } | NameChange::Rename { inode: of, .. } if *of == inode)
            });
        if !named {
            state.inodes.remove(&inode);
        }
    }
}

fn write_image(image: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let begin = offset as usize;
    let end = begin + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[begin..end].copy_from_slice(bytes);
}

fn apply_name(names: &mut HashMap<String, u64>, change: &NameChange) {
    match change {
        NameChange::Create { name, inode } => {
            names.insert(name.clone(), *inode);
        }
        NameChange::Remove { name, inode } => {
            if names.get(name) == Some(inode) {
                names.remove(name);
            }
        }
        NameChange::Rename { from, to, inode } => {
            if names.get(from) == Some(inode) {
                names.remove(from);
            }
            names.insert(to.clone(), *inode);
        }
    }
}

fn apply_torn(image: &mut Vec<u8>, change: &Change, random: &mut Random) {
    let choice = random.below(3);
    match change {
        Change::SetLen(len) if choice > 0 => image.resize(*len as usize, 0),
        Change::Write { offset, bytes } if choice == 1 => write_image(image, *offset, bytes),
        Change::Write { offset, bytes } if choice == 2 => {
            let end = offset + bytes.len() as u64;
            let mut at = *offset;
            while at < end {
                let next = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
                if random.below(2) == 0 {
                    write_image(image, at, &bytes[(at - offset) as usize..(next - offset) as usize]);
                }
                at = next;
            }
        }
        _ => {}
    }
}
