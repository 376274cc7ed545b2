//! Zeros written past the page cache.
//!
//! A pack is filled with zeros before it is written, so that a sync of its entries has no block to allocate. Through
//! the page cache that costs as much as writing the entries themselves (some 2 ms of CPU per MiB with writeback,
//! measured on ext4), since each page is taken, copied into and written back; straight from one buffer it costs a
//! tenth.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// What direct I/O asks of addresses, offsets and lengths on every common disk.
const ALIGNMENT: u64 = 4096;
const CHUNK_BYTES: usize = 1 << 20;

#[repr(align(4096))]
struct Zeros([u8; CHUNK_BYTES]);
/// Read-only and all zero: the kernel backs it with pages only while it is read.
static ZEROS: Zeros = Zeros([0; CHUNK_BYTES]);

/// Writes zeros to the part of `offset..offset + length` that is aligned, from `offset` on. Returns how many bytes
/// were written: fewer, perhaps none, where the file system has no direct I/O or the range is not aligned.
pub fn write_zeros(file: &File, offset: u64, length: u64) -> u64 {
    if !offset.is_multiple_of(ALIGNMENT) {
        return 0;
    }
    let Ok(direct) = open(file) else { return 0 };
    let aligned = length - length % ALIGNMENT;
    let mut written = 0;
    while written < aligned {
        let chunk = (aligned - written).min(CHUNK_BYTES as u64) as usize;
        // Whatever the fault is, the caller meets it again, and reports it, on the ordinary way.
        if direct.write_all_at(&ZEROS.0[..chunk], offset + written).is_err() {
            break;
        }
        written += chunk as u64;
    }
    written
}

/// The same file, opened again for direct I/O.
fn open(file: &File) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_zero_and_the_rest_stays() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 3 << 20], 0).unwrap();
        let written = write_zeros(&file, 4096, (1 << 20) + 5000) as usize;
        // A file system without direct I/O writes nothing; any other all that is aligned.
        assert!(written == 0 || written == (1 << 20) + 4096, "{written}");
        let mut read = vec![0; 3 << 20];
        file.read_exact_at(&mut read, 0).unwrap();
        assert!(read[..4096].iter().all(|byte| *byte == 7));
        assert!(read[4096..4096 + written].iter().all(|byte| *byte == 0));
        assert!(read[4096 + written..].iter().all(|byte| *byte == 7));
        assert_eq!(write_zeros(&file, 1, 8192), 0);
    }
}
