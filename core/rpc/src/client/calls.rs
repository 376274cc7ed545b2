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
use crate::{AcquiredRange, GroupName, PartitionId, SettleRange, SettleRequest, Settlement};

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
    /// Calls with batches for which there is no room yet, in order.
    held: VecDeque<Held>,
    outbox: Option<Arc<Outbox>>,
    /// A task keeps the connection.
    kept: bool,
    left: bool,
}

/// A call that will be made when there is room.
struct Held {
    call: u64,
    frame: Frame,
    kib: u32,
    pending: Pending,
}

struct Pending {
    /// None: whoever asked has gone.
    answer: Option<oneshot::Sender<CallResult>>,
    /// Of an acquire: what it leased for somebody who has gone is given back.
    leasing: Option<Arc<Leasing>>,
    again: Option<Frame>,
    /// Since when it waits for a connection, if it does.
    since: Instant,
    permits: [Option<OwnedSemaphorePermit>; 2],
}

/// What an acquire names.
struct Leasing {
    group: GroupName,
    holder: String,
    partitions: Vec<PartitionId>,
}

impl Leasing {
    fn of(request: &Request) -> Option<Leasing> {
        let Request::Acquire(acquire) = request else { return None };
        let (group, holder, partitions) = (acquire.group.clone(), acquire.holder.clone(), acquire.partitions.clone());
        Some(Leasing { group, holder, partitions })
    }

    /// What gives back what an answer leased. None: that is nothing.
    fn give_back(&self, answer: Answer) -> Option<Request> {
        let Answer::Acquire(heads) = answer else { return None };
        let release = |range: AcquiredRange| SettleRange::new(range.first, range.last, Settlement::Release);
        let partitions: Vec<(PartitionId, Vec<SettleRange>)> = (self.partitions.iter().zip(heads))
            .filter_map(|(partition, head)| Some((*partition, head.ok()?.ranges.into_iter().map(release).collect())))
            .filter(|(_, ranges): &(_, Vec<_>)| !ranges.is_empty())
            .collect();
        let (group, holder) = (self.group.clone(), self.holder.clone());
        let settle = SettleRequest { group, holder, partitions, durable: false };
        (!settle.partitions.is_empty()).then_some(Request::Settle(settle))
    }
}

impl Pending {
    fn broke(self) {
        if let Some(answer) = self.answer {
            // Who asked may have gone.
            let _ = answer.send(Err(Broken));
        }
    }
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

    /// Makes a call: sends it, or queues it for the next connection, and waits for its answer. While too much is in flight
    /// it waits before that: one with batches in the order in which it was begun, whoever polls it or not.
    pub async fn call(self: &Arc<Self>, request: &Request, batches: Vec<Batch>, on_break: OnBreak) -> CallResult {
        let bytes = batches.iter().map(Batch::stored_bytes).sum::<usize>();
        let long_poll = request.is_long_poll();
        let place = match bytes {
            0 => {
                let places = if long_poll { &self.poll_places } else { &self.call_places };
                // Unconstrained: a call that could begin must not stand back for a fairness that would change the order.
                Some(unconstrained(places.clone().acquire_owned()).await.map_err(|_| Broken)?)
            }
            _ => None,
        };

        let call = self.next_call.fetch_add(1, Ordering::Relaxed);
        let frame = Frame::encode(call, request, batches).map_err(|error| {
            tracing::warn!(%error, "a call cannot be sent");
            Broken
        })?;
        let (sender, answer) = oneshot::channel();
        let again = (on_break == OnBreak::SendAgain).then(|| frame.clone());
        let leasing = Leasing::of(request).map(Arc::new);
        let (cancels, since) = (long_poll || leasing.is_some(), Instant::now());
        let pending = Pending { answer: Some(sender), leasing: leasing.clone(), again, since, permits: [None, place] };
        match bytes {
            0 => self.enqueue(call, frame, pending),
            bytes => self.hold(Held { call, frame, kib: budget_kib(bytes, APPEND_BYTES_MAX), pending }),
        }
        if !cancels {
            return answer.await.unwrap_or(Err(Broken));
        }
        let mut guard = CancelOnDrop { calls: self, call, leasing, answer, answered: false };
        let result = (&mut guard.answer).await.unwrap_or(Err(Broken));
        guard.answered = true;
        result
    }

    fn enqueue(self: &Arc<Self>, call: u64, frame: Frame, pending: Pending) {
        let mut table = self.table.lock();
        self.place(&mut table, call, frame, pending);
        self.keep(&mut table);
    }

    /// Sends a call with batches as soon as there is room for it, after those that wait already.
    fn hold(self: &Arc<Self>, held: Held) {
        let mut table = self.table.lock();
        table.held.push_back(held);
        self.admit(&mut table);
        self.keep(&mut table);
    }

