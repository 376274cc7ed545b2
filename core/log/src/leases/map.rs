//! One lease map: pure, time passed in.
//!
//! ```text
//!   settled │ settled  available  leased  settled  leased │ new …
//!          floor                                         next
//! ```
//! The ranges lie one behind the other from floor to next, and no two neighbours are alike.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use core_rpc::{
    AcquireMode, AcquiredRange, LEASE_RANGES_MAX, LeaseError, LeaseView, RangeState, RangeView, SessionId, SettleRange,
    Settlement,
};

use super::record::{LeaseSnapshot, Mark, MarkedRange};

#[derive(Debug, Default)]
pub struct LeaseMap {
    floor: u64,
    next: u64,
    /// By first offset.
    ranges: BTreeMap<u64, Range>,
    accepted_total: u64,
    rejected_total: u64,
    /// A seek is on its way to the disk: what is held now can no longer be settled.
    pub seeking: bool,
    /// Somebody found nothing because the window or the map was full: they are to be woken when something is settled.
    pub blocked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    last: u64,
    state: State,
    acquisitions: u32,
    failures: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Available,
    Leased(Holding),
    /// Its settling is on its way to the disk.
    Settling(Holding),
    Settled,
}

/// Who holds a range, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    pub holder: Arc<str>,
    pub until: Until,
    pub acquisitions_max: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// By the clock's [`crate::Clock::elapsed`].
    At(Duration),
    Session(SessionId),
    /// Until it is settled: it is being rejected.
    Rejected,
}

/// What an acquire wants of a map.
#[derive(Clone, Debug)]
pub struct Want {
    pub holding: Holding,
    pub mode: AcquireMode,
    pub window_messages: u64,
}

/// What an acquire got out of a stretch of offsets.
#[derive(Debug, Default)]
pub struct Leased {
    pub ranges: Vec<AcquiredRange>,
    pub messages: u64,
    /// Handed out as often as they may be, under an earlier limit: to be rejected. They are held by nobody meanwhile.
    pub exhausted: Vec<(u64, u64)>,
}

/// Marks to be journaled, and what they count.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settling {
    pub marks: Vec<MarkedRange>,
    pub accepted: u64,
    pub rejected: u64,
}

impl LeaseMap {
    pub fn new(floor: u64) -> LeaseMap {
        LeaseMap { floor, next: floor, ..LeaseMap::default() }
    }

    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Where something can be acquired at or after `from`: the first offset, and the last if it is not new.
    pub fn candidate(&mut self, from: u64, window_messages: u64) -> Option<(u64, Option<u64>)> {
        let containing = self.ranges.range(..=from).next_back().map_or(from, |(first, _)| *first);
        let available = (self.ranges.range(containing..))
            .find(|(_, range)| range.state == State::Available && range.last >= from)
            .map(|(first, range)| ((*first).max(from), Some(range.last)));
        if available.is_some() {
            return available;
        }
        if self.room(window_messages) == 0 {
            self.blocked = true;
            return None;
        }
        Some((self.next, None))
    }

    /// How many new messages may be handed out.
    fn room(&self, window_messages: u64) -> u64 {
        if self.ranges.len() >= LEASE_RANGES_MAX { 0 } else { window_messages.saturating_sub(self.next - self.floor) }
    }

    /// There are no messages at these offsets: what is available or new of them counts as settled, in memory only.
    pub fn skip(&mut self, first: u64, last: u64) {
        if last < self.floor || last < first {
            return;
        }
        let first = first.max(self.floor);
        if first > self.next {
            // Nobody has looked at what lies between.
            return;
        }
        if last >= self.next {
            let fresh = self.next;
            self.put_range(fresh, Range { last, state: State::Settled, acquisitions: 0, failures: 0 });
            self.next = last + 1;
        }
        self.change(first, last, |range| {
            if range.state == State::Available {
                *range = Range { last: range.last, state: State::Settled, acquisitions: 0, failures: 0 };
            }
        });
        self.lift_floor();
    }

