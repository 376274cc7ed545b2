//! How callers wait for the engine: answers gathered from several shards, and fetches waiting for more to be published.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use core_rpc::Isolation;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

/// The answers of one request, filled in by one or more shards. When the last holder drops it unfinished, the caller is
/// told so.
pub struct Answers<T> {
    inner: Mutex<Gathering<T>>,
}

struct Gathering<T> {
    answers: Vec<T>,
    missing: usize,
    sender: Option<oneshot::Sender<Vec<T>>>,
}

impl<T> Answers<T> {
    /// `answers` holds the final answer of the slots that are already known, and anything in the `missing` others.
    pub fn new(answers: Vec<T>, missing: usize) -> (Arc<Answers<T>>, oneshot::Receiver<Vec<T>>) {
        let (sender, receiver) = oneshot::channel();
        let answers = Answers { inner: Mutex::new(Gathering { answers, missing, sender: Some(sender) }) };
        answers.send_if_complete();
        (Arc::new(answers), receiver)
    }

    /// Gives the answer of one slot, once.
    pub fn set(&self, slot: u32, answer: T) {
        {
            let mut inner = self.inner.lock();
            if let Some(place) = inner.answers.get_mut(slot as usize) {
                *place = answer;
            }
            inner.missing = inner.missing.saturating_sub(1);
        }
        self.send_if_complete();
    }

    fn send_if_complete(&self) {
        let mut inner = self.inner.lock();
        if inner.missing == 0
            && let Some(sender) = inner.sender.take()
        {
            // A caller that went away does not want the answers.
            let _ = sender.send(std::mem::take(&mut inner.answers));
        }
    }
}

/// A fetch that waits until enough was published in any of its partitions.
pub struct Waiter {
    missing_bytes: AtomicI64,
    /// Slots of the request in which something has changed, perhaps more than once.
    changed: Mutex<Vec<u32>>,
    notify: Notify,
}

/// A waiter as a partition knows it: the partition is this slot of the waiter's request.
pub struct Waiting {
    pub waiter: Arc<Waiter>,
    pub slot: u32,
    pub isolation: Isolation,
}

impl Waiter {
    pub fn new(missing_bytes: u64) -> Arc<Waiter> {
        Arc::new(Waiter {
            missing_bytes: AtomicI64::new(i64::try_from(missing_bytes).unwrap_or(i64::MAX)),
            changed: Mutex::default(),
            notify: Notify::new(),
        })
    }

    /// Some bytes were published in a slot's partition.
    pub fn published(&self, slot: u32, bytes: u64) {
        self.changed.lock().push(slot);
        let bytes = bytes as i64;
        if self.missing_bytes.fetch_sub(bytes, Ordering::AcqRel) <= bytes {
            self.notify.notify_one();
        }
    }

    /// A slot must be looked at again at once.
    pub fn wake(&self, slot: u32) {
        self.changed.lock().push(slot);
        self.notify.notify_one();
    }

    /// Waits until it is woken or the time is over. Returns the slots to look at again, each once.
    pub async fn wait(&self, wait: Duration) -> Vec<u32> {
        let _ = tokio::time::timeout(wait, self.notify.notified()).await;
        let mut changed = std::mem::take(&mut *self.changed.lock());
        changed.sort_unstable();
        changed.dedup();
        changed
    }
}
