//! One connection of a client: reads calls, starts them in their order, answers them in any.

use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, unconstrained};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::dispatch::{self, Answered};
use crate::Core;
use crate::wire::address::{ReadHalf, WriteHalf};
use crate::wire::frame::{Frame, FrameError, Received, decode};
use crate::wire::handshake::{HandshakeError, VERSIONS, answer_greeting};
use crate::wire::message::{Answer, Request};
use crate::wire::outbox::Outbox;
use crate::wire::reader::{FrameReader, ReadError};
use crate::wire::{ANSWER_BYTES_MAX, APPEND_BYTES_MAX, CALLS_MAX, LONG_POLLS_MAX, SERVER_SILENCE_MAX, budget_kib};

/// How long a client that is leaving may take to read its last answers.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the client sent nothing for {} s", SERVER_SILENCE_MAX.as_secs())]
    Silent,
    #[error("the client has more calls in flight than agreed")]
    TooManyCalls,
    #[error("an append does not name a partition for each batch")]
    Append,
}

/// A long poll that waits, and how it is ended.
enum LongPoll {
    /// It goes, and is not answered.
    Reads(AbortHandle),
    /// It may have leased something at this very moment: it answers, whatever it is.
    Acquires(CancellationToken),
}

impl LongPoll {
    fn end(self) {
        match self {
            LongPoll::Reads(task) => task.abort(),
            LongPoll::Acquires(cancelled) => cancelled.cancel(),
        }
    }
}

/// What the calls of a connection share.
struct Connection<C> {
    core: C,
    outbox: Arc<Outbox>,
    append_budget: Arc<Semaphore>,
    answer_budget: Arc<Semaphore>,
    calls: Arc<AtomicUsize>,
    polls: Arc<Mutex<HashMap<u64, LongPoll>>>,
    tasks: TaskTracker,
}

pub async fn run(
    core: impl Core,
    mut read: ReadHalf,
    mut write: WriteHalf,
    shutdown: CancellationToken,
) -> Result<(), ConnectionError> {
    tokio::select! {
        _ = shutdown.cancelled() => return Ok(()),
        agreed = answer_greeting(&mut read, &mut write, VERSIONS) => agreed?,
    };
    let connection = Connection {
        core,
        outbox: Arc::default(),
        append_budget: Arc::new(Semaphore::new(APPEND_BYTES_MAX >> 10)),
        answer_budget: Arc::new(Semaphore::new(ANSWER_BYTES_MAX >> 10)),
        calls: Arc::default(),
        polls: Arc::default(),
        tasks: TaskTracker::new(),
    };
    let outbox = connection.outbox.clone();
    let mut writer = tokio::spawn(async move { outbox.run(write).await });

    let result = tokio::select! {
        _ = shutdown.cancelled() => Ok(()),
        // The client has gone; why is of no interest.
        _ = &mut writer => return connection.abandon(Ok(())),
        result = connection.read(FrameReader::new(read)) => result,
    };
    if result.is_err() {
        writer.abort();
        return connection.abandon(result);
    }

    // The client, or this server, is leaving: what was asked is answered first.
    connection.end_polls();
    connection.tasks.close();
    connection.tasks.wait().await;
    connection.outbox.close();
    if timeout(FLUSH_WAIT_MAX, &mut writer).await.is_err() {
        writer.abort();
    }
    Ok(())
}

impl<C: Core> Connection<C> {
    /// Reads and starts calls until the client leaves.
    async fn read(&self, mut reader: FrameReader<ReadHalf>) -> Result<(), ConnectionError> {
        let mut heard = Instant::now();
        let silence = sleep_until(heard + SERVER_SILENCE_MAX);
        tokio::pin!(silence);
        loop {
            while let Some(frame) = reader.buffered()? {
                self.start(frame).await?;
            }
            tokio::select! {
                filled = reader.fill() => {
                    if !filled? {
                        return Ok(());
                    }
                    heard = Instant::now();
                }
                _ = &mut silence => {
                    if heard.elapsed() >= SERVER_SILENCE_MAX {
                        return Err(ConnectionError::Silent);
                    }
                    silence.as_mut().reset(heard + SERVER_SILENCE_MAX);
                }
            }
        }
    }

