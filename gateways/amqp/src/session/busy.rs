//! Channels that wait for the core, while the others of their connection go on.
//!
//! ```text
//! method ─► waits until what was published before it is answered ─► its handler has the channel ─► replies, the channel back
//!    └─ frames of that channel that come meanwhile ─► its backlog ─────────────────────────────────► taken, in order
//! ```
//! In RabbitMQ each channel is a process. Here one task serves the connection; a handler that has to wait is kept here with its
//! channel and polled beside everything else: frames of other channels are taken, deliveries and confirms are sent.
//! Deliveries to the channel itself are held back in the outbox, so that they come behind the answer.
//!
//! What bounds it: so many handlers at once ([`HANDLERS_MAX`]), later ones wait; and so many bytes of frames
//! ([`BACKLOG_BYTES_MAX`]), then nothing more is read.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use codec_amqp::{Method, Outgoing, queue};
use core_rpc::Core;

use super::frames::Fault;
use crate::Gateway;
use crate::handlers::{self, Request};
use crate::state::channel::{Channel, Settles};
use crate::state::queues;
use crate::state::registry::Connection;

/// Handlers of one connection that wait for the core at once.
const HANDLERS_MAX: usize = 16;

/// Frames that wait for their channel, of all channels.
const BACKLOG_BYTES_MAX: usize = 1 << 20;

/// Class and method of queue.declare.
const DECLARE: (u16, u16) = (50, 10);

/// What is done on a channel, and may take a while.
pub(super) enum Work {
    Method(Method),
    /// Several that came one behind the other.
    Declares(Vec<queue::Declare>),
    /// The client closes the channel.
    Close,
    /// The channel is closed for what the client did.
    Refuse(Fault),
}

/// Work that is done.
pub(super) enum Done {
    Handled {
        channel: Box<Channel>,
        replies: Outgoing,
        settles: Settles,
        handled: Result<(), Fault>,
    },
    /// The channel has given back what it held.
    Left {
        number: u16,
        /// Why, if it was not the client's wish.
        fault: Option<Fault>,
    },
}

/// Work under way.
pub(super) type Working = Pin<Box<dyn Future<Output = Done> + Send>>;

/// The channels of a connection that are busy, or have a backlog.
#[derive(Default)]
pub(super) struct Busy {
    channels: Vec<BusyChannel>,
    backlog_bytes: usize,
}

struct BusyChannel {
    number: u16,
    stage: Stage,
    /// Whole frames that came meanwhile.
    backlog: BytesMut,
}

enum Stage {
    /// Until so many rounds of what the connection publishes are answered.
    Waits {
        behind: u64,
        work: Work,
    },
    Works(Working),
    /// Its backlog is to be taken.
    Idle,
}

impl Busy {
    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Whether frames of this channel must wait.
    pub(super) fn has(&self, number: u16) -> bool {
        self.channels.iter().any(|channel| channel.number == number)
    }

    /// Whether so much waits that nothing more may be read.
    pub(super) fn is_full(&self) -> bool {
        self.backlog_bytes >= BACKLOG_BYTES_MAX
    }

    /// Whether another handler may begin.
    pub(super) fn has_room(&self) -> bool {
        self.channels.iter().filter(|channel| matches!(channel.stage, Stage::Works(_))).count() < HANDLERS_MAX
    }

    /// Has a frame wait, which is whole.
    pub(super) fn put_off(&mut self, number: u16, frame: &[u8]) {
        if let Some(channel) = self.channels.iter_mut().find(|channel| channel.number == number) {
            channel.backlog.extend_from_slice(frame);
            self.backlog_bytes += frame.len();
        }
    }

    /// Whether frames wait whose channel is free.
    pub(super) fn has_backlog(&self) -> bool {
        self.channels.iter().any(|channel| matches!(channel.stage, Stage::Idle))
    }

