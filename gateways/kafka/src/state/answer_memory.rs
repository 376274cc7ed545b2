//! The memory of answers with records that wait to be sent: a budget that all connections share.
//!
//! An answer to a fetch is in memory until its client has read it, and a client may read as slowly as it likes. So what
//! a fetch may bring is reserved before it is read, and given back when the answer is with the operating system. Nobody
//! gets more than a quarter of what is free: whoever comes later still finds room, however many have come before. Where
//! (almost) nothing is free a fetch brings [`WAITING_BYTES`] or the one batch that is always answered, so that all go
//! on, if slowly: slow readers cost each other time and not the gateway's memory.
//!
//! A fetch that waits for records reserves nothing (consumers that idle would take all): it may bring
//! [`WAITING_BYTES`], or three times as much as it wants to wait for (that much it does reserve). [`AnswerMemory::read`] reads what is there already with
//! all the room it can have, and waits with little where that was nothing.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What a fetch may bring in any case, bytes.
pub const WAITING_BYTES: u64 = 64 << 10;

/// Nobody gets more than what is free divided by this.
const SHARE: u64 = 4;

/// The budget.
#[derive(Debug)]
pub struct AnswerMemory {
    bytes_max: u64,
    used_bytes: AtomicU64,
}

/// A part of it, until it is dropped.
#[derive(Debug)]
pub struct Reserved {
    memory: Arc<AnswerMemory>,
    bytes: u64,
}

/// How much a read is to bring, and how long it may wait for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub bytes_min: u64,
    pub bytes_max: u64,
    pub wait: Duration,
}

/// What a read brought.
#[derive(Clone, Copy, Debug)]
pub struct Brought {
    pub bytes: u64,
    /// It is answered, even if it is less than was asked for.
    pub is_final: bool,
}

/// Whether a connection's last read brought much, so that there is probably more. It begins so.
#[derive(Debug)]
pub struct Backlog(AtomicBool);

impl Default for Backlog {
    fn default() -> Self {
        Backlog(AtomicBool::new(true))
    }
}

impl AnswerMemory {
    pub fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(AnswerMemory { bytes_max, used_bytes: AtomicU64::new(0) })
    }

    /// Bytes that are reserved now.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Nothing of it yet.
    pub fn nothing(self: &Arc<Self>) -> Reserved {
        Reserved { memory: self.clone(), bytes: 0 }
    }

    /// Room for so many bytes, or as many as may be had.
    fn reserve(self: &Arc<Self>, bytes: u64) -> Reserved {
        let granted = |used: u64| bytes.min((self.bytes_max.saturating_sub(used) / SHARE).max(WAITING_BYTES));
        let used =
            self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used + granted(used)));
        let (Ok(before) | Err(before)) = used;
        Reserved { memory: self.clone(), bytes: granted(before) }
    }

    /// Reads within the budget. `read` may be called twice: at first without waiting.
    pub async fn read<A, F: Future<Output = A>>(
        self: &Arc<Self>,
        backlog: &Backlog,
        asked: Limits,
        read: impl Fn(Limits) -> F,
        brought: impl Fn(&A) -> Brought,
    ) -> (A, Reserved) {
        let waits = !asked.wait.is_zero();
        if !waits || (backlog.0.load(Ordering::Relaxed) && asked.bytes_max > WAITING_BYTES) {
            let mut reserved = self.reserve(asked.bytes_max);
            let bytes_max = reserved.bytes;
            let answer = read(Limits { bytes_max, wait: Duration::ZERO, ..asked }).await;
            let Brought { bytes, is_final } = brought(&answer);
            backlog.0.store(bytes > WAITING_BYTES, Ordering::Relaxed);
            if !waits || is_final || bytes >= asked.bytes_min.min(bytes_max) {
                reserved.resize(bytes);
                return (answer, reserved);
            }
        }
        let mut reserved = match asked.bytes_min {
            ..=WAITING_BYTES => self.nothing(),
            // More than it waits for, so that one can see whether that was all.
            bytes_min => self.reserve(bytes_min.saturating_mul(3).min(asked.bytes_max)),
        };
        let bytes_max = reserved.bytes.max(WAITING_BYTES).min(asked.bytes_max);
        let answer = read(Limits { bytes_max, ..asked }).await;
        let Brought { bytes, .. } = brought(&answer);
        // With batches of any size, who finds more than fits gets more than half.
        backlog.0.store(bytes > bytes_max / 2, Ordering::Relaxed);
        reserved.resize(bytes);
        (answer, reserved)
    }
}

