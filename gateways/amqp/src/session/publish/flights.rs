//! Rounds on their way to the core, and what becomes of them: confirms, or the end of who lost something.
//!
//! Rounds are answered in the order in which they were sent, so that `multiple` may stand for all that were not answered
//! before. Bounded: while too many are under way the connection takes no more frames.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use codec_amqp::{Outgoing, basic};
use codec_record::Batch;
use codec_record::amqp_message::{MessageView, Writer, messages};
use core_rpc::{Append, AppendError, AppendRequest, Core};

use crate::Gateway;
use crate::errors::Refusal;
use crate::state::channel::Channels;
use crate::state::channel::confirms::Answers;
use crate::state::lifecycle::Admission;
use crate::translate::names;
use crate::translate::round::{Held, Part, Round, Segment, Slot, Target};

/// Rounds under way, at most, and their bytes.
const FLIGHTS_MAX: usize = 64;
const FLIGHT_BYTES_MAX: usize = 8 << 20;

/// What became of a slot.
pub(crate) enum Fate {
    Kept,
    /// The messages of these positions were refused by a full queue.
    Rejected(Vec<bool>),
    Lost(AppendError),
}

/// What a connection has published and the core has not answered.
pub(crate) struct Flights {
    /// What is gathered.
    pub(crate) round: Round,
    under_way: VecDeque<Flight>,
    bytes: usize,
    /// Rounds that were ever sent.
    sent: u64,
}

struct Flight {
    keeping: Pin<Box<dyn Future<Output = Vec<Fate>> + Send>>,
    is_begun: bool,
    is_slow: bool,
    segments: Vec<Segment>,
    parts: Vec<Part>,
    bytes: usize,
}

/// Where confirms go.
pub(crate) struct Confirming<'a> {
    pub channels: &'a mut Channels,
    pub out: &'a mut Outgoing,
    /// Channels on which something was lost that nobody waits for: they are closed.
    pub lost: &'a mut Vec<(u16, Refusal)>,
}

impl Flights {
    pub(crate) fn new() -> Flights {
        Flights { round: Round::new(), under_way: VecDeque::new(), bytes: 0, sent: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// How many rounds were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// How many of them are answered: the first ones.
    pub(crate) fn answered(&self) -> u64 {
        self.sent - self.under_way.len() as u64
    }

    /// Whether more may be published.
    pub(crate) fn has_room(&self) -> bool {
        self.under_way.len() < FLIGHTS_MAX
            && self.bytes + self.round.bytes < FLIGHT_BYTES_MAX
            // What asks for room first must not be overtaken.
            && !self.under_way.back().is_some_and(|flight| flight.is_slow)
    }

    /// Sends what was gathered.
    pub(crate) fn send<C: Core>(&mut self, gateway: &Arc<Gateway<C>>) {
        if self.round.is_empty() {
            return;
        }
        let Round { slots, segments, parts, bytes, is_slow, .. } = self.round.take();
        self.bytes += bytes;
        let keeping: Pin<Box<dyn Future<Output = Vec<Fate>> + Send>> = if slots.is_empty() {
            Box::pin(std::future::ready(Vec::new()))
        } else {
            Box::pin(keep(gateway.clone(), slots))
        };
        self.sent += 1;
        self.under_way.push_back(Flight { keeping, is_begun: false, is_slow, segments, parts, bytes });
    }

    /// Takes answers that have come, in order. Returns whether there was one.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>, mut confirming: Confirming<'_>) -> bool {
        let mut answered = false;
        while let Some(first) = self.under_way.front_mut() {
            first.is_begun = true;
            let Poll::Ready(fates) = first.keeping.as_mut().poll(context) else { break };
            if let Some(flight) = self.under_way.pop_front() {
                self.bytes -= flight.bytes;
                confirming.answer(&flight, &fates);
                answered = true;
            }
        }
        // An append begins when it is first polled; who is behind need not wait for who is before.
        let mut done = Vec::new();
        for (at, flight) in self.under_way.iter_mut().enumerate().filter(|(_, flight)| !flight.is_begun) {
            flight.is_begun = true;
            if let Poll::Ready(fates) = flight.keeping.as_mut().poll(context) {
                done.push((at, fates));
            }
        }
        for (at, fates) in done {
            // Its turn comes when those before it are answered.
            if let Some(flight) = self.under_way.get_mut(at) {
                flight.keeping = Box::pin(std::future::ready(fates));
                answered = true;
            }
        }
        answered
    }
}

impl Confirming<'_> {
    fn answer(&mut self, flight: &Flight, fates: &[Fate]) {
        let mut answers: Vec<(u16, u64, Answers)> = Vec::new();
        for segment in &flight.segments {
            let parts = &flight.parts[segment.parts.start as usize..segment.parts.end as usize];
            if segment.first == 0 {
                self.note_loss(segment, parts, fates);
                continue;
            }
            let at = answers.iter().position(|(channel, life, _)| (*channel, *life) == (segment.channel, segment.life));
            let at = at.unwrap_or_else(|| {
                answers.push((segment.channel, segment.life, Answers::default()));
                answers.len() - 1
            });
            let of_channel = &mut answers[at].2;
            let last = segment.first + u64::from(segment.count) - 1;
            if parts.iter().all(|part| matches!(fates.get(part.slot as usize), Some(Fate::Kept))) {
                of_channel.push(segment.first, last, true);
            } else {
                for index in 0..segment.count {
                    let number = segment.first + u64::from(index);
                    of_channel.push(number, number, parts.iter().all(|part| is_kept(fates, part, index)));
                }
            }
        }
        for (number, life, answers) in answers {
            let Some(channel) = self.channels.get_mut(number).filter(|open| open.consuming.life() == life) else {
                continue;
            };
            channel.info.counters.confirm.add(answers.acked());
            channel.info.unconfirmed.fetch_sub(answers.count(), Ordering::Relaxed);
            for confirm in answers.confirms() {
                let (delivery_tag, multiple) = (confirm.delivery_tag, confirm.multiple);
                if confirm.is_ack {
                    self.out.put_method(number, &basic::Ack { delivery_tag, multiple }.into());
                } else {
                    self.out.put_method(number, &basic::Nack { delivery_tag, multiple, requeue: false }.into());
                }
            }
        }
    }

