//! One lease map: pure, time passed in.
//!
//! ```text
//!   settled │ settled  available  leased  settled  leased │ new …
//!          floor                                         next
//! ```
//! The ranges lie one behind the other from floor to next ([`super::runs`]).

use std::sync::Arc;
use std::time::Duration;

use core_rpc::{
    AcquireMode, AcquiredRange, GroupName, LEASE_RANGES_MAX, LeaseError, LeaseView, RangeState, RangeView, SessionId,
    SettleRange, Settlement,
};

use super::record::{LeaseImage, Mark, MarkedRange, SettleBodyOf};
use super::runs::Runs;

#[derive(Debug, Default)]
pub struct LeaseMap {
    floor: u64,
    next: u64,
    ranges: Runs,
    accepted_total: u64,
    rejected_total: u64,
    /// See [`core_rpc::Acquired::uncounted_before`].
    uncounted_before: u64,
    /// A seek is on its way to the disk: what is held now can no longer be settled.
    pub seeking: bool,
    /// Somebody found nothing because the window or the map was full: they are to be woken when something is settled.
    pub blocked: bool,
}

/// What a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub state: State,
    pub acquisitions: u32,
    pub failures: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Available,
    /// Available from then on, ms since the Unix epoch.
    Delayed(i64),
    Leased(Arc<Holding>),
    /// What becomes of it is on its way to the disk.
    Settling(Arc<Holding>),
    Settled,
}

impl Cell {
    const NEW: Cell = Cell { state: State::Available, acquisitions: 0, failures: 0 };
    const SETTLED: Cell = Cell { state: State::Settled, acquisitions: 0, failures: 0 };

    /// What is durable of it, or will be: leases are left out.
    pub fn mark(&self) -> Mark {
        let (acquisitions, failures) = (self.acquisitions, self.failures);
        match &self.state {
            State::Settled => Mark::Settled,
            State::Available => Mark::Available { acquisitions, failures },
            State::Delayed(until_ms) => Mark::Delayed { acquisitions, failures, until_ms: *until_ms },
            State::Leased(holding) | State::Settling(holding) => match holding.until {
                Until::Discarded { delayed_ms: None } => Mark::Available { acquisitions, failures },
                Until::Discarded { delayed_ms: Some(until_ms) } => Mark::Delayed { acquisitions, failures, until_ms },
                _ => Mark::Available { acquisitions: acquisitions.saturating_sub(1), failures },
            },
        }
    }
}

impl From<Mark> for Cell {
    fn from(mark: Mark) -> Cell {
        match mark {
            Mark::Settled => Cell::SETTLED,
            Mark::Available { acquisitions, failures } => Cell { state: State::Available, acquisitions, failures },
            Mark::Delayed { acquisitions, failures, until_ms } => {
                Cell { state: State::Delayed(until_ms), acquisitions, failures }
            }
        }
    }
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
    /// Held by nobody, and being settled; it was available before, or delayed.
    Discarded {
        delayed_ms: Option<i64>,
    },
}