impl Reserved {
    /// So much it really is.
    fn resize(&mut self, bytes: u64) {
        self.memory.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.memory.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.memory.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const MIB: u64 = 1 << 20;
    const ASKED: Limits = Limits { bytes_min: 1, bytes_max: 50 * MIB, wait: Duration::from_millis(500) };

    /// Reads where so many bytes are. Returns what was brought, and the reads that it took.
    async fn read(memory: &Arc<AnswerMemory>, backlog: &Backlog, asked: Limits, there: u64) -> (Reserved, Vec<Limits>) {
        let reads = RefCell::new(Vec::new());
        let read = |limits: Limits| {
            reads.borrow_mut().push(limits);
            std::future::ready(there.min(limits.bytes_max))
        };
        let (_, reserved) = memory.read(backlog, asked, read, |bytes| Brought { bytes: *bytes, is_final: false }).await;
        (reserved, reads.into_inner())
    }

    #[tokio::test]
    async fn slow_readers_never_take_all() {
        let memory = AnswerMemory::new(256 * MIB);
        let mut held = Vec::new();
        for _ in 0..100 {
            let (reserved, reads) = read(&memory, &Backlog::default(), ASKED, u64::MAX).await;
            assert!(reads.len() == 1 && reserved.bytes >= WAITING_BYTES);
            held.push(reserved);
        }
        assert_eq!(held[0].bytes, 50 * MIB);
        assert!(memory.used_bytes() <= 256 * MIB + 100 * WAITING_BYTES, "{}", memory.used_bytes());
        assert_eq!(memory.used_bytes(), held.iter().map(|reserved| reserved.bytes).sum::<u64>());
        drop(held);
        assert_eq!(memory.used_bytes(), 0);
    }

    #[tokio::test]
    async fn who_waits_reserves_nothing() {
        let memory = AnswerMemory::new(MIB);
        let backlog = Backlog::default();
        let (first, reads) = read(&memory, &backlog, ASKED, 0).await;
        let at_once = Limits { bytes_max: MIB / SHARE, wait: Duration::ZERO, ..ASKED };
        let waiting = Limits { bytes_max: WAITING_BYTES, ..ASKED };
        assert_eq!((reads, first.bytes), (vec![at_once, waiting], 0));
        // It is where the log ends: it waits at once, until that brings much.
        assert_eq!(read(&memory, &backlog, ASKED, 100).await.1, [waiting]);
        assert_eq!(read(&memory, &backlog, ASKED, MIB).await.1, [waiting]);
        assert_eq!(read(&memory, &backlog, ASKED, MIB).await.1, [at_once]);
        // Who asks for little gets it as ever.
        let little = Limits { bytes_max: 1000, ..ASKED };
        assert_eq!(read(&memory, &Backlog::default(), little, 0).await.1, [little]);
        assert_eq!(memory.used_bytes(), 0);
    }

    #[tokio::test]
    async fn who_waits_for_much_may_bring_it() {
        let memory = AnswerMemory::new(16 * MIB);
        let asked = Limits { bytes_min: 2 * MIB, ..ASKED };
        let (reserved, reads) = read(&memory, &Backlog::default(), asked, MIB).await;
        assert_eq!((reads.len(), reads[1]), (2, Limits { bytes_max: 4 * MIB, ..asked }));
        assert_eq!((reserved.bytes, memory.used_bytes()), (MIB, MIB));
    }
}
