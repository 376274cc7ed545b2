//! The rounds of a connection: handle what has arrived, then wait until there is something to do.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use codec_amqp::{Method, ShortStr, channel, connection};
use core_rpc::Core;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::SessionError;
use super::busy::{self, Busy, Done, Work, Working};
use super::frames::Fault;
use super::publish::{Confirming, Flights};
use super::wire::Wire;
use crate::Gateway;
use crate::errors::{Refusal, ReplyCode};
use crate::state::Alarms;
use crate::state::channel::{Channel, Channels, Settles};
use crate::state::queues;
use crate::state::registry::Connection;

/// Unsent bytes from which on no frames are taken and no deliveries: the peer does not read.
const OUT_BYTES_MAX: usize = 1 << 20;

/// How long the core may take for what a connection published that ends.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    ByClient,
    ByUs,
}

/// What wakes a connection besides its socket.
enum Signal {
    /// Somebody asked for its end, or the gateway stops.
    Close(Refusal),
    /// Memory or disk run short, or do so no more.
    Alarms,
}

/// What the task waited for.
enum Woken {
    Received,
    Gone,
    /// What queues say of channels, or of the connection.
    Refused(Vec<(u16, Refusal)>),
    /// Handlers are done.
    Done(Vec<Done>),
    Signal(Signal),
}

pub(super) struct Session<C> {
    pub(super) gateway: Arc<Gateway<C>>,
    pub(super) connection: Arc<Connection>,
    pub(super) wire: Wire,
    pub(super) channels: Channels,
    pub(super) frame_bytes_max: usize,
    pub(super) settles: Settles,
    pub(super) flights: Flights,
    /// Channels that wait for the core.
    pub(super) busy: Busy,
    /// What comes next is not looked at while a channel is busy.
    pub(super) is_held: bool,
    /// Nothing more comes; what came is still done.
    is_over: bool,
    /// Bytes of bodies that have come in part.
    pub(super) half_sent_bytes: u64,
    /// It has published since the last alarm.
    pub(super) has_published: bool,
    /// It is not listened to, because an alarm stands and it publishes.
    is_blocked: bool,
    /// Channels on which something was lost.
    lost: Vec<(u16, Refusal)>,
    heartbeat: Option<Heartbeat>,
    signals: Pin<Box<dyn Future<Output = Signal> + Send>>,
    draining: CancellationToken,
}

/// When to send a sign of life, and when to miss one.
struct Heartbeat {
    interval: Duration,
    timer: Pin<Box<Sleep>>,
}

/// Serves an open connection until it ends. Whatever ended it, nothing of it is left behind.
pub(super) async fn run<C: Core>(
    gateway: &Arc<Gateway<C>>,
    connection: &Arc<Connection>,
    wire: Wire,
    draining: CancellationToken,
) -> Result<(), SessionError> {
    let interval = Duration::from_secs(u64::from(connection.negotiated.heartbeat_seconds));
    let mut session = Session {
        gateway: gateway.clone(),
        connection: connection.clone(),
        wire,
        channels: Channels::default(),
        frame_bytes_max: connection.negotiated.frame_max as usize,
        settles: Settles::default(),
        flights: Flights::new(),
        busy: Busy::default(),
        is_held: false,
        is_over: false,
        half_sent_bytes: 0,
        has_published: false,
        is_blocked: false,
        lost: Vec::new(),
        heartbeat: (!interval.is_zero())
            .then(|| Heartbeat { interval, timer: Box::pin(sleep_until(Instant::now() + interval / 2)) }),
        signals: signals(connection.clone(), gateway.alarms.clone(), draining.clone()),
        draining,
    };
    let served = session.rounds().await;
    // Where the goodbye came first, there is nothing left to do here.
    session.leave().await;
    served
}

fn signals(
    connection: Arc<Connection>,
    alarms: Alarms,
    draining: CancellationToken,
) -> Pin<Box<dyn Future<Output = Signal> + Send>> {
    let mut changes = alarms.changes();
    Box::pin(async move {
        tokio::select! {
            _ = changes.changed() => Signal::Alarms,
            refusal = connection.asked_to_close() => Signal::Close(refusal),
            () = draining.cancelled() => Signal::Close(Refusal::new(
                ReplyCode::ConnectionForced,
                "broker forced connection closure with reason 'shutdown'",
            )),
        }
    })
}

