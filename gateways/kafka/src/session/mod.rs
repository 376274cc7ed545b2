//! One connection: frames in, answers out, in order.
//!
//! One task does it all, as a hand-written future, so that an idle connection costs no more than a small struct and a
//! timer. In every round it sends what is ready, takes the answers that have become ready, and reads:
//!
//! ```text
//! socket ─► buffer ─► frames ─► begun requests, in order ─► answers ─► socket (one vectored write for many)
//! ```
//!
//! Only the first request runs, as on a Kafka broker; but appends that follow appends are begun at once, since a
//! producer sends the next before it has the answer to the last, and a group commit takes them all.
//!
//! What bounds memory: nothing more is read while [`PENDING_MAX`] requests or [`PENDING_BYTES_MAX`] bytes of them are
//! unanswered; no further answer is awaited while [`OUTGOING_BYTES_MAX`] are unsent. So a peer that sends and never
//! reads is left waiting. What answers with records take of memory all connections share ([`crate::state::AnswerMemory`]).

mod outgoing;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use codec_kafka::frame::{DEFAULT_FRAME_BYTES_MAX, split};
use core_rpc::Core;
use gateway_runtime::Stream;
use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::{poll_read_buf, poll_write_buf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use self::outgoing::Outgoing;
use crate::handlers::{Answer, Answering, begin};
use crate::state::security::Peer;
use crate::{Gateway, now_ms};

/// Unanswered requests, at most.
const PENDING_MAX: usize = 256;
/// Bytes of unanswered requests from which on no more are read (a single one may be larger).
const PENDING_BYTES_MAX: usize = 64 << 20;
/// Bytes of unsent answers from which on no more are awaited (a single one may be larger).
const OUTGOING_BYTES_MAX: usize = 1 << 20;
/// The largest request of a client that has not said who it is: Kafka's default of `sasl.server.max.receive.size`.
const UNKNOWN_FRAME_BYTES_MAX: usize = 512 << 10;
/// What is read at once: at first, and when the peer keeps sending more than that.
const READ_BYTES_MIN: usize = 4 << 10;
const READ_BYTES_MAX: usize = 64 << 10;

/// Serves a connection until the peer or `draining` ends it.
pub async fn run<C: Core>(gateway: Arc<Gateway<C>>, stream: Stream, peer: Arc<Peer>, draining: CancellationToken) {
    // Whoever connects too often waits for its turn.
    let wait = gateway.quotas.connected(peer.address.ip(), now_ms());
    if !wait.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = draining.cancelled() => return,
        }
    }
    let idle_max = gateway.config.connections_max_idle;
    let address = peer.address;
    let left = gateway.clone();
    let session = Session {
        gateway,
        stream,
        peer,
        buffer: BytesMut::new(),
        read_bytes: READ_BYTES_MIN,
        reading: true,
        pending: VecDeque::new(),
        pending_bytes: 0,
        early_only: true,
        outgoing: Outgoing::default(),
        flushed: true,
        active: Instant::now(),
        silence: None,
        idle_max,
        idle: Box::pin(sleep_until(Instant::now() + idle_max)),
        draining: Box::pin(draining.cancelled_owned()),
    };
    if let Err(error) = session.await {
        tracing::debug!(peer = %address, %error, "a connection ends");
    }
    left.disconnected(address).await;
}

struct Session<C> {
    gateway: Arc<Gateway<C>>,
    stream: Stream,
    peer: Arc<Peer>,
    buffer: BytesMut,
    /// Room to make for the next read.
    read_bytes: usize,
    /// Whether more requests may come: not after the peer's end or when draining.
    reading: bool,
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    /// Whether every pending request may run beside the others.
    early_only: bool,
    outgoing: Outgoing,
    /// All that was written is with the operating system.
    flushed: bool,
    /// When the peer last sent something.
    active: Instant,
    /// The peer has used up its quota: nothing is read until then.
    silence: Option<Pin<Box<Sleep>>>,
    idle_max: Duration,
    idle: Pin<Box<Sleep>>,
    draining: Pin<Box<WaitForCancellationFutureOwned>>,
}

