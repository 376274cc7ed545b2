//! What a client publishes, on its way to the core, and the acknowledgements that wait for it.
//!
//! ```text
//! PUBLISH … PUBLISH, PUBREL, PUBREC │ of one read ─► one round: messages, and the session's record where it has to tell of them
//!     replies: PUBACK, PUBREC, PUBCOMP, PUBREL ◄──── written in order, when the round is kept
//! ```
//! Rounds are answered in the order in which they were sent [MQTT-4.6.0-2, MQTT-4.6.0-3]; several are under way at once. While
//! too many are, nothing more is read.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use codec_mqtt::{Acknowledgement, Packet, PacketId, Reason, Text, Version};
use core_rpc::{Append, PartitionId};

use super::{Connection, End};
use crate::errors::{Lost, Refusal};
use crate::state::publishing::{PublishError, Round};
use crate::state::sessions::Attempt;
use crate::translate::Storable;

/// Rounds under way, at most, and their bytes.
const FLIGHTS_MAX: usize = 8;
const FLIGHT_BYTES_MAX: usize = 8 << 20;

/// A round of at most so many bytes is acknowledged when its messages have gone their way, if connections take turns: so they
/// come sooner to who waits for them (p50 0.085 ms instead of 0.10, p99 0.15 instead of 0.18, at 5,000/s). With more threads
/// it would wake another each time.
const SMALL_BYTES_MAX: usize = 8 << 10;

/// From then on a round is sent, though more has come.
pub(crate) const ROUND_BYTES_MAX: usize = 1 << 20;

type Keeping = Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send>>;

/// What a connection has sent and was not answered.
#[derive(Default)]
pub(crate) struct Inbound {
    /// What aliases stand for.
    pub(crate) aliases: HashMap<u16, Text>,
    /// What is gathered.
    round: Round,
    replies: Vec<Reply>,
    /// Messages of the round that are kept apart from their identifiers.
    apart: Vec<PacketId>,
    needs: Needs,
    under_way: VecDeque<Flight>,
    bytes: usize,
    /// Messages of QoS 1 that are not answered.
    unanswered: usize,
    /// A small round was kept: who waits for its messages goes before what is written about it.
    gives_way: bool,
}

/// What the log has to tell of the session before the replies are written: only of one that survives its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Needs {
    /// That messages of QoS 2 were received: together with them.
    received: bool,
    /// That some were released.
    released: bool,
    /// All of it.
    record: bool,
}

struct Flight {
    keeping: Keeping,
    is_begun: bool,
    replies: Vec<Reply>,
    /// Messages that are kept apart from their identifiers.
    apart: Vec<PacketId>,
    bytes: usize,
}

impl Flight {
    /// Its messages of QoS 2.
    fn received(&self) -> Vec<PacketId> {
        let received = self.replies.iter().filter(|reply| reply.kind == Kind::Pubrec);
        received.map(|reply| reply.packet_id).collect()
    }
}

#[derive(Clone, Copy, Debug)]
struct Reply {
    kind: Kind,
    packet_id: PacketId,
    reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of a message of this round.
    Puback,
    /// Of a message of this round.
    Pubrec,
    /// A word that stands for itself: of a message that was refused, or that had come before.
    PubackAlone,
    PubrecAlone,
    Pubrel,
    Pubcomp,
}

impl Kind {
    /// The first byte of its fixed header.
    fn first(self) -> u8 {
        match self {
            Kind::Puback | Kind::PubackAlone => 0x40,
            Kind::Pubrec | Kind::PubrecAlone => 0x50,
            Kind::Pubrel => 0x62,
            Kind::Pubcomp => 0x70,
        }
    }
}

impl Inbound {
    pub(crate) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Whether more may be published.
    pub(crate) fn has_room(&self) -> bool {
        self.under_way.len() < FLIGHTS_MAX && self.bytes + self.round.bytes() < FLIGHT_BYTES_MAX
    }