impl<C: Core> Session<C> {
    async fn rounds(&mut self) -> Result<(), SessionError> {
        loop {
            if self.take_frames().await?.is_some() {
                return Ok(());
            }
            // First: what is published while an alarm stands waits until it is over, instead of being refused.
            self.look_at_alarms();
            if !self.is_blocked {
                self.flights.send(&self.gateway);
            }
            self.settles.flush(&self.gateway, &mut self.channels);
            match poll_fn(|context| self.poll_wait(context)).await? {
                Woken::Received => {}
                Woken::Done(done) => {
                    for done in done {
                        let Err((number, fault)) = self.finish(done) else { continue };
                        if fault.refusal.is_hard() {
                            self.end(fault).await?;
                            return Ok(());
                        }
                        self.close_channel(number, fault).await;
                    }
                }
                Woken::Refused(refused) => {
                    for (number, refusal) in refused {
                        if refusal.is_hard() {
                            self.end(Fault::of_connection(refusal, (0, 0))).await?;
                            return Ok(());
                        }
                        self.close_channel(number, Fault::from(refusal)).await;
                    }
                }
                Woken::Signal(Signal::Alarms) => {
                    // From now on it takes a publish to be blocked.
                    self.has_published = self.is_blocked;
                    let (connection, alarms) = (self.connection.clone(), self.gateway.alarms.clone());
                    self.signals = signals(connection, alarms, self.draining.clone());
                    // Frames may wait that came before the alarm.
                    self.look_at_alarms();
                }
                Woken::Gone => return Err(SessionError::Gone),
                Woken::Signal(Signal::Close(refusal)) => {
                    self.end(Fault::of_connection(refusal, (0, 0))).await?;
                    return Ok(());
                }
            }
        }
    }

    /// Whether another frame may be taken.
    pub(super) fn may_take(&self) -> bool {
        self.wire.out.len() < OUT_BYTES_MAX && self.flights.has_room() && !self.is_blocked
    }

    /// Whether what comes next may be looked at.
    pub(super) fn may_read(&self) -> bool {
        self.may_take() && !self.is_held && !self.is_over && !self.busy.is_full()
    }

    /// Blocks a publisher while an alarm stands, and tells it (RabbitMQ's connection.blocked).
    fn look_at_alarms(&mut self) {
        let short = self.gateway.alarms.now();
        let is_blocked = short.any() && self.has_published;
        if is_blocked == self.is_blocked {
            return;
        }
        self.is_blocked = is_blocked;
        self.connection.is_blocked.store(is_blocked, Ordering::Relaxed);
        if !self.connection.capabilities.connection_blocked {
            return;
        }
        let told: Method = if is_blocked {
            connection::Blocked { reason: ShortStr::from_static(short.reason()) }.into()
        } else {
            connection::Unblocked {}.into()
        };
        self.wire.out.put_method(0, &told);
    }

    fn poll_flights(&mut self, context: &mut Context<'_>) -> bool {
        let confirming = Confirming { channels: &mut self.channels, out: &mut self.wire.out, lost: &mut self.lost };
        self.flights.poll(context, confirming)
    }

    /// Does what there is to do, until there is something for the rounds.
    fn poll_wait(&mut self, context: &mut Context<'_>) -> Poll<Result<Woken, SessionError>> {
        if let Poll::Ready(signal) = self.signals.as_mut().poll(context) {
            return Poll::Ready(Ok(Woken::Signal(signal)));
        }
        loop {
            let answered = self.poll_flights(context);
            if !self.lost.is_empty() {
                return Poll::Ready(Ok(Woken::Refused(std::mem::take(&mut self.lost))));
            }
            let done = self.poll_busy(context);
            if !done.is_empty() {
                return Poll::Ready(Ok(Woken::Done(done)));
            }
            let refused = self.connection.outbox.drain(
                context,
                &self.connection,
                &mut self.channels,
                &mut self.wire.out,
                OUT_BYTES_MAX,
            );
            if !refused.is_empty() {
                return Poll::Ready(Ok(Woken::Refused(refused)));
            }
            let sent = self.wire.poll_send(context)?;
            if self.may_read() {
                match self.wire.poll_receive(context)? {
                    Poll::Ready(0) => self.is_over = true,
                    Poll::Ready(_) => return Poll::Ready(Ok(Woken::Received)),
                    Poll::Pending => {}
                }
            }
            if self.is_over && self.busy.is_empty() {
                return Poll::Ready(Ok(Woken::Gone));
            }
            let has_room = (answered || sent) && self.may_take();
            if has_room && (self.busy.has_backlog() || !self.wire.input.is_empty() && self.may_read()) {
                // Frames that had no room have it now.
                return Poll::Ready(Ok(Woken::Received));
            }
            if !(sent || answered) {
                break;
            }
        }
        let is_reading = self.may_read() || self.is_over;
        poll_heartbeat(&mut self.heartbeat, &mut self.wire, context, is_reading)?;
        self.count_bytes();
        Poll::Pending
    }

    /// Shows others what was read and written.
    fn count_bytes(&mut self) {
        self.connection.received_bytes.add(std::mem::take(&mut self.wire.received_bytes));
        self.connection.sent_bytes.add(std::mem::take(&mut self.wire.sent_bytes));
    }

