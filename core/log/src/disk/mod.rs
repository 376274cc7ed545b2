//! All that the core asks of a disk: a directory of files with positioned reads and writes, and explicit syncs.
//!
//! Three implementations: [`RealDisk`] (a directory of the operating system), [`MemoryDisk`] (in memory, keeps apart
//! what was synced from what was not, and can crash), [`FaultyDisk`] (a memory disk that fails where a test says).
//! A name is a path relative to the disk's root, with `/` between its parts; a directory is such a path too, and
//! `""` is the root.

#[cfg(target_os = "linux")]
mod direct;
mod faulty;
mod memory;
mod random;
mod real;

use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;

pub use faulty::{FaultyDisk, Operation};
pub use memory::MemoryDisk;
pub use random::Random;
pub use real::{RealDisk, Space, space};

/// A root directory that no other process shares.
///
/// What changes names (open of a new file, remove, rename) survives a crash only after
/// [`Disk::sync_directory`] of the directory; before it, any part of these changes may.
pub trait Disk: Send + Sync {
    /// Opens a file for reading and writing, making an empty one if there is none. Its directory must be there.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    fn exists(&self, name: &str) -> io::Result<bool>;

    /// Names (without the directory) of the files in a directory, in no order.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;

    /// Removes a file; handles that are open stay usable.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Renames a file, replacing what has the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes a directory and its parents durably; no error if they are there.
    fn create_directory(&self, directory: &str) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_directory(&self, directory: &str) -> io::Result<()>;
}

/// An open file. All methods may be called from several threads at once.
///
/// What was written survives a crash for sure only after [`DiskFile::sync_data`]; before it each write may survive
/// whole, in part or not at all. After a failed sync nothing is known of the writes before it.
pub trait DiskFile: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills the whole buffer; `UnexpectedEof` if the file ends before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all the slices one after the other from `offset` on, growing the file if they reach beyond its end.
    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()>;

    /// Cuts the file, or grows it by a hole that reads as zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes contents and length durable.
    fn sync_data(&self) -> io::Result<()>;

    /// Asks that the writes in a range begin to go to the disk, so that a later sync has less to do. Promises nothing.
    fn begin_write_back(&self, _offset: u64, _length: u64) {}

    /// Takes room for a range that lies behind the end, without writing to it: at once, but a sync of what is written
    /// there first costs more than one of what lies over [`DiskFile::zero`]s.
    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        self.set_len(offset + length)
    }

    /// Writes zeros over a range, growing the file if needed, so that later writes there need no new blocks.
    fn zero(&self, offset: u64, length: u64) -> io::Result<()>;
}

/// Writes zeros from `offset` on.
fn write_zeros(file: &dyn DiskFile, offset: u64, length: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    const SLICES: usize = 16;
    let mut at = offset;
    let end = offset + length;
    while at < end {
        let mut left = (end - at).min((ZEROS.len() * SLICES) as u64);
        let next = at + left;
        let mut slices = [IoSlice::new(&[]); SLICES];
        for slice in &mut slices {
            let part = left.min(ZEROS.len() as u64);
            *slice = IoSlice::new(&ZEROS[..part as usize]);
            left -= part;
        }
        file.write_at(at, &slices)?;
        at = next;
    }
    Ok(())
}

/// Whether the error says that there is no space left: it may come back.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// The directory of a name: `a/b` of `a/b/c`, `""` of `c`.
fn directory_of(name: &str) -> &str {
    name.rfind('/').map_or("", |slash| &name[..slash])
}

/// Writes a whole file so that a crash leaves the old one, the new one or none: a temporary name, sync, rename, sync
/// of the directory.
pub fn write_whole(disk: &dyn Disk, name: &str, contents: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}.tmp");
    let file = disk.open(&temporary)?;
    let written = file
        .set_len(0)
        .and_then(|()| file.write_at(0, &[IoSlice::new(contents)]))
        .and_then(|()| file.sync_data())
        .and_then(|()| disk.rename(&temporary, name))
        .and_then(|()| disk.sync_directory(directory_of(name)));
    if written.is_err() {
        // Best effort: what is left over is removed when the engine opens next.
        let _ = disk.remove(&temporary);
    }
    written
}

/// Reads a whole file.
pub fn read_whole(disk: &dyn Disk, name: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(name)?;
    let mut contents = vec![0; file.len()? as usize];
    file.read_at(0, &mut contents)?;
    Ok(contents)
}

#[cfg(test)]
mod tests;