    /// Leases what is available or new of a batch from `first` to `last`; at most `messages_max` where the mode is strict.
    pub fn lease(&mut self, first: u64, last: u64, want: &Want, messages_max: u64) -> Leased {
        let mut leased = Leased::default();
        let strict = want.mode == AcquireMode::Strict;
        let first = first.max(self.floor);
        if last < first {
            return leased;
        }
        let room = self.room(want.window_messages);
        if last >= self.next && first <= self.next && room > 0 && messages_max > 0 {
            // New ones come in as available, and are taken like the others.
            let last = if strict { last.min(self.next + (room.min(messages_max) - 1)) } else { last };
            let fresh = self.next;
            self.put_range(fresh, Range { last, state: State::Available, acquisitions: 0, failures: 0 });
            self.next = last + 1;
        }
        let mut left = if strict { messages_max } else { u64::MAX };
        let mut taken: Vec<(u64, u64)> = Vec::new();
        let from = self.ranges.range(..=first).next_back().map_or(first, |(first, _)| *first);
        for (range_first, range) in self.ranges.range(from..=last) {
            let (begin, end) = ((*range_first).max(first), range.last.min(last));
            if range.state != State::Available || end < begin {
                continue;
            }
            if range.acquisitions >= want.holding.acquisitions_max {
                leased.exhausted.push((begin, end));
                continue;
            }
            if left == 0 {
                break;
            }
            let end = end.min(begin.saturating_add(left - 1));
            let count = end - begin + 1;
            left -= count.min(left);
            leased.messages += count;
            leased.ranges.push(AcquiredRange {
                first: begin,
                last: end,
                acquisitions: range.acquisitions + 1,
                failures: range.failures,
            });
            taken.push((begin, end));
        }
        for (begin, end) in taken {
            self.change(begin, end, |range| {
                range.state = State::Leased(want.holding.clone());
                range.acquisitions += 1;
            });
        }
        let rejected = Holding { holder: Arc::from(""), until: Until::Rejected, acquisitions_max: 0 };
        for (begin, end) in &leased.exhausted {
            self.change(*begin, *end, |range| {
                range.state = State::Leased(rejected.clone());
                // As with any lease: this one is counted until it is settled.
                range.acquisitions += 1;
            });
        }
        leased
    }

    /// Takes back what nobody has seen: as if it had never been acquired.
    pub fn unlease(&mut self, first: u64, last: u64, holder: &str) {
        self.change(first, last, |range| {
            if matches!(&range.state, State::Leased(holding) if &*holding.holder == holder) {
                range.state = State::Available;
                range.acquisitions -= 1;
            }
        });
        // What was new is so again: otherwise a window of one would keep an order that nobody has seen.
        while let Some((first, range)) = self.ranges.last_key_value()
            && range.state == State::Available
            && range.acquisitions == 0
            && range.failures == 0
        {
            self.next = *first;
            self.ranges.pop_last();
        }
    }

    /// Decides what a range becomes, and locks it until that is kept ([`LeaseMap::apply`]) or refused
    /// ([`LeaseMap::unlock`]).
    pub fn settle(&mut self, asked: SettleRange, holder: &str, settling: &mut Settling) -> Result<(), LeaseError> {
        let first = self.held(asked.first, asked.last, holder)?;
        self.lock_into(first, asked.last, asked.settlement, settling, |_| true);
        Ok(())
    }

    /// Releases what is held and for which `ended` holds.
    pub fn release(&mut self, settling: &mut Settling, ended: impl Fn(&Holding) -> bool) {
        let Some(last) = self.next.checked_sub(1) else { return };
        self.lock_into(self.floor, last, Settlement::Release, settling, ended);
    }

    /// Rejects what was handed out too often.
    pub fn reject_exhausted(&mut self, settling: &mut Settling) {
        let Some(last) = self.next.checked_sub(1) else { return };
        let exhausted = |holding: &Holding| holding.until == Until::Rejected;
        self.lock_into(self.floor, last, Settlement::Reject, settling, exhausted);
    }

    fn lock_into(
        &mut self,
        first: u64,
        last: u64,
        settlement: Settlement,
        settling: &mut Settling,
        chosen: impl Fn(&Holding) -> bool,
    ) {
        if last < first {
            return;
        }
        let mut locked = Vec::new();
        let from = self.ranges.range(..=first).next_back().map_or(first, |(first, _)| *first);
        for (range_first, range) in self.ranges.range(from..=last) {
            let State::Leased(holding) = &range.state else { continue };
            let (begin, end) = ((*range_first).max(first), range.last.min(last));
            if end < begin || !chosen(holding) {
                continue;
            }
            let count = end - begin + 1;
            let failures = range.failures + u32::from(settlement == Settlement::Fail);
            let exhausted = range.acquisitions >= holding.acquisitions_max;
            let mark = match settlement {
                Settlement::Accept => {
                    settling.accepted += count;
                    Mark::Settled
                }
                Settlement::Release | Settlement::Fail if !exhausted => {
                    Mark::Available { acquisitions: range.acquisitions, failures }
                }
                Settlement::Release | Settlement::Fail | Settlement::Reject => {
                    settling.rejected += count;
                    Mark::Settled
                }
            };
            settling.marks.push(MarkedRange { first: begin, last: end, mark });
            locked.push((begin, end));
        }
        for (begin, end) in locked {
            self.change(begin, end, |range| {
                if let State::Leased(holding) = &range.state {
                    range.state = State::Settling(holding.clone());
                }
            });
        }
    }