struct Pending {
    state: PendingState,
    bytes: usize,
    early: bool,
}

enum PendingState {
    Waiting(Answering),
    Ready(Answer),
}

impl PendingState {
    fn begin(&mut self, context: &mut Context<'_>) {
        if let PendingState::Waiting(answering) = self
            && let Poll::Ready(answer) = answering.as_mut().poll(context)
        {
            *self = PendingState::Ready(answer);
        }
    }
}

/// Why a connection ends before its peer ends it.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] codec_kafka::frame::InvalidFrameLength),
    #[error(transparent)]
    Request(#[from] crate::handlers::Unanswerable),
    #[error("a handler asked for it")]
    Closed,
    #[error("nothing came for too long")]
    Idle,
}

impl<C: Core> Future for Session<C> {
    type Output = Result<(), SessionError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let session = self.get_mut();
        if session.reading && session.draining.as_mut().poll(context).is_ready() {
            session.reading = false;
        }
        loop {
            let answered = session.take_answers(context)?;
            let sent = session.send(context)?;
            let read =
                session.reading && session.has_room() && !session.is_silenced(context) && session.read(context)?;
            // The peer is gone or we are leaving: answers to appends are owed, other answers nobody waits for.
            if !session.reading
                && !session.outgoing.has_remaining()
                && session.flushed
                && !session.pending.iter().any(|pending| pending.early)
            {
                return Poll::Ready(Ok(()));
            }
            // Sending may have made room for answers, answers for reading, and reading brought what can be answered.
            if !(answered || sent || read) {
                break;
            }
        }
        session.poll_idle(context)
    }
}

impl<C: Core> Session<C> {
    fn has_room(&self) -> bool {
        self.pending.len() < PENDING_MAX && self.pending_bytes < PENDING_BYTES_MAX
    }

    /// Moves answers that are ready, in order, to the outgoing frames. Returns whether there was one.
    fn take_answers(&mut self, context: &mut Context<'_>) -> Result<bool, SessionError> {
        let mut moved = false;
        while self.outgoing.remaining() < OUTGOING_BYTES_MAX {
            let Some(first) = self.pending.front_mut() else { break };
            if let PendingState::Waiting(answering) = &mut first.state {
                let Poll::Ready(answer) = answering.as_mut().poll(context) else { break };
                first.state = PendingState::Ready(answer);
            }
            let Some(Pending { state: PendingState::Ready(answer), bytes, early }) = self.pending.pop_front() else {
                break;
            };
            self.pending_bytes -= bytes;
            moved = true;
            if !early {
                self.begin_early(context);
            }
            let answer = match answer {
                Answer::Silenced(answer, time) => {
                    self.begin_silence(time);
                    *answer
                }
                answer => answer,
            };
            match answer {
                Answer::Frame(frame) => self.outgoing.push(frame, None),
                Answer::Held(frame, memory) => self.outgoing.push(frame, Some(memory)),
                // One silence in another does not happen, and would mean no more.
                Answer::Nothing | Answer::Silenced(..) => {}
                Answer::Close => return Err(SessionError::Closed),
            }
        }
        Ok(moved)
    }

    fn begin_silence(&mut self, time: Duration) {
        let end = Instant::now() + time;
        if self.silence.as_ref().is_none_or(|silence| silence.deadline() < end) {
            self.silence = Some(Box::pin(sleep_until(end)));
            // It is us who do not listen; that is no idleness.
            self.active = self.active.max(end);
        }
    }

    fn is_silenced(&mut self, context: &mut Context<'_>) -> bool {
        let Some(silence) = &mut self.silence else { return false };
        if silence.as_mut().poll(context).is_ready() {
            self.silence = None;
        }
        self.silence.is_some()
    }

    /// After a request that had to run alone: begins those behind it that need not.
    fn begin_early(&mut self, context: &mut Context<'_>) {
        self.early_only = self.pending.iter().all(|pending| pending.early);
        for pending in self.pending.iter_mut().take_while(|pending| pending.early) {
            pending.state.begin(context);
        }
    }