    /// Whether what is gathered should go before more is.
    pub(crate) fn is_full(&self) -> bool {
        self.round.bytes() >= ROUND_BYTES_MAX
    }

    /// Whether others should have their turn before answers are written to the socket. Said once.
    pub(crate) fn gives_way(&mut self) -> bool {
        std::mem::take(&mut self.gives_way)
    }

    /// How many messages of QoS 1 wait for their answer.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// A message for the round. `retained`: where it is retained.
    pub(crate) fn add(&mut self, message: &Storable, partition: PartitionId, retained: Option<PartitionId>) {
        let parts = message.parts();
        self.round.add(partition, &parts);
        if let Some(retained) = retained {
            self.round.add(retained, &parts);
        }
    }

    /// The same for one of QoS 2 whose identifier does not lie with it.
    pub(crate) fn add_apart(
        &mut self,
        message: &Storable,
        packet_id: PacketId,
        attempt: Attempt,
        retained: Option<PartitionId>,
    ) {
        let parts = message.parts();
        self.round.add_apart(attempt, &parts);
        if let Some(retained) = retained {
            self.round.add(retained, &parts);
        }
        self.apart.push(packet_id);
    }

    /// A message that waits until it is due.
    pub(crate) fn hold(&mut self, held: Append) {
        self.round.record(held);
    }

    /// A reply that is written when what is before it is kept.
    pub(crate) fn reply(&mut self, kind: Kind, packet_id: PacketId, reason: Reason) {
        self.unanswered += usize::from(kind == Kind::Puback);
        self.replies.push(Reply { kind, packet_id, reason });
    }

    /// A message of the round is of QoS 2: the session's record has to tell of it.
    pub(crate) fn needs_received(&mut self) {
        self.needs.received = true;
    }

    /// Before PUBCOMP.
    pub(crate) fn needs_released(&mut self) {
        self.needs.released = true;
    }

    /// Before PUBREL.
    pub(crate) fn needs_record(&mut self) {
        self.needs.record = true;
    }
}

impl Connection {
    /// Sends what was gathered.
    pub(crate) fn send_round(&mut self) {
        let inbound = &mut self.inbound;
        let needs = std::mem::take(&mut inbound.needs);
        if inbound.round.is_empty() && needs == Needs::default() {
            if inbound.replies.is_empty() {
                return;
            }
            if inbound.under_way.is_empty() {
                // Nothing has to be kept before they are written.
                let replies = std::mem::take(&mut inbound.replies);
                self.write_replies(&replies);
                return;
            }
        }
        let mut round = std::mem::take(&mut inbound.round);
        let bytes = round.bytes();
        let (replies, apart) = (std::mem::take(&mut inbound.replies), std::mem::take(&mut inbound.apart));
        if needs.received {
            let records = self.gateway.sessions.record_append(&self.session);
            records.before.into_iter().for_each(|record| round.record_before(record));
            records.with.into_iter().for_each(|record| round.record(record));
        }
        let publishing = self.gateway.publishing.clone();
        let keeping: Keeping = match round.is_empty() {
            false if needs == Needs::default() => Box::pin(publishing.send(round)),
            is_empty => {
                let (session, sessions) = (self.session.clone(), self.gateway.sessions.clone());
                Box::pin(async move {
                    let registered = if needs.received { sessions.certain_in()? } else { None };
                    if !is_empty {
                        publishing.send_while(round, registered).await?;
                    }
                    match needs {
                        Needs { record: true, .. } => sessions.record(&session).await,
                        Needs { released: true, .. } => sessions.record_released(&session).await,
                        _ => Ok(()),
                    }
                })
            }
        };
        self.inbound.bytes += bytes;
        self.inbound.under_way.push_back(Flight { keeping, is_begun: false, replies, apart, bytes });
    }

