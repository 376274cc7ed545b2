//! The calls of a [`super::RemoteCore`]: which wait for a connection, which for their answer.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use codec_record::Batch;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::{RemoteOptions, connection};
use crate::wire::frame::Frame;
use crate::wire::message::{Answer, Request};
use crate::wire::outbox::Outbox;
use crate::wire::{APPEND_BYTES_MAX, Address, CALLS_MAX, LONG_POLLS_MAX, budget_kib};

/// A call got no answer: there is no connection, or it broke.
#[derive(Clone, Copy, Debug)]
pub struct Broken;

pub type CallResult = Result<(Answer, Vec<Batch>), Broken>;

/// What becomes of a call when the connection breaks under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBreak {
    /// It answers [`Broken`].
    Fail,
    /// It is sent again, once, in its order.
    SendAgain,
}

pub struct Calls {
    address: Address,
    pub options: RemoteOptions,
    next_call: AtomicU64,
    table: Mutex<Table>,
    /// A call waits for a connection, or the last user has left.
    pub wake: Notify,
    call_places: Arc<Semaphore>,
    poll_places: Arc<Semaphore>,
    append_budget: Arc<Semaphore>,
}

#[derive(Default)]
struct Table {
    /// By call id, which is the order in which they were asked.
    pending: BTreeMap<u64, Pending>,
    /// Frames for the next connection, in order; empty while there is one.
    waiting: VecDeque<Frame>,
    outbox: Option<Arc<Outbox>>,
    /// A task keeps the connection.
    kept: bool,
    left: bool,
}

struct Pending {
    answer: oneshot::Sender<CallResult>,
    again: Option<Frame>,
    /// Since when it waits for a connection, if it does.
    since: Instant,
    _permits: [Option<OwnedSemaphorePermit>; 2],
}

