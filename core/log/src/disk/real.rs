//! A directory of the operating system, locked against other processes.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Disk, DiskFile, write_zeros};

/// The file whose lock says that a process uses the directory.
const LOCK_NAME: &str = "LOCK";

/// Slices in one system call: the kernel's limit (`UIO_MAXIOV`).
const SLICES_MAX: usize = 1024;

/// Files under one directory. Only one such disk is there for a directory, in all processes of the machine.
pub struct RealDisk {
    root: PathBuf,
    lock: Arc<File>,
}

impl RealDisk {
    /// Opens the directory, making it if needed. `WouldBlock` if somebody else has it open.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<RealDisk> {
        let root = root.into();
        fs::create_dir_all(&root)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(root.join(LOCK_NAME))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                io::Error::new(ErrorKind::WouldBlock, format!("{} is in use by another process", root.display()))
            }
            TryLockError::Error(error) => error,
        })?;
        Ok(RealDisk { root, lock: Arc::new(lock) })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

/// The room on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub bytes: u64,
    /// What this process may still take.
    pub free_bytes: u64,
}

/// The room where a directory is.
pub fn space(directory: &Path) -> io::Result<Space> {
    let path = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: plain numbers, for which all zeros is a value.
    let mut told: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with a zero, and both outlive the call.
    if unsafe { libc::statvfs(path.as_ptr(), &mut told) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // On some systems they are narrower.
    #[allow(clippy::unnecessary_cast)]
    let [blocks, free, size] = [told.f_blocks as u64, told.f_bavail as u64, told.f_frsize as u64];
    Ok(Space { bytes: blocks * size, free_bytes: free * size })
}

impl Disk for RealDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.path(name))?;
        Ok(Arc::new(RealFile { file, _lock: self.lock.clone() }))
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        self.path(name).try_exists()
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(directory))? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
                && !(directory.is_empty() && name == LOCK_NAME)
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn create_directory(&self, directory: &str) -> io::Result<()> {
        let path = self.path(directory);
        if path.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&path)?;
        // The new directory's own name must survive too.
        let mut parent = path.parent();
        while let Some(at) = parent {
            sync_path(at)?;
            if at == self.root {
                break;
            }
            parent = at.parent();
        }
        Ok(())
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        sync_path(&self.path(directory))
    }
}

fn sync_path(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

struct RealFile {
    file: File,
    /// The directory stays locked while a file of it is open.
    _lock: Arc<File>,
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, mut offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        for chunk in slices.chunks(SLICES_MAX) {
            let written = write_vectored(&self.file, offset, chunk)?;
            let wanted: usize = chunk.iter().map(|slice| slice.len()).sum();
            if written < wanted {
                write_rest(&self.file, offset, chunk, written)?;
            }
            offset += wanted as u64;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    #[cfg(target_os = "linux")]
    fn begin_write_back(&self, offset: u64, length: u64) {
        // SAFETY: the descriptor is open; the call touches no memory of this process. It is only a hint: a failure
        // to write shows in the next sync.
        unsafe {
            libc::sync_file_range(
                self.file.as_raw_fd(),
                offset as libc::off64_t,
                length as libc::off64_t,
                libc::SYNC_FILE_RANGE_WRITE,
            )
        };
    }

    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        reserve(&self.file, offset, length)?;
        if self.len()? < offset + length { self.set_len(offset + length) } else { Ok(()) }
    }

    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        // Asked for at once, the blocks lie together, and a full disk says so before anything is written.
        reserve(&self.file, offset, length)?;
        #[cfg(target_os = "linux")]
        let written = super::direct::write_zeros(&self.file, offset, length);
        #[cfg(not(target_os = "linux"))]
        let written = 0;
        write_zeros(self, offset + written, length - written)
    }
}

/// Allocates blocks; no error where the file system cannot.
fn reserve(file: &File, offset: u64, length: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the descriptor is open; the call touches no memory of this process.
        let failed = unsafe { libc::fallocate(file.as_raw_fd(), 0, offset as libc::off_t, length as libc::off_t) } != 0;
        let error = io::Error::last_os_error();
        if failed && super::is_full(&error) {
            return Err(error);
        }
    }
    let _ = (file, offset, length);
    Ok(())
}

/// One pwritev, repeated if a signal interrupted it. Returns the bytes written.
fn write_vectored(file: &File, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let offset = libc::off_t::try_from(offset).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
    loop {
        // SAFETY: IoSlice is guaranteed to have the layout of iovec, the slices outlive the call, and their number is
        // at most SLICES_MAX.
        let written =
            unsafe { libc::pwritev(file.as_raw_fd(), slices.as_ptr().cast(), slices.len() as libc::c_int, offset) };
        if written >= 0 {
            return Ok(written as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Writes what a short vectored write left, slice by slice: rare, so simple.
fn write_rest(file: &File, offset: u64, slices: &[IoSlice<'_>], written: usize) -> io::Result<()> {
    let mut begin = 0;
    for slice in slices {
        let end = begin + slice.len();
        if end > written {
            let from = written.max(begin);
            file.write_all_at(&slice[from - begin..], offset + from as u64)?;
        }
        begin = end;
    }
    Ok(())
}
