//! What a connection is to send that none of its requests asked for: deliveries, mostly.
//!
//! ```text
//!   dispatchers of many queues ── push ─►  Outbox  ── take ─► connection task: tags, frames, socket
//!                                └─ room ◄───────┘
//! ```
//! **How the connection task drains it.** Whenever it has less unsent than it wants (say 1 MiB), it calls [`Outbox::poll_take`],
//! which hands over all there is, in order, or remembers to wake the task. Each [`Unasked`] is then put into frames at
//! once: `Deliveries` by `Consuming::deliver`, which gives tags and remembers what is unacknowledged. What was taken gives
//! room back, and wakes the dispatchers that found none. When the connection ends it calls [`Outbox::close`] and has the
//! deliveries among what that returns given back to their queues ([`Parcel::give_back`]).
//!
//! What bounds it: a consumer gets nothing more while [`OUTBOX_BYTES_MAX`] wait here. So a connection that does not read
//! holds no more than that, and its queues' other consumers get what it does not take. Answers that must follow
//! deliveries (`cancel-ok`) go through here too, and are not counted: a connection waits for each.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use codec_amqp::{Method, ShortStr};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::parcel::Parcel;
use super::reply::DirectReply;
use crate::errors::Refusal;

/// Bytes of waiting deliveries from which on there is no room for more.
pub const OUTBOX_BYTES_MAX: usize = 1 << 20;

/// One thing to send.
#[derive(Debug)]
pub enum Unasked {
    Deliveries(Parcel),
    /// An answer to a direct reply-to request.
    DirectReply(Box<DirectReply>),
    /// A method that must come behind the deliveries before it.
    Method {
        channel: u16,
        method: Box<Method>,
    },
    /// The consumer's queue is gone: `basic.cancel`, if the client said that it knows it.
    Cancelled {
        channel: u16,
        channel_life: u64,
        consumer_tag: ShortStr,
    },
    /// Deliveries may be out for too long: the connection is to look.
    LookAtTimeouts {
        /// How long a delivery may be out where its queue says nothing, ms; None: for ever.
        default_ms: Option<u64>,
    },
    /// Something is wrong with a channel, or with the whole connection where the refusal is hard.
    Refused {
        channel: u16,
        refusal: Refusal,
    },
}

#[derive(Debug, Default)]
pub struct Outbox {
    /// Of deliveries: those that wait, and those that a dispatcher has taken room for.
    bytes: AtomicUsize,
    /// A dispatcher found no room.
    wanted: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Unasked>,
    /// For channels that are busy: until they are not.
    held_back: Vec<Unasked>,
    /// Of the connection task, when it found nothing.
    task: Option<Waker>,
    /// Of dispatchers that found no room.
    dispatchers: Vec<Arc<Notify>>,
    closed: bool,
}

impl Outbox {
    pub fn new() -> Arc<Outbox> {
        Arc::default()
    }

    /// Whether there is room. If not, `dispatcher` is woken when there is.
    pub fn has_room(&self, dispatcher: &Arc<Notify>) -> bool {
        if self.bytes.load(Ordering::SeqCst) < OUTBOX_BYTES_MAX {
            return true;
        }
        let mut inner = self.inner.lock();
        if inner.dispatchers.iter().all(|other| !Arc::ptr_eq(other, dispatcher)) {
            inner.dispatchers.push(dispatcher.clone());
        }
        self.wanted.store(true, Ordering::SeqCst);
        // It may have come meanwhile.
        self.bytes.load(Ordering::SeqCst) < OUTBOX_BYTES_MAX
    }

    /// Takes room for a delivery, which is then pushed. A single one may be larger than the room.
    pub fn take_room(&self, bytes: usize) -> bool {
        if self.bytes.load(Ordering::SeqCst) >= OUTBOX_BYTES_MAX {
            return false;
        }
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        true
    }

    /// Puts something behind what waits. Returned if the connection is gone.
    pub fn push(&self, unasked: Unasked) -> Result<(), Unasked> {
        let task = {
            let mut inner = self.inner.lock();
            if inner.closed {
                return Err(unasked);
            }
            inner.waiting.push_back(unasked);
            inner.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
        Ok(())
    }

    /// Takes all there is; if there is nothing, the task is woken when there is.
    pub fn poll_take(&self, context: &mut Context<'_>) -> Poll<VecDeque<Unasked>> {
        let mut inner = self.inner.lock();
        if inner.waiting.is_empty() {
            if inner.task.as_ref().is_none_or(|task| !task.will_wake(context.waker())) {
                inner.task = Some(context.waker().clone());
            }
            return Poll::Pending;
        }
        Poll::Ready(self.taken(&mut inner))
    }

    /// As [`Outbox::poll_take`], without waiting.
    pub fn take(&self) -> VecDeque<Unasked> {
        self.taken(&mut self.inner.lock())
    }

    /// Puts aside what was taken for channels that are busy. It takes its room again, until [`Outbox::resume`].
    pub fn hold_back(&self, taken: Vec<Unasked>) {
        if taken.is_empty() {
            return;
        }
        self.bytes.fetch_add(taken.iter().map(Unasked::bytes).sum(), Ordering::SeqCst);
        self.inner.lock().held_back.extend(taken);
    }

    /// A channel is busy no more: what was put aside for it is taken next, before what came later. For the connection's task
    /// alone, which is not woken.
    pub fn resume(&self, channel: u16) {
        let mut inner = self.inner.lock();
        if inner.held_back.is_empty() {
            return;
        }
        let (resumed, others): (Vec<_>, _) =
            std::mem::take(&mut inner.held_back).into_iter().partition(|unasked| unasked.channel() == Some(channel));
        inner.held_back = others;
        resumed.into_iter().rev().for_each(|unasked| inner.waiting.push_front(unasked));
    }

    /// Refuses what comes from now on, and returns what was not taken.
    pub fn close(&self) -> VecDeque<Unasked> {
        let mut inner = self.inner.lock();
        inner.closed = true;
        let held_back = std::mem::take(&mut inner.held_back);
        held_back.into_iter().rev().for_each(|unasked| inner.waiting.push_front(unasked));
        self.taken(&mut inner)
    }

    fn taken(&self, inner: &mut Inner) -> VecDeque<Unasked> {
        let waiting = std::mem::take(&mut inner.waiting);
        let bytes = waiting.iter().map(Unasked::bytes).sum();
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        if self.wanted.swap(false, Ordering::SeqCst) {
            inner.dispatchers.drain(..).for_each(|dispatcher| dispatcher.notify_one());
        }
        waiting
    }
}

impl Unasked {
    /// The channel for which it is. None: for the connection.
    pub fn channel(&self) -> Option<u16> {
        match self {
            Unasked::Deliveries(parcel) => Some(parcel.consumer.channel),
            Unasked::DirectReply(reply) => Some(reply.channel),
            Unasked::Method { channel, .. } | Unasked::Cancelled { channel, .. } => Some(*channel),
            Unasked::Refused { channel, refusal } => (!refusal.is_hard()).then_some(*channel),
            Unasked::LookAtTimeouts { .. } => None,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Unasked::Deliveries(parcel) => parcel.bytes,
            Unasked::DirectReply(reply) => reply.bytes,
            _ => 0,
        }
    }
}
