//! Who of a share's members here gets the next message, and who has which. Pure.
//!
//! The next message goes to the member that has the fewest which are not settled; of several such to each in turn. A member
//! takes no more than its window, and nothing more when what it has is large: it may not read. One that is away gets nothing, and keeps its seat: it comes back, or its session ends.

use std::collections::HashMap;

use core_rpc::PartitionId;

/// A member that has messages of so many bytes gets no more.
const BYTES_MAX: usize = 16 << 20;

/// Where a message lies.
pub type At = (PartitionId, u64);

/// The members, and what they have. `K` names a member, `T` is how to reach it.
#[derive(Debug)]
pub struct Dealer<K, T> {
    seats: Vec<Seat<K, T>>,
    /// Who is looked at first.
    next: usize,
    held: HashMap<At, Held<K>>,
    /// Counts what was dealt: a message that comes here again is another one's then, and late words about the first mean nothing.
    turns: u64,
}

#[derive(Debug)]
struct Seat<K, T> {
    key: K,
    member: T,
    /// How many it may have.
    window: usize,
    has: usize,
    has_bytes: usize,
    is_away: bool,
}

impl<K, T> Seat<K, T> {
    /// How many more it takes.
    fn free(&self) -> usize {
        if self.is_away || self.has_bytes >= BYTES_MAX { 0 } else { self.window.saturating_sub(self.has) }
    }
}

#[derive(Debug)]
struct Held<K> {
    key: K,
    turn: u64,
    bytes: usize,
    /// It is nobody else's any more, whatever becomes of it.
    is_kept: bool,
}

impl<K, T> Default for Dealer<K, T> {
    fn default() -> Self {
        Dealer { seats: Vec::new(), next: 0, held: HashMap::new(), turns: 0 }
    }
}

impl<K: Copy + Eq, T> Dealer<K, T> {
    /// Somebody is here: a new member, one that is back, or one that wants it otherwise now. `window`: how many it may have, at
    /// least one.
    pub fn join(&mut self, key: K, member: T, window: usize) {
        let window = window.max(1);
        match self.seats.iter_mut().find(|seat| seat.key == key) {
            Some(seat) => (seat.member, seat.window, seat.is_away) = (member, window, false),
            None => {
                let held = || self.held.values().filter(|held| held.key == key);
                let (has, has_bytes) = (held().count(), held().map(|held| held.bytes).sum());
                self.seats.push(Seat { key, member, window, has, has_bytes, is_away: false });
            }
        }
    }

    /// A member is not there, and may be back. It need not be known yet.
    pub fn away(&mut self, key: K, member: impl FnOnce() -> T) {
        if !self.seats.iter().any(|seat| seat.key == key) {
            self.join(key, member(), 1);
        }
        self.seats.iter_mut().filter(|seat| seat.key == key).for_each(|seat| seat.is_away = true);
    }

    /// A member leaves. What it has it may still settle. False: it was none.
    pub fn leave(&mut self, key: K) -> bool {
        let Some(at) = self.seats.iter().position(|seat| seat.key == key) else { return false };
        self.seats.remove(at);
        if at < self.next {
            self.next -= 1;
        }
        true
    }

    /// How many more can be dealt, of which each member gets so many at most.
    pub fn demand(&self, most: usize) -> usize {
        self.seats.iter().map(|seat| seat.free().min(most)).sum()
    }

    /// Who gets the message of so many bytes that lies there, and the number of this dealing. None: nobody can take one now.
    pub fn deal(&mut self, at: At, bytes: usize) -> Option<(&T, u64)> {
        let seats = self.seats.len();
        let order = (self.next..seats).chain(0..self.next.min(seats));
        let chosen = order.filter(|at| self.seats[*at].free() > 0).min_by_key(|at| self.seats[*at].has)?;
        self.next = (chosen + 1) % seats;
        self.turns += 1;
        let (turn, seat) = (self.turns, &mut self.seats[chosen]);
        seat.has += 1;
        seat.has_bytes += bytes;
        if let Some(former) = self.held.insert(at, Held { key: seat.key, turn, bytes, is_kept: false }) {
            // It was taken from the former without a word: its lease was over.
            Self::give_place(&mut self.seats, &former);
        }
        Some((&self.seats[chosen].member, turn))
    }

    /// A message is done with, or given back. False: it is not that dealing's any more.
    pub fn finish(&mut self, at: At, turn: u64) -> bool {
        if self.held.get(&at).is_none_or(|held| held.turn != turn) {
            return false;
        }
        if let Some(held) = self.held.remove(&at) {
            Self::give_place(&mut self.seats, &held);
        }
        true
    }

    /// Whether a message is that dealing's still, and may be another's.
    pub fn has(&self, at: At, turn: u64) -> bool {
        self.held.get(&at).is_some_and(|held| held.turn == turn && !held.is_kept)
    }

    /// A message is settled, and still counts for who has it until it is done with.
    pub fn keep(&mut self, at: At, turn: u64) {
        self.held.get_mut(&at).filter(|held| held.turn == turn).into_iter().for_each(|held| held.is_kept = true);
    }

    /// All that somebody has, in order, taken from it; but for what it keeps.
    pub fn take_from(&mut self, key: K, keeps: &[At]) -> Vec<At> {
        let is_taken = |(at, held): &(&At, &Held<K>)| held.key == key && !held.is_kept && !keeps.contains(at);
        let mut taken: Vec<At> = self.held.iter().filter(is_taken).map(|(at, _)| *at).collect();
        taken.sort_unstable();
        for at in &taken {
            self.held.remove(at).iter().for_each(|held| Self::give_place(&mut self.seats, held));
        }
        taken
    }