/// What an acquire wants of a map.
#[derive(Clone, Debug)]
pub struct Want {
    pub holding: Arc<Holding>,
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
        if let Some((first, last)) = self.ranges.find_available(from) {
            return Some((first, Some(last)));
        }
        if self.room(window_messages) == 0 {
            self.blocked = true;
            return None;
        }
        Some((self.next, None))
    }

    /// How many new messages may be handed out.
    fn room(&self, window_messages: u64) -> u64 {
        if self.ranges.count() >= LEASE_RANGES_MAX { 0 } else { window_messages.saturating_sub(self.next - self.floor) }
    }

    /// There are no messages at these offsets: what is available, delayed or new of them counts as settled, in memory only.
    pub fn skip(&mut self, first: u64, last: u64) {
        let first = first.max(self.floor);
        // Beyond next, nobody has looked at what lies between.
        if last < first || first > self.next {
            return;
        }
        self.reach(last, Cell::SETTLED);
        self.ranges.change(first, last, |cell| {
            if matches!(cell.state, State::Available | State::Delayed(_)) {
                *cell = Cell::SETTLED;
            }
        });
        self.lift_floor();
    }

    /// What is available or new of a batch from `first` to `last` is not before then.
    pub fn delay(&mut self, first: u64, last: u64, until_ms: i64, window_messages: u64) {
        let first = first.max(self.floor);
        if last < first || first > self.next {
            return;
        }
        if self.room(window_messages) > 0 {
            self.reach(last, Cell::NEW);
        }
        self.ranges.change(first, last, |cell| {
            if cell.state == State::Available {
                cell.state = State::Delayed(until_ms);
            }
        });
    }

    /// Makes available what was delayed until then. Returns whether there was any.
    pub fn mature(&mut self, now_ms: i64) -> bool {
        self.ranges.mature(now_ms)
    }

    /// When something delayed is due, at the soonest.
    pub fn soonest_ms(&self) -> Option<i64> {
        self.ranges.soonest_ms()
    }

    /// Nothing up to `last` is new any more.
    fn reach(&mut self, last: u64, cell: Cell) {
        if last >= self.next {
            self.ranges.push(self.next, last, cell);
            self.next = last + 1;
        }
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
            self.reach(last, Cell::NEW);
        }
        let mut left = if strict { messages_max } else { u64::MAX };
        let mut taken: Vec<(u64, u64)> = Vec::new();
        for (begin, end, cell) in self.ranges.between(first, last) {
            if cell.state != State::Available {
                continue;
            }
            if cell.acquisitions >= want.holding.acquisitions_max {
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
            let (acquisitions, failures) = (cell.acquisitions + 1, cell.failures);
            leased.ranges.push(AcquiredRange { first: begin, last: end, acquisitions, failures });
            taken.push((begin, end));
        }
        let state = State::Leased(want.holding.clone());
        for (begin, end) in taken {
            self.ranges.change(begin, end, |cell| {
                cell.state = state.clone();
                cell.acquisitions += 1;
            });
        }
        if leased.exhausted.is_empty() {
            return leased;
        }
        let rejected = Holding { holder: Arc::from(""), until: Until::Rejected, acquisitions_max: 0 };
        let rejected = State::Leased(Arc::new(rejected));
        for (begin, end) in &leased.exhausted {
            self.ranges.change(*begin, *end, |cell| {
                cell.state = rejected.clone();
                // As with any lease: this one is counted until it is settled.
                cell.acquisitions += 1;
            });
        }
        leased
    }

    /// Takes back what nobody has seen: as if it had never been acquired.
    pub fn unlease(&mut self, first: u64, last: u64, holder: &str) {
        self.ranges.change(first, last, |cell| {
            if matches!(&cell.state, State::Leased(holding) if &*holding.holder == holder) {
                cell.state = State::Available;
                cell.acquisitions -= 1;
            }
        });
        // What was new is so again: otherwise a window of one would keep an order that nobody has seen.
        while let Some((first, _, cell)) = self.ranges.last()
            && *cell == Cell::NEW
        {
            self.next = first;
            self.ranges.cut_from(first);
        }
    }

    /// Decides what a range becomes, and locks it until that is kept ([`LeaseMap::apply`]) or refused
    /// ([`LeaseMap::unlock`]).
    pub fn settle(
        &mut self,
        asked: SettleRange,
        holder: &str,
        now_ms: i64,
        settling: &mut Settling,
    ) -> Result<(), LeaseError> {
        let first = self.held(asked.first, asked.last, holder)?;
        let delay_ms = i64::try_from(asked.delay.as_micros().div_ceil(1000)).unwrap_or(i64::MAX);
        // The time is in whole milliseconds, rounded down: one more, and nothing comes sooner than was asked.
        let until_ms = (delay_ms > 0).then(|| now_ms.saturating_add(delay_ms).saturating_add(1));
        let held: Vec<_> = self.leased_between(first, asked.last, |_| true).collect();
        self.lock_into(held, asked.settlement, until_ms, settling);
        Ok(())
    }

    /// Releases what is held and for which `ended` holds.
    pub fn release(&mut self, settling: &mut Settling, ended: impl Fn(&Holding) -> bool) {
        let ended: Vec<_> = self.leased_of(ended).collect();
        self.lock_into(ended, Settlement::Release, None, settling);
    }

    /// Rejects what was handed out too often.
    pub fn reject_exhausted(&mut self, settling: &mut Settling) {
        let exhausted: Vec<_> = self.leased_of(|holding| holding.until == Until::Rejected).collect();
        self.lock_into(exhausted, Settlement::Reject, None, settling);
    }

    fn leased_between(
        &self,
        first: u64,
        last: u64,
        chosen: impl Fn(&Holding) -> bool,
    ) -> impl Iterator<Item = (u64, u64, Cell)> {
        let ranges = self.ranges.between(first, last);
        ranges.filter(move |(_, _, cell)| is_leased(cell, &chosen)).map(|(begin, end, cell)| (begin, end, cell.clone()))
    }

    fn leased_of(&self, chosen: impl Fn(&Holding) -> bool) -> impl Iterator<Item = (u64, u64, Cell)> {
        let ranges = self.ranges.leased();
        ranges.filter(move |(_, _, cell)| is_leased(cell, &chosen)).map(|(begin, end, cell)| (begin, end, cell.clone()))
    }

    fn lock_into(
        &mut self,
        leased: Vec<(u64, u64, Cell)>,
        settlement: Settlement,
        until_ms: Option<i64>,
        settling: &mut Settling,
    ) {
        for (begin, end, cell) in leased {
            let State::Leased(holding) = cell.state else { continue };
            let count = end - begin + 1;
            let acquisitions = cell.acquisitions;
            let failures = cell.failures + u32::from(settlement == Settlement::Fail);
            let exhausted = acquisitions >= holding.acquisitions_max;
            let mark = match (settlement, until_ms) {
                (Settlement::Accept, _) => {
                    settling.accepted += count;
                    Mark::Settled
                }
                (Settlement::Release | Settlement::Fail, None) if !exhausted => {
                    Mark::Available { acquisitions, failures }
                }
                (Settlement::Release | Settlement::Fail, Some(until_ms)) if !exhausted => {
                    Mark::Delayed { acquisitions, failures, until_ms }
                }
                _ => {
                    settling.rejected += count;
                    Mark::Settled
                }
            };
            settling.push(MarkedRange { first: begin, last: end, mark });
            self.ranges.change(begin, end, |cell| cell.state = State::Settling(holding.clone()));
        }
    }

    /// Settles the oldest that nobody holds, up to an end and so many; no more marks than `marks_max`. They are locked as by
    /// [`LeaseMap::settle`]. Returns how many, and whether there may be more.
    pub fn discard(&mut self, end: u64, messages_max: u64, marks_max: usize, settling: &mut Settling) -> (u64, bool) {
        let mut left = messages_max;
        let free = self.next..end.max(self.next);
        // What is new comes in as available, and is taken like the rest.
        let older = self.ranges.counts().available + self.ranges.counts().delayed;
        let wanted = (free.end - free.start).min(left.saturating_sub(older));
        if wanted > 0 {
            self.reach(self.next + (wanted - 1), Cell::NEW);
        }
        let mut chosen = Vec::new();
        for (begin, last, cell) in self.ranges.free() {
            if left == 0 || chosen.len() == marks_max {
                break;
            }
            let delayed_ms = match cell.state {
                State::Available => None,
                State::Delayed(until_ms) => Some(until_ms),
                _ => continue,
            };
            let last = last.min(begin.saturating_add(left - 1));
            left -= last - begin + 1;
            chosen.push((begin, last, delayed_ms));
        }
        let more = chosen.len() == marks_max;
        for (begin, last, delayed_ms) in chosen {
            settling.accepted += last - begin + 1;
            settling.push(MarkedRange { first: begin, last, mark: Mark::Settled });
            let until = Until::Discarded { delayed_ms };
            let holding = Arc::new(Holding { holder: Arc::from(""), until, acquisitions_max: 0 });
            self.ranges.change(begin, last, |cell| cell.state = State::Settling(holding.clone()));
        }
        (messages_max - left, more && left > 0)
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
            self.ranges.change(marked.first, marked.last, |cell| {
                let State::Settling(holding) = &cell.state else { return };
                cell.state = match holding.until {
                    Until::Discarded { delayed_ms: None } => State::Available,
                    Until::Discarded { delayed_ms: Some(until_ms) } => State::Delayed(until_ms),
                    Until::At(at) => {
                        soonest = Some(soonest.map_or(at, |soonest: Duration| soonest.min(at)));
                        State::Leased(holding.clone())
                    }
                    Until::Session(_) | Until::Rejected => State::Leased(holding.clone()),
                };
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
        self.reach(last, Cell::NEW);
        self.ranges.change(first, last, |cell| {
            if cell.state != State::Settled {
                *cell = marked.mark.into();
            }
        });
    }

    /// Makes held messages last longer.
    pub fn renew(&mut self, first: u64, last: u64, holder: &str, until: Until) -> Result<(), LeaseError> {
        let first = self.held(first, last, holder)?;
        self.ranges.change(first, last, |cell| {
            if let State::Leased(holding) = &mut cell.state {
                *holding = Arc::new(Holding { until, ..(**holding).clone() });
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
        let of_holder = |holding: &Holding| &*holding.holder == holder && holding.until != Until::Rejected;
        match self.ranges.between(first, last).all(|(_, _, cell)| is_leased(cell, of_holder)) {
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
            self.ranges.cut_before(floor);
        }
        self.floor = floor;
        self.lift_floor();
    }

    /// Restores what a seek did.
    pub fn reset(&mut self, floor: u64) {
        self.ranges.clear();
        (self.floor, self.next) = (floor, floor);
        (self.seeking, self.blocked) = (false, false);
        self.uncounted_before = 0;
    }

    /// The map is as the disk has it: what lies before `end` may have been handed out since.
    pub fn recovered(&mut self, end: u64) {
        self.uncounted_before = end;
    }

    pub fn uncounted_before(&self) -> u64 {
        self.uncounted_before
    }

    /// As [`LeaseMap::uncounted_before`], for a map of which only what is durable stays: leases are not.
    pub fn uncounted_at_end(&self) -> u64 {
        let leased = self.ranges.leased().map(|(_, last, _)| last + 1).max();
        self.uncounted_before.max(leased.unwrap_or(0))
    }

    pub fn add_totals(&mut self, accepted: u64, rejected: u64) {
        self.accepted_total += accepted;
        self.rejected_total += rejected;
    }

    /// What is durable, or will be: leases are left out. Cheap, whatever there is.
    pub fn snapshot(&self) -> LeaseImage {
        LeaseImage::new(self.floor, self.ranges.freeze(), self.accepted_total, self.rejected_total)
    }

    /// A map that was in a snapshot.
    pub fn restore(image: LeaseImage) -> LeaseMap {
        let stored = image.into_stored();
        let mut map = LeaseMap::new(stored.floor);
        for (messages, mark) in stored.runs.into_iter().filter(|(messages, _)| *messages > 0) {
            map.reach(map.next + (messages - 1), mark.into());
        }
        map.add_totals(stored.accepted_total, stored.rejected_total);
        map.lift_floor();
        map
    }

    /// Whether all messages from `first` to `last` are settled.
    pub fn is_settled(&self, first: u64, last: u64) -> bool {
        let settled = |cell: &Cell| cell.state == State::Settled;
        last < self.floor || last < self.next && self.ranges.between(first, last).all(|(_, _, cell)| settled(cell))
    }

    /// How many messages from `first` to `last` are settled.
    pub fn settled_between(&self, first: u64, last: u64) -> u64 {
        self.floor.min(last + 1).saturating_sub(first) + self.ranges.settled_between(first, last)
    }

    /// `end` is left to whoever knows it.
    pub fn view(&self, ranges_max: usize) -> LeaseView {
        let counts = self.ranges.counts();
        let mut ranges: Vec<RangeView> = Vec::new();
        for (first, last, cell) in self.ranges.between(self.floor, u64::MAX) {
            let state = match &cell.state {
                State::Available => RangeState::Available,
                State::Delayed(until_ms) => RangeState::Delayed { until_ms: *until_ms },
                State::Leased(holding) | State::Settling(holding) => {
                    RangeState::Leased { holder: holding.holder.to_string() }
                }
                State::Settled => RangeState::Settled,
            };
            let (acquisitions, failures) = (cell.acquisitions, cell.failures);
            if let Some(before) = ranges.last_mut()
                && before.state == state
                && (before.acquisitions, before.failures) == (acquisitions, failures)
            {
                before.last = last;
            } else if ranges.len() >= ranges_max {
                break;
            } else {
                ranges.push(RangeView { first, last, state, acquisitions, failures });
            }
        }
        LeaseView {
            floor: self.floor,
            next: self.next,
            end: self.next,
            available: counts.available,
            delayed: counts.delayed,
            leased: counts.leased,
            settled: counts.settled,
            accepted_total: self.accepted_total,
            rejected_total: self.rejected_total,
            ranges,
        }
    }

    fn lift_floor(&mut self) {
        while let Some((_, last, cell)) = self.ranges.first()
            && cell.state == State::Settled
        {
            self.floor = last + 1;
            self.ranges.cut_before(self.floor);
        }
        if self.next == self.floor || self.ranges.first().is_none() {
            self.floor = self.next;
        }
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.ranges.bytes()
    }

    #[cfg(test)]
    pub fn check(&self) {
        self.ranges.check();
        let bounds = self.ranges.first().zip(self.ranges.last());
        assert_eq!(bounds.map_or(self.next, |((first, ..), _)| first), self.floor, "{self:?}");
        assert_eq!(bounds.map_or(self.floor, |(_, (_, last, _))| last + 1), self.next, "{self:?}");
        assert!(self.ranges.first().is_none_or(|(_, _, cell)| cell.state != State::Settled), "{self:?}");
    }
}

fn is_leased(cell: &Cell, chosen: impl Fn(&Holding) -> bool) -> bool {
    matches!(&cell.state, State::Leased(holding) if chosen(holding))
}

impl Settling {
    fn push(&mut self, marked: MarkedRange) {
        match self.marks.last_mut() {
            Some(before) if before.mark == marked.mark && before.last + 1 == marked.first => before.last = marked.last,
            _ => self.marks.push(marked),
        }
    }

    /// The body of the entry that says so. None if it cannot be encoded, which is a bug.
    pub fn encode(&self, group: &GroupName, floor: u64) -> Option<Vec<u8>> {
        let (accepted, rejected) = (self.accepted, self.rejected);
        postcard::to_stdvec(&SettleBodyOf { group, floor, marks: &self.marks, accepted, rejected }).ok()
    }
}
