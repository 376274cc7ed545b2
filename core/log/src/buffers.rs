//! Buffers for large reads, used again and again.
//!
//! A new buffer of a megabyte is fresh memory that the kernel clears page by page and takes back when it is freed: that
//! cost more than the reading. A buffer comes back when the last batch that was sliced from it is dropped.

use bytes::Bytes;
use parking_lot::Mutex;

/// Size of the buffers that are kept.
pub const BUFFER_BYTES: usize = 1 << 20;

/// Smaller reads get memory of their own: the allocator keeps it, and a small batch should not hold a large buffer.
const SMALLEST_BYTES: usize = BUFFER_BYTES / 8;

/// Buffers kept while nobody uses them: what an idle engine may hold on to.
const IDLE_MAX: usize = 4;

static IDLE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

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
        if idle.len() < IDLE_MAX {
            idle.push(std::mem::take(&mut self.0));
        }
    }
}

/// The `length` bytes that `read` fills in; it must fill all of them, as they hold anything before.
pub fn read_into<E>(length: usize, read: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Bytes, E> {
    if !(SMALLEST_BYTES..=BUFFER_BYTES).contains(&length) {
        let mut bytes = vec![0; length];
        read(&mut bytes)?;
        return Ok(bytes.into());
    }
    let idle = IDLE.lock().pop();
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
        assert!(IDLE.lock().len() <= IDLE_MAX);
        assert_eq!(read_into(BUFFER_BYTES, |_| Err(7)), Err(7), "a failed read gives its buffer back");
    }
}
