//! What the session has for the client, on its way to the socket.
//!
//! First what was sent to an earlier connection and not acknowledged [MQTT-4.4.0-1], then what waits. A message of QoS 2 to a
//! session that survives its connection is written when the session's record tells of it, a shared one when nobody else can get
//! it any more; messages that wait as references are loaded first. Nothing overtakes either, but for what is of QoS 0 where the client
//! has to acknowledge something before the others [MQTT-3.3.4-10].

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use codec_mqtt::{Delivery as PublishDelivery, Head, PacketId, QoS, Text, TopicAlias, TopicAliasUse, Version};

use super::publish::Kind;
use super::{Connection, End};
use crate::Gateway;
use crate::state::publishing::PublishError;
use crate::state::sessions::{Delivery, Held, Resend, ShareLease, Waiting as Reference, loader};

/// Messages that are taken from the session at once, and bytes that are gathered before they are written.
const TAKE_MAX: usize = 256;
const GATHER_BYTES: usize = 128 << 10;

/// References that are loaded at once to be sent again.
const RESEND_MAX: usize = 128;

/// Topics shorter than an alias's property are not worth one.
const ALIAS_TOPIC_BYTES_MIN: usize = 4;

/// How long to wait before a core is asked again that could not answer.
const LOAD_RETRY: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(crate) struct Outbound {
    /// First come, first served: the topics of a client that asks for aliases are few, or it has asked for too few.
    aliases: HashMap<Text, TopicAlias>,
    resends: VecDeque<Resend>,
    /// Messages that were sent again and are not acknowledged: while there are others to be sent again, they count against the
    /// client's receive maximum.
    resent: usize,
    waiting: Option<Waiting>,
}

type Taken = Vec<(Option<PacketId>, Delivery)>;
type Recording = Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send>>;
type Loading = Pin<Box<dyn Future<Output = Vec<Option<Delivery>>> + Send>>;

enum Waiting {
    /// For the record that tells of these.
    Recording(Recording, Taken),
    /// For what references mean.
    Loading(Loading),
    /// For what these mean, which are to be sent again.
    Reloading(Loading, Vec<Resend>),
}

impl Outbound {
    pub(super) fn new(resends: Vec<Resend>) -> Outbound {
        Outbound { resends: resends.into(), ..Outbound::default() }
    }
}

impl Connection {
    /// Writes messages. Returns whether there were any.
    pub(super) fn poll_deliveries(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let mut progress = false;
        while self.may_deliver() && self.wire.out.len() < GATHER_BYTES {
            if let Some(waiting) = self.outbound.waiting.take() {
                if !self.poll_waiting(waiting, context)? {
                    break;
                }
                progress = true;
            } else if !self.outbound.resends.is_empty() {
                if !self.resend() && !self.take_free(context) {
                    break;
                }
                progress = true;
            } else if !self.take(context) {
                break;
            } else {
                progress = true;
            }
        }
        Ok(progress)
    }

    /// False: it waits still.
    fn poll_waiting(&mut self, mut waiting: Waiting, context: &mut Context<'_>) -> Result<bool, End> {
        match &mut waiting {
            Waiting::Recording(record, taken) => {
                if let Poll::Ready(kept) = record.as_mut().poll(context) {
                    let mut taken = std::mem::take(taken);
                    if kept == Err(PublishError::NotHeld) {
                        // Others get those, but for what could be had. What the record has to tell of the rest it does not tell yet.
                        taken.retain(|(packet_id, delivery)| !is_claimed(delivery) || self.owns(*packet_id));
                        self.record(taken);
                        return Ok(true);
                    }
                    kept.map_err(|error| End::Refused(error.into()))?;
                    self.write_taken(taken);
                    return Ok(true);
                }
            }
            Waiting::Loading(loading) => {
                if let Poll::Ready(loaded) = loading.as_mut().poll(context) {
                    self.session.loaded(self.id, loaded);
                    return Ok(true);
                }
            }
            Waiting::Reloading(loading, resends) => {
                if let Poll::Ready(loaded) = loading.as_mut().poll(context) {
                    let resends = std::mem::take(resends);
                    self.reloaded(resends, loaded);
                    return Ok(true);
                }
            }
        }
        self.outbound.waiting = Some(waiting);
        Ok(false)
    }