    /// Takes answers that have come, in order. Returns whether there was one.
    pub(crate) fn poll_rounds(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let mut answered = false;
        while let Some(first) = self.inbound.under_way.front_mut() {
            first.is_begun = true;
            let Poll::Ready(kept) = first.keeping.as_mut().poll(context) else { break };
            let Some(flight) = self.inbound.under_way.pop_front() else { break };
            self.inbound.bytes -= flight.bytes;
            answered = true;
            self.answer(&flight, kept)?;
        }
        // A round begins when it is first polled; who is behind need not wait for who is before.
        let mut is_done = false;
        for flight in &mut self.inbound.under_way {
            if !std::mem::replace(&mut flight.is_begun, true)
                && let Poll::Ready(kept) = flight.keeping.as_mut().poll(context)
            {
                // Its turn comes when those before it are answered.
                flight.keeping = Box::pin(std::future::ready(kept));
                is_done = true;
            }
            if !flight.apart.is_empty() {
                // Its messages are appended when something else is kept: what is behind it would overtake them.
                break;
            }
        }
        Ok(answered | is_done)
    }

    fn answer(&mut self, flight: &Flight, kept: Result<(), PublishError>) -> Result<(), End> {
        self.inbound.unanswered -= flight.replies.iter().filter(|reply| reply.kind == Kind::Puback).count();
        let Err(error) = kept else {
            if !flight.apart.is_empty() {
                self.gateway.sessions.kept_apart(&self.session, &flight.apart);
            }
            self.write_replies(&flight.replies);
            let is_small = !flight.replies.is_empty() && (1..=SMALL_BYTES_MAX).contains(&flight.bytes);
            self.inbound.gives_way = is_small && self.gateway.takes_turns;
            return Ok(());
        };
        tracing::warn!(client = %self.session.client_id, %error, "published messages were not kept");
        let is_new = |kind| matches!(kind, Kind::Puback | Kind::Pubrec);
        let lost = Lost::from(error);
        self.gateway.sessions.not_received(&self.session, &flight.received(), error);
        let is_told = |reply: &Reply| !matches!(reply.kind, Kind::Pubrel | Kind::Pubcomp);
        match lost {
            // What was to be recorded is not a matter of one message.
            Lost::Told(reason) if self.client.version == Version::Mqtt5 && flight.replies.iter().all(is_told) => {
                let told = |reply: &Reply| if is_new(reply.kind) { Reply { reason, ..*reply } } else { *reply };
                let replies: Vec<Reply> = flight.replies.iter().map(told).collect();
                self.write_replies(&replies);
                Ok(())
            }
            // Of QoS 0 nobody is told.
            _ if flight.replies.is_empty() => Ok(()),
            Lost::Again(refusal) => Err(End::Refused(refusal)),
            Lost::Told(_) => Err(End::Refused(Refusal::from(error))),
        }
    }

    /// The connection waits no more for what is under way: whether it was kept is nobody's to say, until the log is read.
    pub(super) fn abandon_rounds(&mut self) {
        for flight in std::mem::take(&mut self.inbound.under_way) {
            self.gateway.sessions.not_received(&self.session, &flight.received(), PublishError::Unavailable);
        }
    }

    fn write_replies(&mut self, replies: &[Reply]) {
        for reply in replies {
            self.write_reply(*reply);
        }
    }

    fn write_reply(&mut self, Reply { kind, packet_id, reason }: Reply) {
        let version = self.client.version;
        if reason == Reason::Success || version < Version::Mqtt5 {
            self.wire.out.put_plain(kind.first(), packet_id);
            return;
        }
        let acknowledgement = Acknowledgement::of(packet_id, reason);
        let packet = match kind {
            Kind::Puback | Kind::PubackAlone => Packet::Puback(acknowledgement),
            Kind::Pubrec | Kind::PubrecAlone => Packet::Pubrec(acknowledgement),
            Kind::Pubrel => Packet::Pubrel(acknowledgement),
            Kind::Pubcomp => Packet::Pubcomp(acknowledgement),
        };
        self.write(&packet);
    }
}