    /// Writes outgoing frames while the socket takes them. Returns whether it took something.
    fn send(&mut self, context: &mut Context<'_>) -> Result<bool, SessionError> {
        let mut sent = false;
        while self.outgoing.has_remaining() {
            let Poll::Ready(written) = poll_write_buf(Pin::new(&mut self.stream), context, &mut self.outgoing) else {
                break;
            };
            if written? == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            sent = true;
        }
        // A plain connection keeps nothing back; an encrypted one may.
        self.flushed = match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Ready(flushed) => flushed.map(|()| true)?,
            Poll::Pending => false,
        };
        Ok(sent)
    }

    /// Reads once and begins the requests that have arrived whole. Returns whether something came.
    fn read(&mut self, context: &mut Context<'_>) -> Result<bool, SessionError> {
        // Frames may have been left in the buffer when there was no room for their requests.
        if self.begin_requests(context)? {
            return Ok(true);
        }
        // Memory is made ready only when there is something to read.
        if self.stream.poll_read_ready(context)?.is_pending() {
            self.release_buffer();
            return Ok(false);
        }
        self.make_room();
        let room = self.buffer.capacity() - self.buffer.len();
        let Poll::Ready(read) = poll_read_buf(Pin::new(&mut self.stream), context, &mut self.buffer) else {
            self.release_buffer();
            return Ok(false);
        };
        let count = read?;
        if count == 0 {
            self.reading = false;
            return Ok(true);
        }
        self.active = Instant::now();
        if count == room {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        } else if count < self.read_bytes / 2 {
            self.read_bytes = (self.read_bytes / 2).max(READ_BYTES_MIN);
        }
        self.begin_requests(context)?;
        Ok(true)
    }

    /// Makes room for a read. `split` has done so for the rest of a frame that has begun; where none has, what is left
    /// of the block is used up first, unless it is too small for what usually comes.
    fn make_room(&mut self) {
        let room = self.buffer.capacity() - self.buffer.len();
        if self.buffer.is_empty() && room < self.read_bytes / 2 {
            self.buffer = BytesMut::with_capacity(self.read_bytes);
        } else if room == 0 {
            self.buffer.reserve(self.read_bytes);
        }
    }

    /// Gives the buffer's memory back when nothing is in it and much of it is unused: the connection may be idle from
    /// now on. A smaller rest is kept, so that small requests one after another share a block: stored batches keep
    /// the block that they arrived in.
    fn release_buffer(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > READ_BYTES_MIN {
            self.buffer = BytesMut::new();
        }
    }

    /// Returns whether there was a whole request.
    fn begin_requests(&mut self, context: &mut Context<'_>) -> Result<bool, SessionError> {
        let mut found = false;
        while self.has_room() {
            let bytes_max =
                if self.peer.is_authenticated() { DEFAULT_FRAME_BYTES_MAX } else { UNKNOWN_FRAME_BYTES_MAX };
            let Some(frame) = split(&mut self.buffer, bytes_max)? else { break };
            found = true;
            let bytes = frame.len();
            let begun = begin(&self.gateway, &self.peer, frame)?;
            self.early_only &= begun.early;
            let mut state = PendingState::Waiting(begun.answering);
            if self.early_only {
                state.begin(context);
            }
            self.pending.push_back(Pending { state, bytes, early: begun.early });
            self.pending_bytes += bytes;
        }
        Ok(found)
    }

    /// Ends the connection if nothing came for too long. The timer is not moved at every read, only looked at when it
    /// rings.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<Result<(), SessionError>> {
        loop {
            ready!(self.idle.as_mut().poll(context));
            let end = self.active + self.idle_max;
            if end <= Instant::now() {
                // A request under way is no idleness of the peer's.
                if self.pending.is_empty() {
                    return Poll::Ready(Err(SessionError::Idle));
                }
                self.active = Instant::now();
                continue;
            }
            self.idle.as_mut().reset(end);
        }
    }
}