    /// Nothing that was dealt is anybody's any more.
    pub fn forget_held(&mut self) {
        self.held.clear();
        self.seats.iter_mut().for_each(|seat| (seat.has, seat.has_bytes) = (0, 0));
    }

    /// Whether there are no members, not even such as are away.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// Whether anybody has something.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    fn give_place(seats: &mut [Seat<K, T>], held: &Held<K>) {
        for seat in seats.iter_mut().filter(|seat| seat.key == held.key) {
            seat.has = seat.has.saturating_sub(1);
            seat.has_bytes = seat.has_bytes.saturating_sub(held.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use core_rpc::TopicId;

    use super::*;

    fn at(offset: u64) -> At {
        (PartitionId { topic: TopicId(1), index: 0 }, offset)
    }

    fn dealer(members: &[(u32, usize)]) -> Dealer<u32, u32> {
        let mut dealer = Dealer::default();
        members.iter().for_each(|(key, window)| dealer.join(*key, *key, *window));
        dealer
    }

    fn deal(dealer: &mut Dealer<u32, u32>, offsets: std::ops::Range<u64>) -> Vec<u32> {
        offsets.filter_map(|offset| dealer.deal(at(offset), 1).map(|(member, _)| *member)).collect()
    }

    #[test]
    fn whoever_has_the_fewest_gets_the_next() {
        let mut dealer = dealer(&[(1, 10), (2, 10), (3, 10)]);
        assert_eq!(deal(&mut dealer, 0..6), [1, 2, 3, 1, 2, 3]);
        assert!(dealer.finish(at(1), 2) && dealer.finish(at(4), 5));
        assert_eq!(deal(&mut dealer, 6..9), [2, 2, 3]);
        assert_eq!((dealer.demand(usize::MAX), dealer.demand(4)), (30 - 7, 12));
    }

    #[test]
    fn nobody_gets_more_than_its_window() {
        let mut dealer = dealer(&[(1, 1), (2, 2)]);
        assert_eq!(deal(&mut dealer, 0..5), [1, 2, 2]);
        assert_eq!((dealer.demand(usize::MAX), dealer.deal(at(9), 1)), (0, None));
        assert!(dealer.finish(at(0), 1));
        assert_eq!((dealer.demand(usize::MAX), deal(&mut dealer, 5..7)), (1, vec![1]));
    }

    #[test]
    fn who_has_much_gets_no_more_until_it_has_less() {
        let mut dealer = dealer(&[(1, 100), (2, 100)]);
        for offset in 0..4 {
            assert!(dealer.deal(at(offset), BYTES_MAX / 2).is_some());
        }
        assert_eq!((dealer.demand(usize::MAX), dealer.deal(at(4), 1)), (0, None));
        assert!(dealer.finish(at(2), 3));
        assert_eq!((dealer.demand(usize::MAX), dealer.deal(at(4), BYTES_MAX)), (99, Some((&1, 5))));
        assert_eq!(dealer.demand(usize::MAX), 0);
        assert_eq!(dealer.take_from(1, &[]).len(), 2);
        assert_eq!(dealer.demand(usize::MAX), 100);
    }

    #[test]
    fn a_late_word_settles_nothing() {
        let mut dealer = dealer(&[(1, 5)]);
        deal(&mut dealer, 0..1);
        assert_eq!(dealer.take_from(1, &[]), [at(0)]);
        deal(&mut dealer, 0..1);
        assert!(!dealer.finish(at(0), 1));
        assert!(dealer.finish(at(0), 2));
        assert!(!dealer.finish(at(0), 2));
        assert!(!dealer.holds());
    }

    #[test]
    fn what_is_kept_counts_and_is_nobody_elses() {
        let mut dealer = dealer(&[(1, 2)]);
        assert_eq!(deal(&mut dealer, 0..2), [1, 1]);
        assert!(dealer.has(at(0), 1) && !dealer.has(at(0), 2) && !dealer.has(at(5), 1));
        dealer.keep(at(0), 1);
        assert!(!dealer.has(at(0), 1));
        assert_eq!((dealer.demand(usize::MAX), dealer.take_from(1, &[])), (0, vec![at(1)]));
        assert!(dealer.finish(at(0), 1) && !dealer.holds());
    }

    #[test]
    fn who_is_away_keeps_a_seat_and_gets_nothing() {
        let mut dealer = dealer(&[(1, 5), (2, 5)]);
        dealer.away(1, || 1);
        assert_eq!(deal(&mut dealer, 0..2), [2, 2]);
        dealer.leave(2);
        assert!(dealer.deal(at(3), 1).is_none());
        assert_eq!((dealer.is_empty(), dealer.demand(usize::MAX)), (false, 0));
        assert_eq!(dealer.take_from(2, &[at(1)]), [at(0)]);
        assert_eq!(dealer.take_from(2, &[]), [at(1)]);
        dealer.join(1, 1, 5);
        assert_eq!(deal(&mut dealer, 0..2), [1, 1]);
        assert!(dealer.leave(1) && !dealer.leave(1) && dealer.is_empty() && dealer.holds());
        // Back before it has settled what it had.
        dealer.join(1, 1, 3);
        assert_eq!(deal(&mut dealer, 2..5), [1]);
        dealer.forget_held();
        assert_eq!(dealer.demand(usize::MAX), 3);
    }

    #[test]
    fn what_is_dealt_again_is_no_ones_twice() {
        let mut dealer = dealer(&[(1, 1), (2, 1)]);
        assert_eq!(deal(&mut dealer, 0..1), [1]);
        assert_eq!(deal(&mut dealer, 0..1), [2]);
        assert_eq!((dealer.demand(usize::MAX), deal(&mut dealer, 1..2)), (1, vec![1]));
    }
}