    async fn start(&self, frame: Bytes) -> Result<(), ConnectionError> {
        let Received { call, message, batches, bytes } = decode::<Request>(frame)?;
        let mut permit = None;
        match &message {
            Request::Ping => {
                self.outbox.push(Frame::encode(call, &Answer::Ping, Vec::new())?, None);
                return Ok(());
            }
            Request::Cancel { call } => {
                let poll = self.polls.lock().remove(call);
                poll.into_iter().for_each(LongPoll::end);
                return Ok(());
            }
            Request::Append(partitions) | Request::Transfer { appends: partitions, .. } => {
                if partitions.len() != batches.len() {
                    return Err(ConnectionError::Append);
                }
                // Not reading on is what pushes back.
                permit = self.append_budget.clone().acquire_many_owned(budget_kib(bytes, APPEND_BYTES_MAX)).await.ok();
            }
            _ => {}
        }
        let long_poll = message.is_long_poll();
        let full = match long_poll {
            // Twice, since a client may make a new poll before its word of a cancelled one has gone out.
            true => self.polls.lock().len() >= 2 * LONG_POLLS_MAX,
            false => self.calls.load(Ordering::Relaxed) >= CALLS_MAX,
        };
        if full {
            return Err(ConnectionError::TooManyCalls);
        }

        // The first poll happens here, so that calls begin in the order in which they were sent; most are answered
        // by it and cost no task.
        let core = self.core.clone();
        let budget = self.answer_budget.clone();
        let acquires = matches!(message, Request::Acquire(_));
        let cancelled = CancellationToken::new();
        let is_cancelled = cancelled.clone();
        let mut answering =
            Box::pin(async move { dispatch::answer(&core, message, batches, &budget, &is_cancelled).await });
        match pin!(unconstrained(answering.as_mut())).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answered) => send(&self.outbox, call, answered),
            Poll::Pending if long_poll => self.wait_for_poll(call, answering, acquires.then_some(cancelled)),
            Poll::Pending => self.wait_for_call(call, answering, permit),
        }
        Ok(())
    }

    fn wait_for_call(
        &self,
        call: u64,
        answering: Pin<Box<impl Future<Output = Answered> + Send + 'static>>,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        let (outbox, calls) = (self.outbox.clone(), self.calls.clone());
        calls.fetch_add(1, Ordering::Relaxed);
        self.tasks.spawn(async move {
            let answered = answering.await;
            calls.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
            send(&outbox, call, answered);
        });
    }

    /// `acquires`: how an acquire learns that nobody waits for it any more.
    fn wait_for_poll(
        &self,
        call: u64,
        answering: Pin<Box<impl Future<Output = Answered> + Send + 'static>>,
        acquires: Option<CancellationToken>,
    ) {
        let (outbox, polls) = (self.outbox.clone(), self.polls.clone());
        // Held until the poll is in the map, else it might be over before it is.
        let mut waiting = self.polls.lock();
        let is_acquire = acquires.is_some();
        let task = self.tasks.spawn(async move {
            let answered = answering.await;
            if polls.lock().remove(&call).is_some() || is_acquire {
                send(&outbox, call, answered);
            }
        });
        waiting.insert(call, acquires.map_or_else(|| LongPoll::Reads(task.abort_handle()), LongPoll::Acquires));
    }

    fn end_polls(&self) {
        let polls = std::mem::take(&mut *self.polls.lock());
        polls.into_values().for_each(LongPoll::end);
    }

    /// Leaves calls that go on without anybody to hear their answer.
    fn abandon(&self, result: Result<(), ConnectionError>) -> Result<(), ConnectionError> {
        self.end_polls();
        self.outbox.close();
        self.outbox.take_unsent();
        result
    }
}

fn send(outbox: &Outbox, call: u64, answered: Answered) {
    let frame = Frame::encode(call, &answered.answer, answered.batches).or_else(|error| {
        tracing::warn!(%error, "an answer cannot be sent");
        Frame::encode(call, &Answer::Unavailable, Vec::new())
    });
    if let Ok(frame) = frame {
        outbox.push(frame, answered.permit);
    }
}
