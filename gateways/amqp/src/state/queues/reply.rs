//! Direct reply-to: answers to requests go to the connection that asked, through no queue.
//!
//! A channel that consumes from the pseudo-queue [`PSEUDO_QUEUE`] gets an address of its own. Where it publishes with that name in
//! `reply-to`, the address takes its place; whoever answers publishes to it through the default exchange. An address names the
//! gateway that gave it, and only that one can deliver to it: an answer that is published at another goes by its inbox
//! (`reply_inbox`).

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use codec_amqp::ShortStr;
use dashmap::DashMap;

use super::outbox::{Outbox, Unasked};
use super::parcel::DELIVERY_BYTES;

/// The name from which a client consumes, and which it gives as `reply-to`.
pub const PSEUDO_QUEUE: &str = "amq.rabbitmq.reply-to";

/// Begins every address.
const ADDRESS_PREFIX: &str = "amq.rabbitmq.reply-to.";

/// A channel that gets direct replies.
#[derive(Debug)]
pub struct ReplyConsumer {
    pub channel: u16,
    pub channel_life: u64,
    pub tag: ShortStr,
    pub outbox: Arc<Outbox>,
}

/// An answer on its way to the connection that asked.
#[derive(Debug)]
pub struct DirectReply {
    pub channel: u16,
    pub channel_life: u64,
    pub consumer_tag: ShortStr,
    pub exchange: ShortStr,
    pub routing_key: ShortStr,
    /// As in a content header.
    pub properties: Bytes,
    pub body: Bytes,
    /// What room it takes in the outbox.
    pub bytes: usize,
}

/// Who gets direct replies at this gateway, by address.
#[derive(Debug)]
pub struct Replies {
    node_id: i32,
    /// Makes addresses that cannot be guessed.
    random: RandomState,
    given: AtomicU64,
    consumers: DashMap<String, ReplyConsumer>,
}

impl Replies {
    pub fn new(node_id: i32) -> Replies {
        Replies { node_id, random: RandomState::new(), given: AtomicU64::new(0), consumers: DashMap::new() }
    }

    /// Gives a channel an address.
    pub fn register(&self, consumer: ReplyConsumer) -> ShortStr {
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        let mut hasher = self.random.build_hasher();
        hasher.write_u64(number);
        let address = format!("{ADDRESS_PREFIX}{}.{number}.{:016x}", self.node_id, hasher.finish());
        self.consumers.insert(address.clone(), consumer);
        ShortStr::truncated(&address)
    }

    pub fn forget(&self, address: &str) {
        self.consumers.remove(address);
    }

    /// Whether a routing key of the default exchange is an address, be it of a channel that is there or not.
    pub fn is_address(routing_key: &str) -> bool {
        routing_key.starts_with(ADDRESS_PREFIX)
    }

    /// The number of the gateway that gave this address.
    pub fn gateway_of(address: &str) -> Option<i32> {
        address.strip_prefix(ADDRESS_PREFIX)?.split('.').next()?.parse().ok()
    }

    /// Whether a channel of this gateway has this address.
    pub fn knows(&self, address: &str) -> bool {
        self.consumers.contains_key(address)
    }

    /// Delivers an answer. False: nobody has this address, or it does not read; the message is unroutable.
    pub fn reply(&self, address: &ShortStr, exchange: ShortStr, properties: Bytes, body: Bytes) -> bool {
        let Some(consumer) = self.consumers.get(address.as_str()) else { return false };
        let bytes = properties.len() + body.len() + DELIVERY_BYTES;
        if !consumer.outbox.take_room(bytes) {
            return false;
        }
        let reply = DirectReply {
            channel: consumer.channel,
            channel_life: consumer.channel_life,
            consumer_tag: consumer.tag.clone(),
            exchange,
            routing_key: address.clone(),
            properties,
            body,
            bytes,
        };
        consumer.outbox.push(Unasked::DirectReply(Box::new(reply))).is_ok()
    }
}
