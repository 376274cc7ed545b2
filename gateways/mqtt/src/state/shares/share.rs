//! One shared subscription, as far as it has members here: what they have, and what is to be settled.

use std::collections::HashMap;
use std::sync::Arc;

use codec_record::Batch;
use codec_record::mqtt_message::MessageView;
use codec_record::translate::mqtt_messages_where;
use core_rpc::{Acquired, AcquiredRange, GroupName, PartitionId, SessionId, SettleRange, Settlement};
use gateway_runtime::Marks;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::dealer::{At, Dealer};
use crate::state::filter;
use crate::state::sessions::{Delivery, Message, Place, Session, SessionKey, ShareLease, SubscriptionIds, Wish};
use crate::state::topics::{Known, Topics};
use crate::translate;

/// How a member is reached.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub session: Arc<Session>,
    pub wish: Wish,
}

#[derive(Debug)]
pub(super) struct Share {
    /// Its number in this gateway, never used again.
    pub id: u64,
    pub filter: Box<str>,
    /// Whose lease maps its are.
    pub group: GroupName,
    dealing: Mutex<Dealing>,
    /// Somebody came or left, or there is room where there was none.
    pub changed: Notify,
    /// It has no members here any more.
    pub over: CancellationToken,
}

#[derive(Debug, Default)]
struct Dealing {
    dealer: Dealer<SessionKey, Member>,
    /// The session at the core under which is held what is held. None: nothing was ever.
    under: Option<SessionId>,
    marks: HashMap<PartitionId, Marks>,
    /// Whether the settler knows of the marks.
    is_listed: bool,
    /// The share's task waits for room.
    is_starved: bool,
}

impl Dealing {
    /// What somebody has is for others, but for what it keeps. True: the settler is to be told.
    fn release_from(&mut self, key: SessionKey, keeps: &[At]) -> bool {
        let given_back = self.dealer.take_from(key, keeps);
        if given_back.is_empty() {
            return false;
        }
        for (partition, offset) in given_back {
            self.marks.entry(partition).or_default().push(offset, Settlement::Release);
        }
        !std::mem::replace(&mut self.is_listed, true)
    }
}

/// What is to be settled, and under which session it is held.
pub(super) type ToSettle = (SessionId, Vec<(PartitionId, Vec<SettleRange>)>);

/// Where something was acquired.
#[derive(Clone, Copy)]
pub(super) struct From<'a> {
    pub partition: PartitionId,
    /// Its topic, and how topics are found for names.
    pub known: &'a Known,
    pub topics: &'a Topics,
}

/// What came of dealing.
#[derive(Debug, Default)]
pub(super) struct Dealt {
    /// Messages that the filter matched, and those that were looked at.
    pub matched: u64,
    pub seen: u64,
    /// Connections to be woken.
    pub wake: Vec<Arc<Session>>,
    /// The settler is to be told.
    pub must_settle: bool,
}

impl Share {
    pub fn new(id: u64, filter: &str, group: GroupName) -> Share {
        let (changed, over) = (Notify::new(), CancellationToken::new());
        Share { id, filter: filter.into(), group, dealing: Mutex::default(), changed, over }
    }

    pub fn join(&self, member: Member, window: usize) {
        self.dealing.lock().dealer.join(member.session.key, member, window);
        self.changed.notify_one();
    }

    /// A member is not there, if it has not come back meanwhile. What it has goes to others, but for what its session finishes
    /// itself. True: the settler is to be told.
    pub fn away(&self, member: Member) -> bool {
        let mut dealing = self.dealing.lock();
        // Whoever comes back joins when it is attached.
        if member.session.is_attached() {
            return false;
        }
        let key = member.session.key;
        let keeps = member.session.shares_in_flight();
        let keeps: Vec<_> = keeps.iter().map(|share| (share.place.partition, share.place.offset)).collect();
        dealing.dealer.away(key, || member);
        let must_settle = dealing.release_from(key, &keeps);
        drop(dealing);
        self.changed.notify_one();
        must_settle
    }

