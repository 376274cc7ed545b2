//! What waits in an outbox becomes frames: in the connection's task, which alone gives delivery tags.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use codec_amqp::{ContentMethod, FieldValue, Outgoing, Properties, basic};
use codec_record::amqp_message::walk;
use core_rpc::Core;

use super::outbox::{Outbox, Unasked};
use super::parcel::{Parcel, Parceled};
use super::reply::DirectReply;
use crate::Gateway;
use crate::errors::Refusal;
use crate::state::channel::{Channel, Channels};
use crate::state::registry::Connection;
use crate::state::topology::{Queue, QueueType};

impl Outbox {
    /// Puts what waits into `out` until that holds `bytes_max`, or nothing waits any more; then the task is woken when
    /// something does. What is for a channel that a handler has is held back. Returns what is wrong with channels, or with the connection where the refusal is hard.
    pub fn drain(
        &self,
        context: &mut Context<'_>,
        connection: &Connection,
        channels: &mut Channels,
        out: &mut Outgoing,
        bytes_max: usize,
    ) -> Vec<(u16, Refusal)> {
        let mut refused = Vec::new();
        while out.len() < bytes_max {
            let Poll::Ready(waiting) = self.poll_take(context) else { break };
            let mut held_back = Vec::new();
            for unasked in waiting {
                if unasked.channel().is_some_and(|number| channels.is_lent(number)) {
                    held_back.push(unasked);
                    continue;
                }
                match unasked {
                    Unasked::Deliveries(parcel) => deliver(connection, channels, out, parcel),
                    Unasked::DirectReply(reply) => deliver_reply(connection, channels, out, &reply),
                    Unasked::Method { channel, method } => out.put_method(channel, &method),
                    Unasked::Cancelled { channel, channel_life, consumer_tag } => {
                        let Some(open) = open_channel(channels, channel, channel_life) else { continue };
                        open.consuming.remove(&consumer_tag);
                        open.count_consumers();
                        if connection.capabilities.consumer_cancel_notify {
                            out.put_method(channel, &basic::Cancel { consumer_tag, no_wait: true }.into());
                        }
                    }
                    Unasked::LookAtTimeouts { default_ms } => {
                        let overdue = channels
                            .iter_mut()
                            .filter_map(|channel| Some((channel.number, overdue(channel, default_ms)?)));
                        refused.extend(overdue);
                    }
                    Unasked::Refused { channel, refusal } => refused.push((channel, refusal)),
                }
            }
            self.hold_back(held_back);
        }
        refused
    }
}

fn open_channel(channels: &mut Channels, number: u16, life: u64) -> Option<&mut Channel> {
    channels.get_mut(number).filter(|channel| channel.consuming.life() == life)
}

fn deliver(connection: &Connection, channels: &mut Channels, out: &mut Outgoing, parcel: Parcel) {
    let consumer = parcel.consumer.clone();
    let Some(channel) = open_channel(channels, consumer.channel, consumer.channel_life) else {
        return parcel.give_back();
    };
    let frame_bytes_max = connection.negotiated.frame_max as usize;
    let queue = parcel.queue().queue.clone();
    let mut redelivered = 0;
    channel.consuming.deliver(&parcel, now_s(), |delivery_tag, message| {
        redelivered += u64::from(message.is_redelivered());
        let Ok(parts) = walk::parts_at(&parcel.payload, message.at as usize) else {
            // It was looked at when it was dealt.
            debug_assert!(false, "a message that was dealt cannot be read");
            return;
        };
        let method = ContentMethod::Deliver {
            consumer_tag: &consumer.tag,
            delivery_tag,
            redelivered: message.is_redelivered(),
            exchange: parts.exchange,
            routing_key: parts.routing_key,
        };
        let body = parts.body_of(&parcel.payload);
        match counted(&queue, message, parts.properties) {
            Some(properties) => out.put_content(consumer.channel, method, properties.raw(), &body, frame_bytes_max),
            None => out.put_content(consumer.channel, method, parts.properties, &body, frame_bytes_max),
        }
    });
    let counters = &channel.info.counters;
    let delivered = parcel.messages.len() as u64;
    if consumer.no_ack {
        counters.deliver_no_ack.add(delivered)
    } else {
        counters.deliver.add(delivered)
    }
    counters.redeliver.add(redelivered);
    channel.count_unacked();
}

/// The properties with the headers that count deliveries, where the queue's type has them and there is something to count.
pub(crate) fn counted(queue: &Queue, message: &Parceled, properties: &[u8]) -> Option<Properties> {
    if queue.queue_type() != QueueType::Quorum || message.acquisitions <= 1 && message.failures == 0 {
        return None;
    }
    let properties = Properties::from_stored(bytes::Bytes::copy_from_slice(properties));
    let mut headers = Vec::new();
    if message.acquisitions > 1 {
        headers.push(("x-acquired-count", FieldValue::from(i64::from(message.acquisitions) - 1)));
    }
    if message.failures > 0 {
        headers.push(("x-delivery-count", FieldValue::from(i64::from(message.failures))));
    }
    properties.with_headers(&headers)
}

fn deliver_reply(connection: &Connection, channels: &mut Channels, out: &mut Outgoing, reply: &DirectReply) {
    let Some(channel) = open_channel(channels, reply.channel, reply.channel_life) else { return };
    let method = ContentMethod::Deliver {
        consumer_tag: &reply.consumer_tag,
        delivery_tag: channel.consuming.next_tag(),
        redelivered: false,
        exchange: &reply.exchange,
        routing_key: &reply.routing_key,
    };
    out.put_content(reply.channel, method, &reply.properties, &reply.body, connection.negotiated.frame_max as usize);
    channel.info.counters.deliver_no_ack.add(1);
}

/// A client took too long to settle a delivery, as RabbitMQ says it.
fn overdue(channel: &Channel, default_ms: Option<u64>) -> Option<Refusal> {
    let timeout_ms = channel.consuming.overdue(now_s(), default_ms)?;
    Some(Refusal::precondition_failed(format!(
        "delivery acknowledgement on channel {} timed out. Timeout value used: {timeout_ms} ms. This timeout value can be \
         configured, see consumers doc guide to learn more",
        channel.number
    )))
}

/// How often it is looked for deliveries that are out for too long.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often at most, where the gateway's own time-out is short.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(200);

/// Has the connections look for deliveries that are out for too long, until the gateway stops.
pub(crate) async fn watch_timeouts<C: Core>(gateway: Arc<Gateway<C>>) {
    let default_ms = gateway.config.consumer_timeout_ms();
    let every =
        gateway.config.consumer_timeout.map_or(LOOK_EVERY, |timeout| (timeout / 4).clamp(LOOK_EVERY_MIN, LOOK_EVERY));
    loop {
        tokio::select! {
            () = gateway.stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        for connection in gateway.registry.all().iter().filter(|connection| connection.has_unacknowledged()) {
            // One that is gone has nothing out.
            let _ = connection.outbox.push(Unasked::LookAtTimeouts { default_ms });
        }
    }
}

/// Seconds on this process's steady clock.
pub(crate) fn now_s() -> u32 {
    static BEGAN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    BEGAN.get_or_init(std::time::Instant::now).elapsed().as_secs() as u32
}