    /// Who does not ask for confirms is not told of a full queue, but is told if the broker lost something.
    fn note_loss(&mut self, segment: &Segment, parts: &[Part], fates: &[Fate]) {
        let lost = parts.iter().find_map(|part| match fates.get(part.slot as usize) {
            Some(Fate::Lost(error)) => Some(error.clone()),
            _ => None,
        });
        if let Some(error) = lost {
            self.lost.push((segment.channel, Refusal::from(error)));
        }
    }
}

fn is_kept(fates: &[Fate], part: &Part, index: u32) -> bool {
    match fates.get(part.slot as usize) {
        Some(Fate::Kept) => true,
        Some(Fate::Rejected(rejected)) => !rejected.get((part.position + index) as usize).copied().unwrap_or(false),
        Some(Fate::Lost(_)) | None => false,
    }
}

/// Has the core keep the slots: asks for room where there are limits, appends, and tells who looks after the queues.
pub(crate) async fn keep<C: Core>(gateway: Arc<Gateway<C>>, mut slots: Vec<Slot>) -> Vec<Fate> {
    let mut fates: Vec<Fate> = slots.iter().map(|_| Fate::Kept).collect();
    let mut appends: Vec<Append> = Vec::with_capacity(slots.len());
    // Of each append, its slot.
    let mut slot_of: Vec<usize> = Vec::with_capacity(slots.len());
    // Where what is held back lies.
    let mut held_in: Option<Arc<str>> = None;
    let turns = take_turns(&gateway, &slots).await;
    for (at, slot) in slots.iter_mut().enumerate() {
        if let Some(held) = slot.held.take() {
            held_in = Some(names::namespace(&held.vhost).into());
            match hold(&gateway, &held).await {
                Ok(append) => {
                    appends.push(append);
                    slot_of.push(at);
                }
                Err(error) => fates[at] = Fate::Lost(error),
            }
            continue;
        }
        let Some(mut batch) = slot.take_batch() else { continue };
        if let Some(admitted) = turns.admitted(at, slot.bodies.len()) {
            let (rest, refused) = split(&batch, &admitted);
            fates[at] = Fate::Rejected(admitted.iter().map(|admitted| !admitted).collect());
            if let Some(target) = slot.targets.first() {
                gateway.lifecycle.refused(&target.queue, refused).await;
            }
            match rest {
                Some(rest) => batch = rest,
                None => continue,
            }
        }
        for target in slot.targets.iter() {
            appends.push(Append { partition: target.partition, batch: batch.clone() });
            slot_of.push(at);
        }
    }
    if !appends.is_empty() {
        let answers = gateway.core.append(AppendRequest { appends }).await;
        for (at, answer) in slot_of.into_iter().zip(answers) {
            match answer {
                // A queue that was deleted meanwhile took the message with it.
                Ok(_) | Err(AppendError::UnknownPartition) => {}
                Err(error) => {
                    if error == AppendError::DiskFull {
                        let of_queue = slots[at].targets.first().map(|target| &target.queue.namespace);
                        of_queue.or(held_in.as_ref()).inspect(|namespace| gateway.alarms.disk_is_full(namespace));
                    }
                    tracing::warn!(%error, "published messages were not kept");
                    fates[at] = Fate::Lost(error);
                }
            }
        }
    }
    for slot in &slots {
        for target in slot.targets.iter() {
            gateway.lifecycle.published(&target.queue, slot.expires_ms);
        }
    }
    turns.end(&gateway).await;
    fates
}