    /// The frames of a channel that is free now. What is not taken of them is to be put back.
    pub(super) fn take_backlog(&mut self) -> Option<(u16, BytesMut)> {
        let at = self.channels.iter().position(|channel| matches!(channel.stage, Stage::Idle))?;
        let BusyChannel { number, backlog, .. } = self.channels.remove(at);
        self.backlog_bytes -= backlog.len();
        Some((number, backlog))
    }

    pub(super) fn put_back(&mut self, number: u16, backlog: BytesMut) {
        if backlog.is_empty() {
            return;
        }
        self.backlog_bytes += backlog.len();
        match self.channels.iter_mut().find(|channel| channel.number == number) {
            Some(channel) => channel.backlog = backlog,
            None => self.channels.push(BusyChannel { number, stage: Stage::Idle, backlog }),
        }
    }

    /// Has work wait for the answers of so many rounds.
    pub(super) fn wait(&mut self, number: u16, behind: u64, work: Work) {
        self.set(number, Stage::Waits { behind, work });
    }

    pub(super) fn work(&mut self, number: u16, working: Working) {
        self.set(number, Stage::Works(working));
    }

    fn set(&mut self, number: u16, stage: Stage) {
        match self.channels.iter_mut().find(|channel| channel.number == number) {
            Some(channel) => channel.stage = stage,
            None => self.channels.push(BusyChannel { number, stage, backlog: BytesMut::new() }),
        }
    }

    /// The channel is not there any more: what waits for its turn on it is forgotten.
    pub(super) fn forget(&mut self, number: u16) {
        self.idle(|channel| channel.number == number && matches!(channel.stage, Stage::Waits { .. }));
    }

    /// As the connection ends: nothing new begins.
    pub(super) fn forget_all_that_wait(&mut self) {
        self.channels.retain(|channel| matches!(channel.stage, Stage::Works(_)));
    }

    /// The work whose turn it is, when so many rounds are answered.
    pub(super) fn next_turn(&mut self, answered: u64) -> Option<(u16, Work)> {
        if !self.has_room() {
            return None;
        }
        let is_next =
            |channel: &BusyChannel| matches!(channel.stage, Stage::Waits { behind, .. } if behind <= answered);
        let channel = self.channels.iter_mut().find(|channel| is_next(channel))?;
        match std::mem::replace(&mut channel.stage, Stage::Idle) {
            Stage::Waits { work, .. } => Some((channel.number, work)),
            _ => None,
        }
    }

    /// Goes on with what is under way, and returns what is done.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Vec<Done> {
        let mut done = Vec::new();
        for channel in &mut self.channels {
            if let Stage::Works(working) = &mut channel.stage
                && let Poll::Ready(one) = working.as_mut().poll(context)
            {
                done.push(one);
                channel.stage = Stage::Idle;
            }
        }
        self.idle(|_| false);
        done
    }

    /// Has these channels wait for nothing, and forgets those for which nothing waits.
    fn idle(&mut self, which: impl Fn(&BusyChannel) -> bool) {
        self.channels.retain_mut(|channel| {
            if which(channel) {
                channel.stage = Stage::Idle;
            }
            !(matches!(channel.stage, Stage::Idle) && channel.backlog.is_empty())
        });
    }

    /// What is under way when the connection's task waits for it no longer.
    pub(super) fn take_all(&mut self) -> Vec<Working> {
        let works = std::mem::take(&mut self.channels).into_iter();
        works
            .filter_map(|channel| if let Stage::Works(working) = channel.stage { Some(working) } else { None })
            .collect()
    }
}

/// Does the work. The channel is its own until it is done. `settles`: knows what has to be settled before.
pub(super) fn work<C: Core>(
    gateway: Arc<Gateway<C>>,
    connection: Arc<Connection>,
    mut channel: Box<Channel>,
    mut settles: Settles,
    work: Work,
) -> Working {
    let (method, declares) = match work {
        Work::Method(method) => (Some(method), Vec::new()),
        Work::Declares(declares) => (None, declares),
        Work::Close => return leave(gateway, connection, channel, None),
        Work::Refuse(fault) => return leave(gateway, connection, channel, Some(fault)),
    };
    Box::pin(async move {
        let mut replies = Outgoing::default();
        settles.settled(&gateway).await;
        let mut request = Request {
            gateway: &gateway,
            connection: &connection,
            channel: &mut channel,
            replies: &mut replies,
            settles: &mut settles,
        };
        let (at, handled) = match method {
            Some(method) => (method.id(), handlers::handle(&mut request, method).await),
            None => (DECLARE, Box::pin(handlers::handle_declares(&mut request, declares)).await),
        };
        let handled = handled.map_err(|refusal| Fault::new(refusal, at));
        Done::Handled { channel, replies, settles, handled }
    })
}

