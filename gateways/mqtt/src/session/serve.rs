//! The rounds of a connection: handle what has arrived, then wait until there is something to do.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use codec_mqtt::{Packet, Sender};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::handshake::Opened;
use super::wire::Wire;
use super::{Connection, Done, End, KeepAlive, Step};
use crate::Gateway;
use crate::errors::SILENT;
use crate::handlers;

/// Unsent bytes from which on no packets are taken and no messages: the peer does not read.
pub(super) const OUT_BYTES_MAX: usize = 1 << 20;

/// Reads from a connection that somebody else ends: a peer that goes on sending must not hold that up.
const LAST_READS_MAX: usize = 16;

impl Connection {
    pub(super) fn new(gateway: Arc<Gateway>, wire: Wire, opened: Opened) -> Connection {
        let keep_alive = opened.keep_alive.map(|keep_alive| {
            let allowed = keep_alive + keep_alive / 2;
            KeepAlive { allowed, timer: Box::pin(sleep_until(wire.last_received + allowed)) }
        });
        Connection {
            gateway,
            session: opened.session,
            id: opened.id,
            client: opened.client,
            wire,
            inbound: Default::default(),
            outbound: super::deliver::Outbound::new(opened.resends),
            step: opened.first,
            // Packets may have come behind CONNECT.
            has_input: true,
            keep_alive,
            tally: Default::default(),
            signals: opened.signals,
        }
    }

    /// Until something ends it.
    pub(super) async fn serve(&mut self) -> End {
        loop {
            if let Err(end) = self.take_packets() {
                return end;
            }
            if let Err(end) = poll_fn(|context| self.poll_wait(context)).await {
                return end;
            }
        }
    }

    /// Handles what has come, as far as there is room for it.
    fn take_packets(&mut self) -> Result<(), End> {
        let (version, packet_bytes_max) = (self.client.version, self.gateway.config.packet_bytes_max as usize);
        while self.may_take() {
            let Some(frame) = self.wire.frame(packet_bytes_max)? else {
                self.has_input = false;
                break;
            };
            self.tally.packets_received += 1;
            let handled = Packet::decode(frame, version, Sender::Client)
                .map_err(End::from)
                .and_then(|packet| handlers::handle(self, packet));
            if let Err(end) = handled {
                // What was published before is kept.
                self.send_round();
                return Err(end);
            }
            if self.inbound.is_full() {
                self.send_round();
            }
        }
        self.send_round();
        Ok(())
    }

    /// Whether another packet may be taken.
    fn may_take(&self) -> bool {
        self.step.is_none() && self.wire.out.len() < OUT_BYTES_MAX && self.inbound.has_room()
    }

    /// Does what there is to do, until packets may be taken.
    fn poll_wait(&mut self, context: &mut Context<'_>) -> Poll<Result<(), End>> {
        if let Poll::Ready(end) = self.signals.as_mut().poll(context) {
            return Poll::Ready(Err(self.last_words(context).err().unwrap_or(end)));
        }
        loop {
            let mut progress = self.poll_rounds(context)?;
            progress |= self.poll_step(context)?;
            progress |= self.poll_deliveries(context)?;
            if self.inbound.gives_way() && pin!(yield_now()).poll(context).is_pending() {
                return Poll::Pending;
            }
            progress |= self.wire.poll_send(context)?;
            if self.may_take() {
                if self.has_input {
                    return Poll::Ready(Ok(()));
                }
                match self.wire.poll_receive(context)? {
                    Poll::Ready(0) => return Poll::Ready(Err(End::Gone(io::ErrorKind::UnexpectedEof.into()))),
                    Poll::Ready(_) => {
                        self.has_input = true;
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Pending => {}
                }
            }
            if !progress {
                break;
            }
        }
        self.poll_keep_alive(context)?;
        self.count();
        self.wire.rest();
        Poll::Pending
    }

    /// Somebody else ends the connection: what its client has sent before counts, above all a DISCONNECT. Who says goodbye and is back
    /// at once, maybe at another gateway, was not taken over, and leaves no will.
    fn last_words(&mut self, context: &mut Context<'_>) -> Result<(), End> {
        for _ in 0..LAST_READS_MAX {
            self.take_packets()?;
            if !self.may_take() {
                break;
            }
            match self.wire.poll_receive(context) {
                Poll::Ready(Ok(read)) if read > 0 => {}
                _ => break,
            }
        }
        Ok(())
    }

    fn poll_step(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let mut progress = false;
        loop {
            match self.step.take() {
                None => return Ok(progress),
                Some(Step::Waits(step)) if self.inbound.is_empty() => self.step = Some(Step::Runs(step)),
                Some(Step::Waits(step)) => {
                    self.step = Some(Step::Waits(step));
                    return Ok(progress);
                }
                Some(Step::Runs(mut step)) => match step.as_mut().poll(context) {
                    Poll::Pending => {
                        self.step = Some(Step::Runs(step));
                        return Ok(progress);
                    }
                    Poll::Ready(done) => {
                        progress = true;
                        self.finish_step(done)?;
                    }
                },
            }
        }
    }

    fn finish_step(&mut self, done: Done) -> Result<(), End> {
        match done {
            Done::Subscribed(suback, retained) => {
                self.write(&Packet::Suback(suback));
                // It ends with the connection: there is no room then.
                retained.map(tokio::spawn);
            }
            Done::Unsubscribed(unsuback) => self.write(&Packet::Unsuback(unsuback)),
            Done::Found(publish, topic, found) => {
                handlers::publish::found(self, &publish, topic, found)?;
                self.has_input = true;
                self.send_round();
            }
            Done::Began => {}
            Done::Authenticated(exchange, step) => handlers::auth::stepped(self, exchange, step)?,
            Done::Refused(refusal) => return Err(End::Refused(refusal)),
        }
        Ok(())
    }

    /// Whether a message may be taken from the session: SUBACK goes before what it asks for.
    pub(super) fn may_deliver(&self) -> bool {
        self.wire.out.len() < OUT_BYTES_MAX && !matches!(self.step, Some(Step::Runs(_)))
    }

    /// Ends a connection over which nothing comes.
    fn poll_keep_alive(&mut self, context: &mut Context<'_>) -> Result<(), End> {
        let is_reading = self.may_take();
        let Some(keep_alive) = &mut self.keep_alive else { return Ok(()) };
        while keep_alive.timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            if !is_reading && self.wire.has_unread(context) {
                // It lives, and we do not read.
                self.wire.last_received = now;
            }
            let until = self.wire.last_received + keep_alive.allowed;
            if until <= now {
                return Err(End::Refused(SILENT));
            }
            keep_alive.timer.as_mut().reset(until);
        }
        Ok(())
    }
}
