//! The database's file on the core's disk trait.

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;

use crate::disk::DiskFile;

pub struct Backend {
    file: Arc<dyn DiskFile>,
    /// Set by the first sync that fails: nothing that was written before it can be relied on any more.
    sync_failed: Arc<AtomicBool>,
}

impl Backend {
    pub fn new(file: Arc<dyn DiskFile>, sync_failed: Arc<AtomicBool>) -> Backend {
        Backend { file, sync_failed }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().inspect_err(|_| self.sync_failed.store(true, Ordering::SeqCst))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, &[IoSlice::new(data)])
    }
}