fn leave<C: Core>(
    gateway: Arc<Gateway<C>>,
    connection: Arc<Connection>,
    mut channel: Box<Channel>,
    fault: Option<Fault>,
) -> Working {
    Box::pin(async move {
        queues::channel_closed(&gateway, &mut channel).await;
        connection.remove_channel(channel.number);
        Done::Left { number: channel.number, fault }
    })
}

/// Finishes what a connection left under way, and gives back what its channels hold.
pub(super) async fn finish_behind<C: Core>(
    gateway: Arc<Gateway<C>>,
    connection: Arc<Connection>,
    under_way: Vec<Working>,
) {
    for working in under_way {
        if let Done::Handled { mut channel, .. } = working.await {
            queues::channel_closed(&gateway, &mut channel).await;
            connection.remove_channel(channel.number);
        }
    }
    gateway.lifecycle.connection_closed(&connection.holder_prefix).await;
}

#[cfg(test)]
mod tests {
    use codec_amqp::tx;

    use super::*;

    fn method() -> Work {
        Work::Method(tx::Select {}.into())
    }

    fn never() -> Working {
        Box::pin(std::future::pending())
    }

    #[test]
    fn a_turn_comes_when_what_was_published_before_is_answered() {
        let mut busy = Busy::default();
        busy.wait(1, 3, method());
        busy.wait(2, 2, method());
        assert!(busy.has(1) && busy.has(2) && !busy.has(3));
        assert!(busy.next_turn(1).is_none());
        assert!(matches!(busy.next_turn(2), Some((2, Work::Method(_)))));
        assert!(busy.next_turn(2).is_none());
        assert!(matches!(busy.next_turn(3), Some((1, _))));
    }

    #[test]
    fn so_many_handlers_wait_at_once() {
        let mut busy = Busy::default();
        for number in 1..=HANDLERS_MAX as u16 {
            assert!(busy.has_room());
            busy.work(number, never());
        }
        busy.wait(100, 0, method());
        assert!(!busy.has_room() && busy.next_turn(9).is_none());
    }

    #[test]
    fn frames_wait_for_their_channel_and_keep_their_order() {
        let mut busy = Busy::default();
        busy.work(1, Box::pin(async { Done::Left { number: 1, fault: None } }));
        busy.put_off(1, b"one");
        busy.put_off(1, b"two");
        assert!(!busy.has_backlog());
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert_eq!(busy.poll(&mut context).len(), 1);
        let (number, mut backlog) = busy.take_backlog().expect("a backlog");
        assert_eq!((number, &backlog[..]), (1, &b"onetwo"[..]));
        assert!(busy.is_empty());
        // The first frame has made it busy again.
        let rest = backlog.split_off(3);
        busy.work(1, never());
        busy.put_back(1, rest);
        assert!(!busy.has_backlog() && busy.take_backlog().is_none());
        busy.put_off(1, &vec![0; BACKLOG_BYTES_MAX]);
        assert!(busy.is_full());
        assert_eq!(busy.take_all().len(), 1);
    }

    #[test]
    fn a_channel_that_is_closed_handles_nothing_more() {
        let mut busy = Busy::default();
        busy.wait(1, 5, method());
        busy.put_off(1, b"frame");
        busy.wait(2, 5, method());
        busy.forget(1);
        busy.forget(2);
        assert!(busy.next_turn(9).is_none() && busy.has_backlog() && !busy.has(2));
    }
}
