//! Who of a queue's consumers gets the next message. Pure: who can take one is asked of the caller.
//!
//! ```text
//!   priority 5    A  B       the highest priority of which somebody can take one; there, each in turn:
//!   priority 0    C  D  E    behind the one that had the last
//! ```
//! With single active consumer only one gets messages: the one that has been there longest among those of the highest
//! priority at the time it was chosen, until it leaves. As in RabbitMQ, a higher priority that comes later changes that
//! only in quorum queues.

#[derive(Debug)]
pub struct Dealer<T> {
    /// By falling priority; none is empty.
    levels: Vec<Level<T>>,
    mode: Mode,
    /// Of the one that is active, where only one is.
    active: Option<u64>,
}

/// How many may get messages at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    All,
    SingleActive {
        /// Whether a consumer of a higher priority becomes the active one when it comes.
        takes_over: bool,
    },
}

#[derive(Debug)]
struct Level<T> {
    priority: i32,
    /// In the order in which they came.
    seats: Vec<Seat<T>>,
    /// Who is asked first.
    turn: usize,
}

#[derive(Debug)]
struct Seat<T> {
    number: u64,
    exclusive: bool,
    consumer: T,
}

/// Why a consumer may not join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("in exclusive use")]
pub struct InExclusiveUse;

impl<T> Dealer<T> {
    pub fn new(mode: Mode) -> Dealer<T> {
        Dealer { levels: Vec::new(), mode, active: None }
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether there is a consumer that wants to be alone.
    pub fn is_exclusive(&self) -> bool {
        self.seats().any(|seat| seat.exclusive)
    }

    /// Adds a consumer under a number that no other has. An exclusive one wants to be alone, and stays so.
    pub fn join(&mut self, number: u64, priority: i32, exclusive: bool, consumer: T) -> Result<(), InExclusiveUse> {
        self.may_join(exclusive)?;
        let seat = Seat { number, exclusive, consumer };
        let at = self.levels.partition_point(|level| level.priority > priority);
        match self.levels.get_mut(at) {
            Some(level) if level.priority == priority => level.seats.push(seat),
            _ => self.levels.insert(at, Level { priority, seats: vec![seat], turn: 0 }),
        }
        self.choose_active();
        Ok(())
    }

    /// Whether a consumer may join.
    pub fn may_join(&self, exclusive: bool) -> Result<(), InExclusiveUse> {
        if self.is_exclusive() || (exclusive && !self.is_empty()) { Err(InExclusiveUse) } else { Ok(()) }
    }

    pub fn leave(&mut self, number: u64) -> Option<T> {
        let found = |level: &Level<T>| level.seats.iter().position(|seat| seat.number == number);
        let (at, seat_at) = self.levels.iter().enumerate().find_map(|(at, level)| Some((at, found(level)?)))?;
        let level = &mut self.levels[at];
        let seat = level.seats.remove(seat_at);
        if seat_at < level.turn {
            level.turn -= 1;
        }
        if level.seats.is_empty() {
            self.levels.remove(at);
        }
        if self.active == Some(number) {
            self.active = None;
        }
        self.choose_active();
        Some(seat.consumer)
    }

    pub fn len(&self) -> usize {
        self.levels.iter().map(|level| level.seats.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.seats().map(|seat| &seat.consumer)
    }

    /// Takes all out.
    pub fn clear(&mut self) -> Vec<T> {
        self.active = None;
        self.levels.drain(..).flat_map(|level| level.seats).map(|seat| seat.consumer).collect()
    }

    /// Those that may get messages now.
    pub fn entitled(&self) -> impl Iterator<Item = &T> {
        let all = self.mode == Mode::All;
        self.seats().filter(move |seat| all || self.active == Some(seat.number)).map(|seat| &seat.consumer)
    }

    /// Whether this consumer may get messages, if it has the chance.
    pub fn is_entitled(&self, number: u64) -> bool {
        self.mode == Mode::All || self.active == Some(number)
    }

    /// The consumer for one message: the first that `takes` it, which is asked in turn, and has taken when it says so.
    pub fn deal(&mut self, mut takes: impl FnMut(&T) -> bool) -> Option<&T> {
        if self.mode != Mode::All {
            let active = self.active?;
            let seat = self.seats().find(|seat| seat.number == active)?;
            return takes(&seat.consumer).then_some(&seat.consumer);
        }
        for level in &mut self.levels {
            let seats = level.seats.len();
            let chosen =
                (level.turn..seats).chain(0..level.turn.min(seats)).find(|at| takes(&level.seats[*at].consumer));
            if let Some(chosen) = chosen {
                level.turn = if chosen + 1 == seats { 0 } else { chosen + 1 };
                return Some(&level.seats[chosen].consumer);
            }
        }
        None
    }

    fn seats(&self) -> impl Iterator<Item = &Seat<T>> {
        self.levels.iter().flat_map(|level| &level.seats)
    }

    fn choose_active(&mut self) {
        let Mode::SingleActive { takes_over } = self.mode else { return };
        let Some(first) = self.levels.first() else { return };
        let of_active = |level: &&Level<T>| level.seats.iter().any(|seat| Some(seat.number) == self.active);
        let active = self.levels.iter().find(of_active);
        if active.is_none_or(|active| takes_over && active.priority < first.priority) {
            self.active = Some(first.seats[0].number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn dealer(mode: Mode, consumers: &[(u64, i32)]) -> Dealer<u64> {
        let mut dealer = Dealer::new(mode);
        for (number, priority) in consumers {
            dealer.join(*number, *priority, false, *number).unwrap();
        }
        dealer
    }

    fn deal(dealer: &mut Dealer<u64>, times: usize) -> Vec<u64> {
        (0..times).filter_map(|_| dealer.deal(|_| true).copied()).collect()
    }

    #[test]
    fn each_in_turn() {
        let mut dealer = dealer(Mode::All, &[(1, 0), (2, 0), (3, 0)]);
        assert_eq!(deal(&mut dealer, 5), [1, 2, 3, 1, 2]);
        // One that can take none is passed over, and loses nothing by it.
        assert_eq!(dealer.deal(|number| *number != 3), Some(&1));
        assert_eq!(deal(&mut dealer, 2), [2, 3]);
        assert_eq!(dealer.leave(1), Some(1));
        assert_eq!(deal(&mut dealer, 3), [2, 3, 2]);
        assert_eq!(dealer.deal(|_| false), None);
    }

    #[test]
    fn the_highest_priority_first() {
        let mut dealer = dealer(Mode::All, &[(1, 0), (2, 10), (3, -1), (4, 10)]);
        assert_eq!(deal(&mut dealer, 3), [2, 4, 2]);
        assert_eq!(dealer.deal(|number| *number % 2 == 1), Some(&1));
        assert_eq!(dealer.deal(|number| *number == 3), Some(&3));
    }

    #[test]
    fn an_exclusive_consumer_is_alone() {
        let mut dealer = dealer(Mode::All, &[(1, 0)]);
        assert_eq!(dealer.join(2, 0, true, 2), Err(InExclusiveUse));
        dealer.leave(1);
        assert_eq!(dealer.join(2, 0, true, 2), Ok(()));
        assert_eq!(dealer.join(3, 0, false, 3), Err(InExclusiveUse));
        dealer.leave(2);
        assert_eq!(dealer.join(3, 0, false, 3), Ok(()));
    }

    #[test]
    fn the_next_becomes_active_when_the_active_one_leaves() {
        let mut classic = dealer(Mode::SingleActive { takes_over: false }, &[(1, 0), (2, 0), (3, 7)]);
        assert_eq!(deal(&mut classic, 3), [1, 1, 1]);
        assert!(classic.is_entitled(1) && !classic.is_entitled(3));
        assert_eq!(classic.deal(|number| *number != 1), None, "nobody else, even if it can take none");
        classic.leave(1);
        assert_eq!(deal(&mut classic, 2), [3, 3]);
        classic.leave(2);
        classic.leave(3);
        assert!(deal(&mut classic, 1).is_empty());
        let mut quorum = dealer(Mode::SingleActive { takes_over: true }, &[(1, 0), (2, 0), (3, 7)]);
        assert_eq!(deal(&mut quorum, 1), [3]);
        assert_eq!(quorum.entitled().copied().collect::<Vec<_>>(), [3]);
    }

    proptest! {
        /// Whoever can always take one gets within one of its share, whoever else comes and goes, or is slow.
        #[test]
        fn shares_are_even(steps in prop::collection::vec((0u8..4, 0u64..6), 1..300)) {
            let mut dealer = dealer(Mode::All, &[(100, 0), (101, 0)]);
            let mut got: BTreeMap<u64, i64> = BTreeMap::new();
            for (step, number) in steps {
                match step {
                    0 if dealer.iter().all(|other| *other != number) => dealer.join(number, 0, false, number).unwrap(),
                    1 => drop(dealer.leave(number)),
                    _ => {
                        let dealt = dealer.deal(|other| *other >= 100 || *other % 2 == 0).copied().unwrap();
                        *got.entry(dealt).or_default() += 1;
                    }
                }
                let share = |number: u64| got.get(&number).copied().unwrap_or_default();
                prop_assert!((share(100) - share(101)).abs() <= 1, "{:?}", got);
            }
        }
    }
}