    /// A member leaves. What it has goes to others, or, with `keeps`, is still its to settle. Whether nobody is left, and
    /// whether the settler is to be told.
    pub fn leave(&self, key: SessionKey, keeps: bool) -> (bool, bool) {
        let mut dealing = self.dealing.lock();
        dealing.dealer.leave(key);
        let must_settle = !keeps && dealing.release_from(key, &[]);
        let is_empty = dealing.dealer.is_empty();
        drop(dealing);
        self.changed.notify_one();
        (is_empty, must_settle)
    }

    /// A delivery is done with, or is given back. True: the settler is to be told.
    pub fn finish(&self, lease: &ShareLease, settlement: Settlement) -> bool {
        let mut dealing = self.dealing.lock();
        let Place { partition, offset } = lease.place;
        let must_settle = dealing.dealer.has((partition, offset), lease.turn);
        if !dealing.dealer.finish((partition, offset), lease.turn) {
            return false;
        }
        if std::mem::take(&mut dealing.is_starved) {
            self.changed.notify_one();
        }
        if !must_settle {
            return false;
        }
        dealing.marks.entry(partition).or_default().push(offset, settlement);
        !std::mem::replace(&mut dealing.is_listed, true)
    }

    /// The session under which messages are held that are all still held as these leases say. None: they are not.
    pub fn holds(&self, leases: &[ShareLease]) -> Option<SessionId> {
        let dealing = self.dealing.lock();
        let is_held = |lease: &ShareLease| dealing.dealer.has((lease.place.partition, lease.place.offset), lease.turn);
        dealing.under.filter(|_| leases.iter().all(is_held))
    }

    /// They are settled; what becomes of them is their member's alone.
    pub fn keep(&self, leases: &[ShareLease]) {
        let mut dealing = self.dealing.lock();
        for lease in leases {
            dealing.dealer.keep((lease.place.partition, lease.place.offset), lease.turn);
        }
    }

    /// Whether it has no members here, and nobody has anything of it.
    pub fn is_done(&self) -> bool {
        let dealing = self.dealing.lock();
        dealing.dealer.is_empty() && !dealing.dealer.holds()
    }

    /// How many messages can be dealt, of which each member gets so many at most. If none can, [`Share::changed`] tells when that
    /// is otherwise.
    pub fn demand(&self, most: usize) -> usize {
        let mut dealing = self.dealing.lock();
        let demand = dealing.dealer.demand(most);
        dealing.is_starved = demand == 0;
        demand
    }

    /// From now on what is acquired is held under this session. What was held under another is not held any more.
    pub fn hold_under(&self, session: SessionId) {
        let mut dealing = self.dealing.lock();
        if dealing.under.replace(session) != Some(session) {
            dealing.dealer.forget_held();
            dealing.marks.clear();
        }
    }

    /// Takes out what is to be settled.
    pub fn take_marks(&self) -> Option<ToSettle> {
        let mut dealing = self.dealing.lock();
        dealing.is_listed = false;
        let session = dealing.under?;
        let partitions: Vec<_> =
            dealing.marks.drain().map(|(partition, mut marks)| (partition, marks.take())).collect();
        (!partitions.is_empty()).then_some((session, partitions))
    }

    /// Deals what was acquired under a session. What the filter does not match, and what is over, is done with; what nobody
    /// can take is for others.
    pub fn deal(&self, session: SessionId, from: From<'_>, acquired: Acquired, now_ms: i64) -> Dealt {
        let mut dealt = Dealt::default();
        let mut dealing = self.dealing.lock();
        if dealing.under != Some(session) {
            return dealt;
        }
        let Dealing { dealer, marks, .. } = &mut *dealing;
        let partition = from.partition;
        let marks = marks.entry(partition).or_default();
        let mut ranges = Ranges::new(acquired.ranges);
        for batch in &acquired.batches {
            for (offset, message) in matching(batch, from, &self.filter) {
                if !ranges.accept_until(offset, marks) || message.is_expired(now_ms) {
                    continue;
                }
                ranges.take(offset);
                dealt.matched += 1;
                let at = (partition, offset);
                let Some((member, turn)) = dealer.deal(at, message.publish.payload().len()) else {
                    marks.push(offset, Settlement::Release);
                    continue;
                };
                let Member { session, wish } = member.clone();
                let delivery = Delivery {
                    qos: wish.qos.min(message.qos),
                    retain: wish.retain_as_published && message.retain,
                    subscription_ids: wish.subscription_id.map_or(SubscriptionIds::None, SubscriptionIds::One),
                    share: Some(ShareLease { share: self.id, place: Place { partition, offset }, turn }),
                    message: Arc::new(message),
                };
                match session.push_shared(delivery) {
                    Some(wake) => {
                        if wake && dealt.wake.last().is_none_or(|last| last.key != session.key) {
                            dealt.wake.push(session);
                        }
                    }
                    None => {
                        // Its connection went away, and whoever joins it anew waits for our lock.
                        dealer.finish(at, turn);
                        dealer.away(session.key, || Member { session: session.clone(), wish });
                        marks.push(offset, Settlement::Release);
                    }
                }
            }
        }
        dealt.seen = ranges.count;
        ranges.accept_until(u64::MAX, marks);
        let is_empty = marks.is_empty();
        dealt.must_settle = !is_empty && !std::mem::replace(&mut dealing.is_listed, true);
        dealt
    }
}