    /// Sends the held calls for which there is room now. To be called wherever a call gives its room back; were it left
    /// to those who wait for an answer, the one that is polled next would go first.
    fn admit(&self, table: &mut Table) {
        while let Some(first) = table.held.front() {
            let Ok(room) = self.append_budget.clone().try_acquire_many_owned(first.kib) else { return };
            let Ok(place) = self.call_places.clone().try_acquire_owned() else { return };
            let Some(Held { call, frame, mut pending, .. }) = table.held.pop_front() else { return };
            // Whoever asked may have gone meanwhile.
            if pending.answer.as_ref().is_some_and(|answer| !answer.is_closed()) {
                pending.permits = [Some(room), Some(place)];
                pending.since = Instant::now();
                self.place(table, call, frame, pending);
            }
        }
    }

    fn place(&self, table: &mut Table, call: u64, frame: Frame, pending: Pending) {
        table.pending.insert(call, pending);
        match &table.outbox {
            Some(outbox) => outbox.push(frame, None),
            None => {
                table.waiting.push_back(frame);
                self.wake.notify_one();
            }
        }
    }

    /// Sees to it that somebody keeps a connection for what waits for one.
    fn keep(self: &Arc<Self>, table: &mut Table) {
        if table.outbox.is_none() && !table.kept {
            table.kept = true;
            tokio::spawn(connection::keep(self.clone()));
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

    pub fn answer(self: &Arc<Self>, call: u64, answer: Answer, batches: Vec<Batch>) {
        let mut table = self.table.lock();
        let Some(Pending { answer: waiting, leasing, permits, .. }) = table.pending.remove(&call) else { return };
        drop(permits);
        self.admit(&mut table);
        drop(table);
        let result = match answer {
            Answer::Unavailable => Err(Broken),
            answer => Ok((answer, batches)),
        };
        let untaken = match waiting {
            Some(waiting) => waiting.send(result).err(),
            None => Some(result),
        };
        if let (Some(Ok((answer, _))), Some(leasing)) = (untaken, leasing) {
            self.give_back(&leasing, answer);
        }
    }

    fn give_back(self: &Arc<Self>, leasing: &Leasing, answer: Answer) {
        if let Some(request) = leasing.give_back(answer) {
            self.ask(&request);
        }
    }

    /// Makes a call for whose answer nobody waits. It is made again if the connection breaks.
    fn ask(self: &Arc<Self>, request: &Request) {
        let call = self.next_call.fetch_add(1, Ordering::Relaxed);
        let Ok(frame) = Frame::encode(call, request, Vec::new()) else { return };
        let (again, since) = (Some(frame.clone()), Instant::now());
        self.enqueue(call, frame, Pending { answer: None, leasing: None, again, since, permits: [None, None] });
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
            if pending.leasing.is_some() && pending.answer.is_none() {
                // An acquire that was dropped: what is not made leases nothing.
                continue;
            }
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
        failed.into_iter().for_each(Pending::broke);
        self.admit(&mut self.table.lock());
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
        if failed.is_empty() {
            return next;
        }
        failed.into_iter().for_each(|(_, pending)| pending.broke());
        let mut table = self.table.lock();
        self.admit(&mut table);
        // Those that were held have waited for nothing yet.
        next.or_else(|| table.pending.values().map(|pending| pending.since + wait_max).min())
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
        let held = std::mem::take(&mut table.held);
        drop(table);
        pending.into_values().chain(held.into_iter().map(|held| held.pending)).for_each(Pending::broke);
    }

    /// Nobody waits for a call any more. `leases`: if it is sent, or will be, its answer is waited for all the same.
    fn cancel(&self, call: u64, leases: bool) {
        let mut table = self.table.lock();
        let Some(pending) = table.pending.get_mut(&call) else { return };
        pending.answer = None;
        let waits = table.waiting.iter().any(|frame| frame.call == call);
        if waits || !leases {
            table.pending.remove(&call);
        }
        table.waiting.retain(|frame| frame.call != call);
        self.admit(&mut table);
        drop(table);
        if !waits {
            self.tell(&Request::Cancel { call });
        }
    }
}

/// Tells the server when nobody waits for a long poll any more, and gives back what was leased for nobody.
struct CancelOnDrop<'a> {
    calls: &'a Arc<Calls>,
    call: u64,
    leasing: Option<Arc<Leasing>>,
    answer: oneshot::Receiver<CallResult>,
    answered: bool,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        // What comes from now on is not taken, and what has come is.
        self.answer.close();
        match (self.answer.try_recv(), &self.leasing) {
            (Ok(Ok((answer, _))), Some(leasing)) => self.calls.give_back(leasing, answer),
            _ => self.calls.cancel(self.call, self.leasing.is_some()),
        }
    }
}