    /// Does what is kept.
    pub fn apply(&mut self, settling: &Settling) {
        for marked in &settling.marks {
            self.mark(marked);
        }
        self.accepted_total += settling.accepted;
        self.rejected_total += settling.rejected;
        self.lift_floor();
    }

    /// What was to be settled could not be kept: it is leased as before. Returns the first deadline among that.
    pub fn unlock(&mut self, settling: &Settling) -> Option<Duration> {
        let mut soonest = None;
        for marked in &settling.marks {
            self.change(marked.first, marked.last, |range| {
                if let State::Settling(holding) = &range.state {
                    if let Until::At(at) = holding.until {
                        soonest = Some(soonest.map_or(at, |soonest: Duration| soonest.min(at)));
                    }
                    range.state = State::Leased(holding.clone());
                }
            });
        }
        soonest
    }

    /// Sets a range, as the journal says. What is settled stays so.
    pub fn mark(&mut self, marked: &MarkedRange) {
        let (first, last) = (marked.first.max(self.floor), marked.last);
        if last < first {
            return;
        }
        if last >= self.next {
            let fresh = self.next;
            self.put_range(fresh, Range { last, state: State::Available, acquisitions: 0, failures: 0 });
            self.next = last + 1;
        }
        self.change(first, last, |range| {
            if range.state == State::Settled {
                return;
            }
            *range = match marked.mark {
                Mark::Settled => Range { last: range.last, state: State::Settled, acquisitions: 0, failures: 0 },
                Mark::Available { acquisitions, failures } => {
                    Range { last: range.last, state: State::Available, acquisitions, failures }
                }
            };
        });
    }

    /// Makes held messages last longer.
    pub fn renew(&mut self, first: u64, last: u64, holder: &str, until: Until) -> Result<(), LeaseError> {
        let first = self.held(first, last, holder)?;
        self.change(first, last, |range| {
            if let State::Leased(holding) = &mut range.state {
                holding.until = until;
            }
        });
        Ok(())
    }

    /// Whether the holder holds all of a range that is not before the floor. Returns where that begins.
    fn held(&self, first: u64, last: u64, holder: &str) -> Result<u64, LeaseError> {
        if last < first {
            return Err(LeaseError::Invalid);
        }
        if last < self.floor {
            return Err(LeaseError::Passed);
        }
        let first = first.max(self.floor);
        if self.seeking || last >= self.next {
            return Err(LeaseError::NotHeld);
        }
        let from = self.ranges.range(..=first).next_back().map_or(first, |(first, _)| *first);
        let is_held = |range: &Range| matches!(&range.state, State::Leased(holding) if &*holding.holder == holder && holding.until != Until::Rejected);
        match self.ranges.range(from..=last).all(|(_, range)| is_held(range)) {
            true => Ok(first),
            false => Err(LeaseError::NotHeld),
        }
    }

    /// Everything before is settled or gone. What was leased there is forgotten.
    pub fn raise_floor(&mut self, floor: u64) {
        if floor <= self.floor {
            return;
        }
        if floor >= self.next {
            self.ranges.clear();
            self.next = floor;
        } else {
            self.split(floor);
            self.ranges = self.ranges.split_off(&floor);
        }
        self.floor = floor;
        self.lift_floor();
    }

    /// Restores what a seek did or a snapshot said.
    pub fn reset(&mut self, floor: u64) {
        self.ranges.clear();
        (self.floor, self.next) = (floor, floor);
        (self.seeking, self.blocked) = (false, false);
    }

    pub fn add_totals(&mut self, accepted: u64, rejected: u64) {
        self.accepted_total += accepted;
        self.rejected_total += rejected;
    }

    /// What is durable, or will be: leases are left out.
    pub fn snapshot(&self) -> LeaseSnapshot {
        let mut marks: Vec<MarkedRange> = Vec::with_capacity(self.ranges.len());
        for (first, range) in &self.ranges {
            let mark = match &range.state {
                State::Settled => Mark::Settled,
                State::Available => Mark::Available { acquisitions: range.acquisitions, failures: range.failures },
                State::Leased(_) | State::Settling(_) => {
                    Mark::Available { acquisitions: range.acquisitions - 1, failures: range.failures }
                }
            };
            match marks.last_mut() {
                Some(before) if before.mark == mark => before.last = range.last,
                _ => marks.push(MarkedRange { first: *first, last: range.last, mark }),
            }
        }
        let (accepted_total, rejected_total) = (self.accepted_total, self.rejected_total);
        LeaseSnapshot { floor: self.floor, marks, accepted_total, rejected_total }
    }