/// The messages of a batch that the filter matches, by their offsets. What cannot be understood is left out.
fn matching(batch: &Batch, from: From<'_>, wanted: &str) -> Vec<(u64, Message)> {
    let topic = &from.known.topic.name;
    let belongs = |name: &str| from.topics.belongs(name, from.known);
    let views = mqtt_messages_where(batch, topic, &belongs).inspect_err(|error| {
        tracing::warn!(topic, offset = batch.header.base_offset, %error, "a batch cannot be delivered");
    });
    // Of a batch that is damaged those before.
    let views = views.into_iter().flatten().map_while(Result::ok);
    let wanted = views.filter(|view| view.topic_str().is_ok_and(|name| filter::matches(wanted, name)));
    let message = |view: MessageView| {
        let offset = batch.header.base_offset + u64::from(view.position);
        Some((offset, translate::message(&batch.header, view, from.partition)?))
    };
    wanted.filter_map(message).collect()
}

/// What was acquired and is not dealt with yet, rising.
#[derive(Debug)]
struct Ranges {
    ranges: std::collections::VecDeque<(u64, u64)>,
    /// How many messages they were.
    count: u64,
}

impl Ranges {
    fn new(ranges: Vec<AcquiredRange>) -> Ranges {
        let count = ranges.iter().map(|range| range.last - range.first + 1).sum();
        Ranges { ranges: ranges.into_iter().map(|range| (range.first, range.last)).collect(), count }
    }

    /// All before the offset is done with. Whether the offset itself is among them.
    fn accept_until(&mut self, offset: u64, marks: &mut Marks) -> bool {
        while let Some((first, last)) = self.ranges.front_mut() {
            if *first >= offset {
                return *first == offset;
            }
            if *last >= offset {
                marks.push_range(*first, offset - 1, Settlement::Accept);
                *first = offset;
                return true;
            }
            marks.push_range(*first, *last, Settlement::Accept);
            self.ranges.pop_front();
        }
        false
    }

    /// The offset, which is the first, is dealt with.
    fn take(&mut self, offset: u64) {
        match self.ranges.front_mut() {
            Some((_, last)) if *last == offset => drop(self.ranges.pop_front()),
            Some((first, _)) => *first = offset + 1,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, last: u64) -> AcquiredRange {
        AcquiredRange { first, last, acquisitions: 1, failures: 0 }
    }

    #[test]
    fn what_is_not_dealt_is_accepted() {
        let mut ranges = Ranges::new(vec![range(3, 5), range(8, 8), range(10, 20)]);
        assert_eq!(ranges.count, 15);
        let mut marks = Marks::default();
        assert!(!ranges.accept_until(2, &mut marks));
        assert!(ranges.accept_until(4, &mut marks));
        ranges.take(4);
        assert!(!ranges.accept_until(7, &mut marks));
        assert!(ranges.accept_until(8, &mut marks));
        ranges.take(8);
        assert!(ranges.accept_until(10, &mut marks));
        // Expired, say: it is not taken.
        assert!(ranges.accept_until(12, &mut marks));
        ranges.take(12);
        assert!(!ranges.accept_until(u64::MAX, &mut marks));
        let accepted: Vec<_> = marks.take().iter().map(|range| (range.first, range.last)).collect();
        assert_eq!(accepted, [(3, 3), (5, 5), (10, 11), (13, 20)]);
    }
}