    /// Takes what the session has. False: nothing, now; this task is woken when there is something.
    fn take(&mut self, context: &mut Context<'_>) -> bool {
        let taken = self.session.take(self.id, context.waker(), TAKE_MAX, crate::now_ms());
        taken.expired.iter().for_each(|share| self.settle(share));
        if !taken.load.is_empty() {
            self.outbound.waiting = Some(Waiting::Loading(load(self.gateway.clone(), taken.load)));
            return true;
        }
        if taken.deliveries.is_empty() {
            return false;
        }
        if taken.must_record {
            self.record(taken.deliveries);
            return true;
        }
        self.write_taken(taken.deliveries);
        true
    }

    /// The same while others have to be sent again first, and the client's window is full of those: what is of QoS 0.
    fn take_free(&mut self, context: &mut Context<'_>) -> bool {
        let taken = self.session.take_free(self.id, context.waker(), TAKE_MAX, crate::now_ms());
        taken.expired.iter().for_each(|share| self.settle(share));
        let are_any = !taken.deliveries.is_empty();
        self.write_taken(taken.deliveries);
        are_any
    }

    /// Sees to it that the log tells of messages before they are written.
    fn record(&mut self, taken: Taken) {
        let (sessions, session) = (self.gateway.sessions.clone(), self.session.clone());
        let claimed = taken.iter().filter(|(packet_id, delivery)| is_claimed(delivery) && !self.owns(*packet_id));
        let claimed: Vec<(PacketId, ShareLease)> =
            claimed.filter_map(|(packet_id, delivery)| Some(((*packet_id)?, delivery.share.clone()?))).collect();
        let recording: Recording = match claimed.is_empty() {
            true => Box::pin(async move { sessions.record(&session).await }),
            false => Box::pin(async move { sessions.record_shared(&session, claimed).await }),
        };
        self.outbound.waiting = Some(Waiting::Recording(recording, taken));
    }

    fn owns(&self, packet_id: Option<PacketId>) -> bool {
        packet_id.is_some_and(|packet_id| self.session.owns(packet_id))
    }

    fn write_taken(&mut self, taken: Taken) {
        let now_ms = crate::now_ms();
        for (packet_id, delivery) in taken {
            self.write_delivery(packet_id, &delivery, false, now_ms);
        }
    }

    /// Sends some of what is to be sent again. False: the client has to acknowledge something first.
    fn resend(&mut self) -> bool {
        let room = usize::from(self.client.window).saturating_sub(self.outbound.resent).min(RESEND_MAX);
        let mut resends = Vec::new();
        let mut publishes = 0;
        while let Some(resend) = self.outbound.resends.front() {
            let is_publish = matches!(resend, Resend::Publish { .. });
            if is_publish && publishes == room {
                break;
            }
            publishes += usize::from(is_publish);
            resends.extend(self.outbound.resends.pop_front());
        }
        if resends.is_empty() {
            return false;
        }
        self.outbound.resent += publishes;
        let wanted: Vec<_> = (resends.iter())
            .filter_map(|resend| match resend {
                Resend::Publish { what: Held::There(waiting), .. } => Some(waiting.clone()),
                _ => None,
            })
            .collect();
        if wanted.is_empty() {
            self.reloaded(resends, Vec::new());
        } else {
            self.outbound.waiting = Some(Waiting::Reloading(load(self.gateway.clone(), wanted), resends));
        }
        true
    }

    fn reloaded(&mut self, resends: Vec<Resend>, loaded: Vec<Option<Delivery>>) {
        let now_ms = crate::now_ms();
        let mut loaded = loaded.into_iter();
        for resend in resends {
            match resend {
                Resend::Release { packet_id } => self.wire.out.put_plain(0x62, packet_id),
                Resend::Publish { packet_id, what: Held::Here(delivery) } => {
                    self.write_delivery(Some(packet_id), &delivery, true, now_ms);
                }
                Resend::Publish { packet_id, what: Held::There(waiting) } => match loaded.next().flatten() {
                    Some(delivery) => self.write_delivery(Some(packet_id), &delivery, true, now_ms),
                    // The log has it no more.
                    None => self.drop_delivery(Some(packet_id), waiting.qos),
                },
            }
        }
    }

    /// A message that the client does not get: as if it had acknowledged it.
    fn drop_delivery(&mut self, packet_id: Option<PacketId>, qos: QoS) {
        let Some(packet_id) = packet_id else { return };
        if let Ok(share) = self.session.acknowledged(packet_id, qos) {
            self.is_done(share);
        }
    }

