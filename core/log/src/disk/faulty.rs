//! A memory disk that fails where a test says.

use std::collections::HashMap;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;

use parking_lot::Mutex;

use super::memory::MemoryFile;
use super::{Disk, DiskFile, MemoryDisk, write_zeros};

/// What is counted and can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Read,
    /// Writes and changes of length.
    Write,
    Sync,
    /// New files, removes, renames and syncs of directories.
    Name,
}

/// A [`MemoryDisk`] with a plan of faults. Cloning shares both. `disk` is the disk beneath, to crash or look at.
#[derive(Clone, Default)]
pub struct FaultyDisk {
    pub disk: MemoryDisk,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Default)]
struct Plan {
    counts: HashMap<Operation, u64>,
    fail: HashMap<(Operation, u64), ErrorKind>,
    /// After so many writes, syncs and changes of names, the last of which takes no full effect, the power is out.
    crash_after: Option<u64>,
    crashed: bool,
    /// Reads in which one bit is flipped: (number of the read, bit).
    flips: HashMap<u64, u64>,
}

impl FaultyDisk {
    /// Faults over a disk.
    pub fn over(disk: MemoryDisk) -> Self {
        FaultyDisk { disk, plan: Arc::default() }
    }

    /// The n-th operation of this kind from now on (1: the next) fails. A sync that fails loses what was not synced.
    pub fn fail(&self, operation: Operation, n: u64, kind: ErrorKind) {
        let mut plan = self.plan.lock();
        let at = plan.counts.get(&operation).copied().unwrap_or(0) + n;
        plan.fail.insert((operation, at), kind);
    }

    /// Nothing that was to fail fails any more.
    pub fn mend(&self) {
        self.plan.lock().fail.clear();
    }

    /// The power goes out in the n-th changing operation from now on (1: the next): a write then is one of the unsynced
    /// changes, a sync has not happened; everything after fails.
    pub fn crash_in(&self, n: u64) {
        let mut plan = self.plan.lock();
        plan.crash_after = Some(plan.changes() + n);
    }

    /// Flips a bit of what the n-th read from now on (1: the next) returns.
    pub fn flip_read(&self, n: u64, bit: u64) {
        let mut plan = self.plan.lock();
        let at = plan.counts.get(&Operation::Read).copied().unwrap_or(0) + n;
        plan.flips.insert(at, bit);
    }

    /// Whether the power has gone out.
    pub fn crashed(&self) -> bool {
        self.plan.lock().crashed
    }

    /// How many changing operations (all but reads) there were.
    pub fn changes(&self) -> u64 {
        self.plan.lock().changes()
    }

    /// How many reads there were.
    pub fn reads(&self) -> u64 {
        self.plan.lock().counts.get(&Operation::Read).copied().unwrap_or(0)
    }

    /// Counts an operation. Ok(true): the power goes out in it.
    fn count(&self, operation: Operation) -> io::Result<bool> {
        let mut plan = self.plan.lock();
        if plan.crashed {
            return Err(io::Error::other("the power is out"));
        }
        let count = plan.counts.entry(operation).or_default();
        *count += 1;
        let at = (operation, *count);
        if let Some(kind) = plan.fail.remove(&at) {
            return Err(kind.into());
        }
        if operation != Operation::Read && plan.crash_after.is_some_and(|after| plan.changes() >= after) {
            plan.crashed = true;
            return Ok(true);
        }
        Ok(false)
    }

    /// Counts an operation that does nothing but change names, or is not to happen when the power goes out in it.
    fn count_whole(&self, operation: Operation) -> io::Result<()> {
        if self.count(operation)? { Err(io::Error::other("the power goes out")) } else { Ok(()) }
    }
}

impl Plan {
    fn changes(&self) -> u64 {
        self.counts.iter().filter(|(operation, _)| **operation != Operation::Read).map(|(_, count)| count).sum()
    }
}

impl Disk for FaultyDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        if !self.disk.exists(name)? {
            self.count_whole(Operation::Name)?;
        }
        Ok(Arc::new(FaultyFile { file: self.disk.open_file(name)?, faults: self.clone() }))
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        self.disk.exists(name)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.count_whole(Operation::Name)?;
        self.disk.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let crash = self.count(Operation::Name)?;
        self.disk.rename(from, to)?;
        if crash { Err(io::Error::other("the power goes out")) } else { Ok(()) }
    }

    fn create_directory(&self, directory: &str) -> io::Result<()> {
        self.disk.create_directory(directory)
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        self.count_whole(Operation::Name)?;
        self.disk.sync_directory(directory)
    }
}

struct FaultyFile {
    file: MemoryFile,
    faults: FaultyDisk,
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.faults.count(Operation::Read)?;
        self.file.read_at(offset, buffer)?;
        let mut plan = self.faults.plan.lock();
        let number = plan.counts.get(&Operation::Read).copied().unwrap_or(0);
        if let Some(bit) = plan.flips.remove(&number)
            && !buffer.is_empty()
        {
            let bit = bit % (buffer.len() as u64 * 8);
            buffer[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let crash = self.faults.count(Operation::Write)?;
        self.file.write_at(offset, slices)?;
        if crash { Err(io::Error::other("the power goes out")) } else { Ok(()) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let crash = self.faults.count(Operation::Write)?;
        self.file.set_len(len)?;
        if crash { Err(io::Error::other("the power goes out")) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.faults.count(Operation::Sync) {
            Ok(false) => self.file.sync_data(),
            Ok(true) => Err(io::Error::other("the power goes out")),
            Err(error) => {
                if !self.faults.crashed() {
                    self.faults.disk.lose_unsynced(self.file.inode);
                }
                Err(error)
            }
        }
    }
    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        write_zeros(self, offset, length)
    }
}