/// The append of what is held back.
pub(crate) async fn hold<C: Core>(gateway: &Gateway<C>, held: &Held) -> Result<Append, AppendError> {
    let held_back = gateway.lifecycle.hold_back(&held.vhost, &held.piece, held.due_ms).await;
    held_back.map_err(|error| match error {
        core_rpc::TopicError::DiskFull => AppendError::DiskFull,
        core_rpc::TopicError::StorageFailed => AppendError::StorageFailed,
        _ => AppendError::Unavailable,
    })
}

/// The turns at limited queues: one for each queue, though it may have several slots.
#[derive(Default)]
pub(crate) struct Turns {
    turns: Vec<Turn>,
}

struct Turn {
    admission: Admission,
    /// The slots of the queue, and the position of each one's first message in the admission.
    slots: Vec<(usize, usize)>,
}

/// Waits for the turns at all limited queues, in the order of their ids: two publishers that had one queue each and waited for
/// the other's would wait for ever.
pub(crate) async fn take_turns<C: Core>(gateway: &Gateway<C>, slots: &[Slot]) -> Turns {
    let mut limited: Vec<(&Target, usize)> = slots
        .iter()
        .enumerate()
        .flat_map(|(at, slot)| slot.targets.iter().filter(|target| target.is_limited).map(move |target| (target, at)))
        .collect();
    limited.sort_by_key(|(target, at)| (target.partition.topic, *at));
    let mut turns = Turns::default();
    for of_queue in limited.chunk_by(|(one, _), (other, _)| one.partition.topic == other.partition.topic) {
        let mut bodies = Vec::new();
        let mut positions = Vec::with_capacity(of_queue.len());
        for (_, at) in of_queue {
            positions.push((*at, bodies.len()));
            bodies.extend_from_slice(&slots[*at].bodies);
        }
        let admission = gateway.lifecycle.admit(&of_queue[0].0.queue, &bodies).await;
        turns.turns.push(Turn { admission, slots: positions });
    }
    turns
}

impl Turns {
    /// Which messages of a slot may be appended. None: all.
    fn admitted(&self, slot: usize, count: usize) -> Option<Vec<bool>> {
        let (turn, first) = self.turns.iter().find_map(|turn| {
            let (_, first) = turn.slots.iter().find(|(at, _)| *at == slot)?;
            Some((turn, *first))
        })?;
        if turn.admission.admits_all() {
            return None;
        }
        Some((first..first + count).map(|position| turn.admission.admits(position)).collect())
    }

    /// Whether everything may be appended.
    pub(crate) fn admit_all(&self) -> bool {
        self.turns.iter().all(|turn| turn.admission.admits_all())
    }

    /// What was admitted is appended.
    pub(crate) async fn end<C: Core>(self, gateway: &Gateway<C>) {
        for turn in self.turns {
            gateway.lifecycle.appended(turn.admission).await;
        }
    }
}

/// The batch of what was admitted, and what was not.
fn split(batch: &Batch, admitted: &[bool]) -> (Option<Batch>, Vec<MessageView>) {
    let mut writer = Writer::new();
    let mut refused = Vec::new();
    for (message, admitted) in messages(&batch.payload).filter_map(Result::ok).zip(admitted) {
        if *admitted {
            writer.append(&message);
        } else {
            refused.push(message);
        }
    }
    (writer.take(), refused)
}