    fn write_delivery(&mut self, packet_id: Option<PacketId>, delivery: &Delivery, is_again: bool, now_ms: i64) {
        let (version, message) = (self.client.version, &delivery.message);
        let publish = &message.publish;
        let share = delivery.share.clone();
        let mut head = Head {
            duplicate: is_again,
            delivery: match (delivery.qos, packet_id) {
                (QoS::AtLeastOnce, Some(packet_id)) => PublishDelivery::AtLeastOnce(packet_id),
                (QoS::ExactlyOnce, Some(packet_id)) => PublishDelivery::ExactlyOnce(packet_id),
                _ => PublishDelivery::AtMostOnce,
            },
            retain: delivery.retain,
            topic_alias: TopicAliasUse::None,
            message_expiry_interval_s: None,
            subscription_ids: &[],
        };
        if version == Version::Mqtt5 {
            head.message_expiry_interval_s = message.expires_in_s(now_ms);
            head.subscription_ids = delivery.subscription_ids.as_slice();
            head.topic_alias = self.outbound.alias(publish.topic(), self.client.topic_alias_max);
        }
        let packet_bytes_max = self.client.packet_bytes_max;
        let may_read = self.gateway.access.may_read(&self.client.who, publish.topic());
        let fits =
            may_read && (packet_bytes_max == usize::MAX || publish.packet_bytes(version, &head) <= packet_bytes_max);
        if fits && self.wire.out.put_publish(publish, version, &head).is_ok() {
            self.tally.publishes_sent += 1;
            self.tally.payload_bytes_sent += publish.payload().len() as u64;
            if let TopicAliasUse::Sets(alias) = head.topic_alias {
                // A copy: the name is a part of a batch, which must not stay for it.
                self.outbound.aliases.extend(Text::new(publish.topic().as_str()).map(|topic| (topic, alias)));
            }
            if packet_id.is_none() {
                // Nobody acknowledges QoS 0: it is done with when it is sent.
                share.iter().for_each(|share| self.settle(share));
            }
            return;
        }
        // As if its application had dropped it [MQTT-3.1.2-25].
        self.tally.publishes_dropped += 1;
        self.drop_delivery(packet_id, delivery.qos);
        if packet_id.is_none() {
            share.iter().for_each(|share| self.settle(share));
        }
    }

    /// PUBREC came: PUBREL goes, for a session that survives its connection when the record tells of it.
    pub(crate) fn release(&mut self, packet_id: PacketId, reason: codec_mqtt::Reason) {
        if reason == codec_mqtt::Reason::Success && self.session.is_persistent() {
            self.inbound.needs_record();
        }
        self.inbound.reply(Kind::Pubrel, packet_id, reason);
    }
}

impl Outbound {
    /// A message is acknowledged, or done with.
    pub(super) fn acknowledged(&mut self) {
        self.resent = self.resent.saturating_sub(1);
    }

    fn alias(&self, topic: &Text, alias_max: u16) -> TopicAliasUse {
        if alias_max == 0 || topic.len() < ALIAS_TOPIC_BYTES_MIN {
            return TopicAliasUse::None;
        }
        if let Some(alias) = self.aliases.get(topic) {
            return TopicAliasUse::Stands(*alias);
        }
        let next = u16::try_from(self.aliases.len() + 1).ok().filter(|next| *next <= alias_max);
        next.and_then(NonZeroU16::new).map_or(TopicAliasUse::None, |next| TopicAliasUse::Sets(TopicAlias(next)))
    }
}

/// Whether nobody else may get a message from when it is sent on.
fn is_claimed(delivery: &Delivery) -> bool {
    delivery.qos == QoS::ExactlyOnce && delivery.share.is_some()
}

/// Reads what references stand for, as soon as the core can say it.
fn load(gateway: Arc<Gateway>, waiting: Vec<Reference>) -> Loading {
    Box::pin(async move {
        loop {
            match loader::load(&gateway.core, &gateway.topics, &waiting).await {
                Ok(loaded) => return loaded,
                Err(error) => {
                    tracing::warn!(%error, "messages that wait cannot be read");
                    tokio::time::sleep(LOAD_RETRY).await;
                }
            }
        }
    })
}
