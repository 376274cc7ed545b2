//! Buffers for large reads, used again and again.
//!
//! A new buffer of a megabyte is fresh memory that the kernel clears page by page and takes back when it is freed: that
//! cost more than the reading. A buffer comes back when the last batch that was sliced from it is dropped; those that
//! nobody has used for a while are given up ([`trim`]).

use bytes::Bytes;
use parking_lot::Mutex;

/// Size of the buffers that are kept.
pub const BUFFER_BYTES: usize = 1 << 20;

/// Smaller reads get memory of their own: the allocator keeps it, and a small batch should not hold a large buffer.
const SMALLEST_BYTES: usize = BUFFER_BYTES / 8;

/// Buffers kept while nobody uses them: as many as the largest answer that clients usually ask for has (50 MiB). With
/// fewer, a reader of many partitions would get most of his from the kernel each time.
const IDLE_MAX: usize = 50;

static IDLE: Mutex<Idle> = Mutex::new(Idle { buffers: Vec::new(), unused: 0 });

struct Idle {
    buffers: Vec<Vec<u8>>,
    /// So many were never needed since the last [`trim`].
    unused: usize,
}

/// A buffer that goes back where it came from.
struct Lent(Vec<u8>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut idle = IDLE.lock();
        if idle.buffers.len() < IDLE_MAX {
            idle.buffers.push(std::mem::take(&mut self.0));
        }
    }
}

impl Idle {
    fn take(&mut self) -> Option<Vec<u8>> {
        let buffer = self.buffers.pop();
        self.unused = self.unused.min(self.buffers.len());
        buffer
    }
}

/// Gives up the buffers that nobody has needed since it was called last.
pub fn trim() {
    let unneeded = {
        let mut idle = IDLE.lock();
        let unused = idle.unused;
        let unneeded: Vec<Vec<u8>> = idle.buffers.drain(..unused).collect();
        idle.unused = idle.buffers.len();
        unneeded
    };
    drop(unneeded);
}

/// The `length` bytes that `read` fills in; it must fill all of them, as they hold anything before.
pub fn read_into<E>(length: usize, read: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Bytes, E> {
    if !(SMALLEST_BYTES..=BUFFER_BYTES).contains(&length) {
        let mut bytes = vec![0; length];
        read(&mut bytes)?;
        return Ok(bytes.into());
    }
    let idle = IDLE.lock().take();
    let mut lent = Lent(idle.unwrap_or_else(|| vec![0; BUFFER_BYTES]));
    read(&mut lent.0[..length])?;
    Ok(Bytes::from_owner(lent).slice(..length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_but_not_while_they_are_held() {
        let fill = |with: u8, length: usize| {
            read_into(length, |bytes| {
                bytes.fill(with);
                Ok::<(), ()>(())
            })
            .unwrap()
        };
        for length in [0, 10, SMALLEST_BYTES, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1] {
            let held: Vec<Bytes> = (0..10).map(|with| fill(with, length).slice(length / 2..)).collect();
            for (with, bytes) in held.iter().enumerate() {
                assert_eq!(bytes.len(), length - length / 2);
                assert!(bytes.iter().all(|byte| *byte == with as u8));
            }
        }
        let kept = IDLE.lock().buffers.len();
        assert!((1..=IDLE_MAX).contains(&kept), "{kept}");
        assert_eq!(read_into(BUFFER_BYTES, |_| Err(7)), Err(7), "a failed read gives its buffer back");
        // Other tests may use some meanwhile; what is idle twice is given up.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !IDLE.lock().buffers.is_empty() {
            assert!(std::time::Instant::now() < deadline);
            trim();
        }
    }
}
