//! The consuming side of one channel: its consumers, what they have and have not settled, and what was settled since the last
//! [`Consuming::flush`]. Owned by the connection's task.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use codec_amqp::ShortStr;
use core_rpc::{PartitionId, Settlement};
use gateway_runtime::Marks;

use super::unacked::{Delivered, Unacked, UnknownTag};
use crate::state::queues::{ChannelWindow, Consumer, LiveQueue, Parcel, Parceled};

/// What a client says of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ack,
    /// Again, to whoever is there.
    Requeue,
    /// Dead-lettered where the queue says so, else gone.
    Reject,
}

/// Messages that leave their queue for its dead letter exchange, or for nowhere if it has none.
#[derive(Debug)]
pub struct Dead {
    pub live: Arc<LiveQueue>,
    pub reason: DeadReason,
    /// Offsets in the order in which they were delivered.
    pub partitions: Vec<(PartitionId, Vec<u64>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadReason {
    Rejected,
    DeliveryLimit,
}

/// A channel's consumers and deliveries.
#[derive(Debug)]
pub struct Consuming {
    /// Unique in this gateway.
    life: u64,
    unacked: Unacked,
    sources: Vec<Option<Source>>,
    /// By the consumers' numbers.
    source_of: HashMap<u64, u32>,
    consumers: HashMap<ShortStr, Arc<Consumer>>,
    /// Of consumers made from now on; 0: no limit.
    prefetch: u32,
    window: Arc<ChannelWindow>,
    reply_to: Option<ReplyTo>,
    generated_tags: u64,
    dead: Vec<Dead>,
    /// Sources with something gathered.
    dirty: Vec<u32>,
}

/// From where deliveries come: a consumer, or a queue that is asked with basic.get.
#[derive(Debug)]
struct Source {
    live: Arc<LiveQueue>,
    consumer: Option<Arc<Consumer>>,
    /// Deliveries that are not settled.
    out: u32,
    /// Settled since the last flush, and what of that is to be delivered again.
    settled: u32,
    requeued: u32,
    /// What of those the core is told, by the number of the partition.
    marks: Vec<(u32, Marks)>,
}

/// The channel gets direct replies.
#[derive(Clone, Debug)]
pub struct ReplyTo {
    pub tag: ShortStr,
    pub address: ShortStr,
}

impl Default for Consuming {
    fn default() -> Consuming {
        Consuming::new()
    }
}

/// Numbers the lives of channels.
static LIVES: AtomicU64 = AtomicU64::new(1);

impl Consuming {
    fn new() -> Consuming {
        Consuming {
            life: LIVES.fetch_add(1, Ordering::Relaxed),
            unacked: Unacked::default(),
            sources: Vec::new(),
            source_of: HashMap::new(),
            consumers: HashMap::new(),
            prefetch: 0,
            window: Arc::default(),
            reply_to: None,
            generated_tags: 0,
            dead: Vec::new(),
            dirty: Vec::new(),
        }
    }

    /// Names this life of the channel.
    pub fn life(&self) -> u64 {
        self.life
    }

    /// How many deliveries wait to be settled.
    pub fn unacked(&self) -> usize {
        self.unacked.len()
    }

    pub fn consumers(&self) -> impl Iterator<Item = &Arc<Consumer>> {
        self.consumers.values()
    }

    pub fn consumer(&self, tag: &str) -> Option<&Arc<Consumer>> {
        self.consumers.get(tag)
    }

    /// Whether a consumer of this channel has the tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.consumers.contains_key(tag) || self.reply_to.as_ref().is_some_and(|reply_to| reply_to.tag == *tag)
    }

    /// A tag that no consumer of this channel has, nor one of another channel.
    pub fn generate_tag(&mut self) -> ShortStr {
        self.generated_tags += 1;
        ShortStr::truncated(&format!("amq.ctag-{:x}-{:x}", self.life, self.generated_tags))
    }

    pub fn add(&mut self, consumer: Arc<Consumer>) {
        self.window.join(&consumer);
        self.consumers.insert(consumer.tag.clone(), consumer);
    }

    /// A consumer ends. What it has not settled stays with the channel.
    pub fn remove(&mut self, tag: &str) -> Option<Arc<Consumer>> {
        let consumer = self.consumers.remove(tag)?;
        self.window.leave(consumer.number);
        Some(consumer)
    }

    pub fn prefetch(&self) -> u32 {
        self.prefetch
    }

    /// For consumers made from now on.
    pub fn set_prefetch(&mut self, prefetch: u32) {
        self.prefetch = prefetch;
    }

    /// For all consumers of the channel together.
    pub fn set_channel_prefetch(&mut self, prefetch: u32) {
        self.window.set_limit(prefetch);
    }

    pub fn window(&self) -> &Arc<ChannelWindow> {
        &self.window
    }

    pub fn reply_to(&self) -> Option<&ReplyTo> {
        self.reply_to.as_ref()
    }

    pub fn set_reply_to(&mut self, reply_to: Option<ReplyTo>) -> Option<ReplyTo> {
        std::mem::replace(&mut self.reply_to, reply_to)
    }

    /// A tag for a delivery that needs no acknowledgement.
    pub fn next_tag(&mut self) -> u64 {
        self.unacked.next_tag()
    }

    /// Gives each message of a parcel its tag, and remembers it until it is settled; without acknowledgements it is settled now.
    /// The parcel must be for this channel.
    pub fn deliver(&mut self, parcel: &Parcel, now_s: u32, mut each: impl FnMut(u64, &Parceled)) {
        let consumer = &parcel.consumer;
        if consumer.no_ack {
            parcel.messages.iter().for_each(|message| each(self.unacked.next_tag(), message));
            consumer.queue.settle(parcel.partition, parcel.ranges(Settlement::Accept));
            return;
        }
        let source = match self.source_of.get(&consumer.number) {
            Some(source) => *source,
            None => {
                let source = self.add_source(consumer.queue.clone(), Some(consumer.clone()));
                self.source_of.insert(consumer.number, source);
                source
            }
        };
        for message in &parcel.messages {
            let tag = self.unacked.deliver(source, parcel.partition, message.offset, message.failures, now_s);
            each(tag, message);
        }
        if let Some(source) = &mut self.sources[source as usize] {
            source.out += parcel.messages.len() as u32;
        }
    }

    /// A message that basic.get took; returns its tag.
    pub fn got(&mut self, live: &Arc<LiveQueue>, partition: u32, message: &Parceled, no_ack: bool, now_s: u32) -> u64 {
        if no_ack {
            let mut marks = Marks::default();
            marks.push(message.offset, Settlement::Accept);
            live.settle(partition, marks.take());
            return self.unacked.next_tag();
        }
        let is_of = |source: &Option<Source>| {
            source.as_ref().is_some_and(|source| source.consumer.is_none() && Arc::ptr_eq(&source.live, live))
        };
        let found = self.sources.iter().position(is_of).map(|at| at as u32);
        let source = found.unwrap_or_else(|| self.add_source(live.clone(), None));
        if let Some(source) = &mut self.sources[source as usize] {
            source.out += 1;
        }
        self.unacked.deliver(source, partition, message.offset, message.failures, now_s)
    }

    /// A client settles deliveries. The core is told with the next [`Consuming::flush`].
    /// Returns how many there were.
    pub fn settle(&mut self, tag: u64, multiple: bool, outcome: Outcome) -> Result<u64, UnknownTag> {
        let mut unacked = std::mem::take(&mut self.unacked);
        let mut count = 0;
        let settled = unacked.settle(tag, multiple, |entry| {
            count += 1;
            self.gather(entry, outcome);
        });
        self.unacked = unacked;
        settled.map(|()| count)
    }

    /// Takes deliveries out without settling them: for a transaction, which settles them when it commits
    /// ([`Consuming::finish`]) or puts them back ([`Consuming::restore`]).
    pub fn take(&mut self, tag: u64, multiple: bool) -> Result<Vec<Delivered>, UnknownTag> {
        let mut taken = Vec::new();
        self.unacked.settle(tag, multiple, |entry| taken.push(*entry))?;
        Ok(taken)
    }

    pub fn restore(&mut self, taken: Vec<Delivered>) {
        self.unacked.restore(taken);
    }

    /// Settles what was taken out.
    pub fn finish(&mut self, taken: &[Delivered], outcome: Outcome) {
        taken.iter().for_each(|entry| self.gather(entry, outcome));
    }

    /// Only forgets what was taken out: it is settled otherwise (by the transaction's own call).
    pub fn forget(&mut self, taken: &[Delivered]) {
        for entry in taken {
            self.touch(entry.source);
            if let Some(source) = &mut self.sources[entry.source as usize] {
                source.out -= 1;
                source.settled += 1;
            }
        }
    }

    /// The queue and partition of a delivery.
    pub fn place(&self, entry: &Delivered) -> Option<(&Arc<LiveQueue>, PartitionId)> {
        let source = self.sources[entry.source as usize].as_ref()?;
        Some((&source.live, *source.live.partitions.get(entry.partition as usize)?))
    }

    /// Everything that is out is to be delivered again: `basic.recover`.
    pub fn recover(&mut self) {
        let mut unacked = std::mem::take(&mut self.unacked);
        unacked.drain(|entry| self.gather(entry, Outcome::Requeue));
        self.unacked = unacked;
    }

    /// Tells the queues what was settled, and wakes who waits for places. Returns what is to be dead-lettered.
    pub fn flush(&mut self) -> Vec<Dead> {
        for number in std::mem::take(&mut self.dirty) {
            let Some(source) = &mut self.sources[number as usize] else { continue };
            for (partition, marks) in &mut source.marks {
                source.live.settle(*partition, marks.take());
            }
            source.marks.clear();
            let settled = std::mem::take(&mut source.settled);
            let requeued = std::mem::take(&mut source.requeued);
            if let Some(consumer) = &source.consumer {
                consumer.give_places(settled - requeued);
                if requeued > 0 {
                    give_places_when_settled(consumer.clone(), requeued);
                }
            }
            if source.out == 0 {
                if let Some(consumer) = &source.consumer {
                    self.source_of.remove(&consumer.number);
                }
                self.sources[number as usize] = None;
            }
        }
        std::mem::take(&mut self.dead)
    }

    /// Whether a delivery is out for longer than its queue allows, or where that says nothing, longer than `default_ms` (None: no
    /// limit). Returns the limit, ms.
    pub fn overdue(&self, now_s: u32, default_ms: Option<u64>) -> Option<u64> {
        let timeout_ms = |entry: &Delivered| {
            let source = self.sources[entry.source as usize].as_ref();
            source.and_then(|source| source.live.queue.config().consumer_timeout_ms).or(default_ms)
        };
        let overdue = |entry: &Delivered| {
            let out_ms = u64::from(now_s.saturating_sub(entry.delivered_s)) * 1000;
            timeout_ms(entry).filter(|timeout_ms| out_ms > *timeout_ms)
        };
        // The oldest first; of those that are younger none is overdue, unless its queue allows less.
        self.unacked.iter().take(OLDEST_LOOKED_AT).find_map(overdue)
    }

    /// The channel ends: its consumers are returned, to be taken from their queues. Then [`Consuming::give_back`].
    pub fn leave(&mut self) -> Vec<Arc<Consumer>> {
        let consumers: Vec<Arc<Consumer>> = self.consumers.drain().map(|(_, consumer)| consumer).collect();
        consumers.iter().for_each(|consumer| self.window.leave(consumer.number));
        consumers
    }

    /// What is out goes back in place. None of the channel's consumers may be at its queue any more: it would have its turn.
    pub fn give_back(&mut self) -> Vec<Dead> {
        self.recover();
        self.flush()
    }

    fn add_source(&mut self, live: Arc<LiveQueue>, consumer: Option<Arc<Consumer>>) -> u32 {
        let source = Some(Source { live, consumer, out: 0, settled: 0, requeued: 0, marks: Vec::new() });
        match self.sources.iter().position(Option::is_none) {
            Some(at) => {
                self.sources[at] = source;
                at as u32
            }
            None => {
                self.sources.push(source);
                self.sources.len() as u32 - 1
            }
        }
    }

    /// Notes that something is gathered for a source.
    fn touch(&mut self, number: u32) {
        let untouched = self.sources[number as usize].as_ref().is_some_and(|source| source.settled == 0);
        if untouched {
            self.dirty.push(number);
        }
    }

    fn gather(&mut self, entry: &Delivered, outcome: Outcome) {
        self.touch(entry.source);
        let Some(source) = &mut self.sources[entry.source as usize] else { return };
        source.out -= 1;
        source.settled += 1;
        let settlement = match outcome {
            Outcome::Ack => Settlement::Accept,
            Outcome::Requeue => {
                let limit = source.live.queue.config().delivery_limit;
                if limit.is_some_and(|limit| entry.failures >= limit) {
                    return self.add_dead(entry, DeadReason::DeliveryLimit);
                }
                source.requeued += 1;
                // Counted: the limit is there for messages that kill their consumers, too.
                Settlement::Fail
            }
            Outcome::Reject if source.live.queue.config().dead_letter_exchange.is_some() => {
                return self.add_dead(entry, DeadReason::Rejected);
            }
            Outcome::Reject => Settlement::Reject,
        };
        let place = source.marks.iter_mut().find(|(partition, _)| *partition == entry.partition);
        match place {
            Some((_, marks)) => marks.push(entry.offset, settlement),
            None => {
                let mut marks = Marks::default();
                marks.push(entry.offset, settlement);
                source.marks.push((entry.partition, marks));
            }
        }
    }

    fn add_dead(&mut self, entry: &Delivered, reason: DeadReason) {
        let Some(source) = &self.sources[entry.source as usize] else { return };
        let Some(partition) = source.live.partitions.get(entry.partition as usize) else { return };
        let of_queue = self.dead.iter_mut().find(|dead| dead.reason == reason && Arc::ptr_eq(&dead.live, &source.live));
        let Some(dead) = of_queue else {
            let partitions = vec![(*partition, vec![entry.offset])];
            return self.dead.push(Dead { live: source.live.clone(), reason, partitions });
        };
        match dead.partitions.iter_mut().find(|(other, _)| other == partition) {
            Some((_, offsets)) => offsets.push(entry.offset),
            None => dead.partitions.push((*partition, vec![entry.offset])),
        }
    }
}

/// A place that a returned message leaves is for that message first: it is free when the core has it back.
fn give_places_when_settled(consumer: Arc<Consumer>, places: u32) {
    tokio::spawn(async move {
        consumer.queue.settled().await;
        consumer.give_places(places);
    });
}

/// How many of the oldest deliveries are looked at for being overdue: they lie by age, and most queues allow the same.
const OLDEST_LOOKED_AT: usize = 16;