    /// Begins work on a channel, behind what was published before. Returns it if it is done already; else the connection goes on,
    /// and frames of the channel wait.
    pub(super) async fn begin(&mut self, number: u16, work: Work) -> Option<Done> {
        self.flights.send(&self.gateway);
        let behind = self.flights.sent();
        let is_refusal = matches!(work, Work::Refuse(_));
        if !is_refusal && (self.flights.answered() < behind || !self.busy.has_room()) {
            self.busy.wait(number, behind, work);
            return None;
        }
        let mut working = self.start(number, work)?;
        match poll_fn(|context| Poll::Ready(working.as_mut().poll(context))).await {
            Poll::Ready(done) => return Some(done),
            Poll::Pending => self.busy.work(number, working),
        }
        None
    }

    /// Gives a channel to what is done on it.
    fn start(&mut self, number: u16, work: Work) -> Option<Working> {
        self.settles.flush(&self.gateway, &mut self.channels);
        let channel = match work {
            Work::Method(_) | Work::Declares(_) => self.channels.lend(number)?,
            Work::Close | Work::Refuse(_) => {
                let leaving = self.channels.leave(number)?;
                self.forget_half_sent(&leaving);
                leaving
            }
        };
        let (gateway, connection) = (self.gateway.clone(), self.connection.clone());
        Some(busy::work(gateway, connection, channel, self.settles.behind(), work))
    }

    /// Goes on with what is under way, begins what may begin, and returns what is done.
    fn poll_busy(&mut self, context: &mut Context<'_>) -> Vec<Done> {
        let mut done = Vec::new();
        while !self.busy.is_empty() {
            done.extend(self.busy.poll(context));
            let Some((number, work)) = self.busy.next_turn(self.flights.answered()) else { break };
            if let Some(working) = self.start(number, work) {
                self.busy.work(number, working);
            }
        }
        done
    }

    /// Takes the channel back, and answers. An error is to be told on the channel, or ends the connection.
    pub(super) fn finish(&mut self, done: Done) -> Result<(), (u16, Fault)> {
        match done {
            Done::Handled { channel, replies, settles, handled } => {
                let number = channel.number;
                self.channels.give_back(channel);
                self.settles.absorb(settles);
                self.wire.out.append(replies);
                self.connection.outbox.resume(number);
                handled.map_err(|fault| (number, fault))
            }
            Done::Left { number, fault } => {
                self.channels.left(number, fault.is_none());
                let farewell: Method = match fault {
                    None => channel::CloseOk {}.into(),
                    Some(Fault { refusal, at: (class_id, method_id) }) => channel::Close {
                        reply_code: refusal.code.code(),
                        reply_text: ShortStr::truncated(&refusal.text()),
                        class_id,
                        method_id,
                    }
                    .into(),
                };
                self.wire.out.put_method(number, &farewell);
                Ok(())
            }
        }
    }

    /// Gives back what a channel holds.
    pub(super) async fn leave_channel(&mut self, mut channel: Box<Channel>) {
        self.forget_half_sent(&channel);
        queues::channel_closed(&self.gateway, &mut channel).await;
        self.connection.remove_channel(channel.number);
    }

    /// Gives back what the connection holds. What was given back already is not there a second time.
    pub(super) async fn leave(&mut self) {
        // What was published is kept, and what was begun is done, though nobody waits for the answer any more.
        self.flights.send(&self.gateway);
        self.busy.forget_all_that_wait();
        let kept = poll_fn(|context| {
            self.poll_flights(context);
            for done in self.busy.poll(context) {
                // Whom would it be told?
                let _ = self.finish(done);
            }
            if self.flights.is_empty() && self.busy.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        });
        if tokio::time::timeout(LEAVE_MAX, kept).await.is_err() {
            tracing::warn!(connection = %self.connection.name, "a connection ends with requests that are not answered");
        }
        let under_way = self.busy.take_all();
        if !under_way.is_empty() {
            tokio::spawn(busy::finish_behind(self.gateway.clone(), self.connection.clone(), under_way));
        }
        for channel in self.channels.drain() {
            self.leave_channel(channel).await;
        }
        queues::connection_closed(&self.gateway, &self.connection).await;
        self.gateway.lifecycle.connection_closed(&self.connection.holder_prefix).await;
    }
}

/// Sends a heartbeat where nothing else was sent, and ends a connection over which nothing comes. `is_reading`: what comes is
/// looked at.
fn poll_heartbeat(
    heartbeat: &mut Option<Heartbeat>,
    wire: &mut Wire,
    context: &mut Context<'_>,
    is_reading: bool,
) -> Result<(), SessionError> {
    let Some(heartbeat) = heartbeat else { return Ok(()) };
    while heartbeat.timer.as_mut().poll(context).is_ready() {
        let now = Instant::now();
        if !is_reading {
            // It may have sent something that lies unread.
            wire.last_received = now;
        }
        if now - wire.last_received > heartbeat.interval * 2 {
            return Err(SessionError::Silent);
        }
        if now - wire.last_sent >= heartbeat.interval / 2 && wire.is_sent() {
            wire.out.put_heartbeat();
            wire.poll_send(context)?;
        }
        heartbeat.timer.as_mut().reset(now + heartbeat.interval / 2);
    }
    Ok(())
}