    pub fn restore(snapshot: &LeaseSnapshot) -> LeaseMap {
        let mut map = LeaseMap::new(snapshot.floor);
        snapshot.marks.iter().for_each(|marked| map.mark(marked));
        map.add_totals(snapshot.accepted_total, snapshot.rejected_total);
        map.lift_floor();
        map
    }

    pub fn view(&self, ranges_max: usize) -> LeaseView {
        let mut view = LeaseView {
            floor: self.floor,
            next: self.next,
            accepted_total: self.accepted_total,
            rejected_total: self.rejected_total,
            ..LeaseView::default()
        };
        for (first, range) in &self.ranges {
            let count = range.last - first + 1;
            let state = match &range.state {
                State::Available => {
                    view.available += count;
                    RangeState::Available
                }
                State::Leased(holding) | State::Settling(holding) => {
                    view.leased += count;
                    RangeState::Leased { holder: holding.holder.to_string() }
                }
                State::Settled => {
                    view.settled += count;
                    RangeState::Settled
                }
            };
            if view.ranges.len() < ranges_max {
                let (acquisitions, failures) = (range.acquisitions, range.failures);
                view.ranges.push(RangeView { first: *first, last: range.last, state, acquisitions, failures });
            }
        }
        view
    }

    fn lift_floor(&mut self) {
        while let Some((_, range)) = self.ranges.first_key_value()
            && range.state == State::Settled
        {
            self.floor = range.last + 1;
            self.ranges.pop_first();
        }
        if self.ranges.is_empty() {
            self.floor = self.next;
        }
    }

    /// Changes the ranges from `first` to `last`, which are cut out of those that go beyond.
    fn change(&mut self, first: u64, last: u64, mut change: impl FnMut(&mut Range)) {
        if last < first {
            return;
        }
        self.split(first);
        self.split(last.saturating_add(1));
        self.ranges.range_mut(first..=last).for_each(|(_, range)| change(range));
        self.merge(first, last);
    }

    /// Sees to it that no range goes across the boundary before `at`.
    fn split(&mut self, at: u64) {
        let Some((first, range)) = self.ranges.range_mut(..at).next_back() else { return };
        if range.last >= at && *first < at {
            let behind = range.clone();
            range.last = at - 1;
            self.ranges.insert(at, behind);
        }
    }

    /// Joins neighbours that are alike, from the range before `first` to that behind `last`.
    fn merge(&mut self, first: u64, last: u64) {
        let begin = self.ranges.range(..first).next_back().or_else(|| self.ranges.range(first..).next());
        let mut at = begin.map_or(first, |(first, _)| *first);
        while at <= last {
            let Some(range) = self.ranges.get(&at) else { return };
            let Some((behind_first, behind)) = self.ranges.range(range.last.saturating_add(1)..).next() else { return };
            let behind_first = *behind_first;
            let alike = (behind.state == range.state)
                && (behind.acquisitions, behind.failures) == (range.acquisitions, range.failures);
            if alike {
                let end = behind.last;
                self.ranges.remove(&behind_first);
                if let Some(range) = self.ranges.get_mut(&at) {
                    range.last = end;
                }
            } else {
                at = behind_first;
            }
        }
    }

    /// Adds a range behind all others.
    fn put_range(&mut self, first: u64, range: Range) {
        let last = range.last;
        self.ranges.insert(first, range);
        self.merge(first, last);
    }

    #[cfg(test)]
    pub fn check(&self) {
        let mut at = self.floor;
        let mut before: Option<&Range> = None;
        for (first, range) in &self.ranges {
            assert_eq!(*first, at, "{self:?}");
            assert!(range.last >= *first, "{self:?}");
            if let Some(before) = before {
                let alike = before.state == range.state
                    && (before.acquisitions, before.failures) == (range.acquisitions, range.failures);
                assert!(!alike, "{self:?}");
            }
            (at, before) = (range.last + 1, Some(range));
        }
        assert_eq!(at, self.next, "{self:?}");
        assert!(self.ranges.first_key_value().is_none_or(|(_, range)| range.state != State::Settled), "{self:?}");
    }
}