impl Calls {
    pub fn new(address: Address, options: RemoteOptions) -> Calls {
        Calls {
            address,
            options,
            next_call: AtomicU64::new(1),
            table: Mutex::default(),
            wake: Notify::new(),
            call_places: Arc::new(Semaphore::new(CALLS_MAX)),
            poll_places: Arc::new(Semaphore::new(LONG_POLLS_MAX)),
            append_budget: Arc::new(Semaphore::new(APPEND_BYTES_MAX >> 10)),
        }
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Makes a call: sends it, or queues it for the next connection, and waits for its answer. Waits before that
    /// while too much is in flight.
    pub async fn call(self: &Arc<Self>, request: &Request, batches: Vec<Batch>, on_break: OnBreak) -> CallResult {
        // Unconstrained: a call that could begin must not stand back for a fairness that would change the order.
        let budget = match batches.iter().map(Batch::stored_bytes).sum::<usize>() {
            0 => None,
            bytes => {
                let kib = budget_kib(bytes, APPEND_BYTES_MAX);
                Some(unconstrained(self.append_budget.clone().acquire_many_owned(kib)).await.map_err(|_| Broken)?)
            }
        };
        let long_poll = request.is_long_poll();
        let places = if long_poll { &self.poll_places } else { &self.call_places };
        let place = unconstrained(places.clone().acquire_owned()).await.map_err(|_| Broken)?;

        let call = self.next_call.fetch_add(1, Ordering::Relaxed);
        let frame = Frame::encode(call, request, batches).map_err(|error| {
            tracing::warn!(%error, "a call cannot be sent");
            Broken
        })?;
        let (sender, answer) = oneshot::channel();
        let again = (on_break == OnBreak::SendAgain).then(|| frame.clone());
        let pending = Pending { answer: sender, again, since: Instant::now(), _permits: [budget, Some(place)] };
        self.enqueue(call, frame, pending);

        let mut guard = long_poll.then(|| CancelOnDrop { calls: self, call, answered: false });
        let result = answer.await.unwrap_or(Err(Broken));
        if let Some(guard) = &mut guard {
            guard.answered = true;
        }
        result
    }

    fn enqueue(self: &Arc<Self>, call: u64, frame: Frame, pending: Pending) {
        let mut table = self.table.lock();
        table.pending.insert(call, pending);
        match &table.outbox {
            Some(outbox) => outbox.push(frame, None),
            None => {
                table.waiting.push_back(frame);
                if !table.kept {
                    table.kept = true;
                    tokio::spawn(connection::keep(self.clone()));
                }
                self.wake.notify_one();
            }
        }
    }

    /// Sends a message that has no answer anybody waits for, if there is a connection.
    pub fn tell(&self, request: &Request) {
        let call = self.next_call.fetch_add(1, Ordering::Relaxed);
        let outbox = self.table.lock().outbox.clone();
        if let (Some(outbox), Ok(frame)) = (outbox, Frame::encode(call, request, Vec::new())) {
            outbox.push(frame, None);
        }
    }

    pub fn answer(&self, call: u64, answer: Answer, batches: Vec<Batch>) {
        let pending = self.table.lock().pending.remove(&call);
        if let Some(pending) = pending {
            let result = match answer {
                Answer::Unavailable => Err(Broken),
                answer => Ok((answer, batches)),
            };
            // Who asked may have gone.
            let _ = pending.answer.send(result);
        }
    }

    /// There is a connection: what waited is sent.
    pub fn connected(&self, outbox: &Arc<Outbox>) {
        let mut table = self.table.lock();
        for frame in std::mem::take(&mut table.waiting) {
            outbox.push(frame, None);
        }
        table.outbox = Some(outbox.clone());
        if table.left {
            outbox.close();
        }
    }

    /// The connection broke: what was not sent waits for the next, and what may be sent again does; the rest fails.
    pub fn disconnected(&self) {
        let mut table = self.table.lock();
        let Some(outbox) = table.outbox.take() else { return };
        outbox.close();
        let mut unsent = outbox.take_unsent().into_iter().map(|frame| (frame.call, frame)).collect::<BTreeMap<_, _>>();
        let now = Instant::now();
        let mut failed = Vec::new();
        for (call, mut pending) in std::mem::take(&mut table.pending) {
            // A frame that was not sent keeps its right to be sent again; one that was uses it up.
            match unsent.remove(&call).or_else(|| pending.again.take()) {
                Some(frame) => {
                    table.waiting.push_back(frame);
                    table.pending.insert(call, Pending { since: now, ..pending });
                }
                None => failed.push(pending),
            }
        }
        drop(table);
        for pending in failed {
            let _ = pending.answer.send(Err(Broken));
        }
    }

    /// Fails what has waited for a connection for too long; returns when the next will have, if any waits.
    pub fn expire(&self, now: Instant) -> Option<Instant> {
        let wait_max = self.options.connection_wait_max;
        let mut table = self.table.lock();
        let mut failed = Vec::new();
        let mut next = None;
        for (call, pending) in std::mem::take(&mut table.pending) {
            let until = pending.since + wait_max;
            if until <= now {
                failed.push((call, pending));
            } else {
                next = Some(next.map_or(until, |next: Instant| next.min(until)));
                table.pending.insert(call, pending);
            }
        }
        let gone: HashSet<u64> = failed.iter().map(|(call, _)| *call).collect();
        table.waiting.retain(|frame| !gone.contains(&frame.call));
        drop(table);
        for (_, pending) in failed {
            let _ = pending.answer.send(Err(Broken));
        }
        next
    }

    /// The last user has gone: what was asked is still sent, then the connection ends.
    pub fn leave(&self) {
        let mut table = self.table.lock();
        table.left = true;
        if let Some(outbox) = &table.outbox {
            outbox.close();
        }
        self.wake.notify_one();
    }

    pub fn has_left(&self) -> bool {
        self.table.lock().left
    }

    pub fn has_waiting(&self) -> bool {
        !self.table.lock().waiting.is_empty()
    }

    /// Nobody keeps the connection any more; the next call finds somebody who does.
    pub fn abandoned(&self) {
        self.disconnected();
        let mut table = self.table.lock();
        table.kept = false;
        table.waiting.clear();
        let pending = std::mem::take(&mut table.pending);
        drop(table);
        for pending in pending.into_values() {
            let _ = pending.answer.send(Err(Broken));
        }
    }

    fn cancel(&self, call: u64) {
        let mut table = self.table.lock();
        if table.pending.remove(&call).is_none() {
            return;
        }
        table.waiting.retain(|frame| frame.call != call);
        drop(table);
        self.tell(&Request::Cancel { call });
    }
}

/// Tells the server when nobody waits for a long poll any more.
struct CancelOnDrop<'a> {
    calls: &'a Calls,
    call: u64,
    answered: bool,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.calls.cancel(self.call);
        }
    }
}
