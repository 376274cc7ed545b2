//! What each offset between two is, kept as runs of offsets that are alike: cheap for few long ones and for millions of short
//! ones.
//!
//! ```text
//!  leaves: offset ─► [ run run run … | kinds ]  [ … ]     at most 256 runs each; a run is a start and the number of a kind
//! ```
//! A leaf names each kind of message that it has once, so that a run takes 8 bytes; sums of its runs stand beside it, so
//! that whoever looks for something passes over the leaves that do not have it. Leaves are shared with snapshots that are
//! being written, and copied when they change meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::map::{Cell, State};

/// A leaf with more runs is cut in two.
const RUNS_MAX: usize = 256;

/// Two neighbours with no more runs than this each are joined.
const RUNS_MIN: usize = RUNS_MAX / 4;

/// How far apart a leaf's offsets may be.
const SPAN_MAX: u64 = u32::MAX as u64;

/// Offsets without gaps, from the first to the last that was pushed.
#[derive(Debug, Default)]
pub struct Runs {
    /// By an offset at or before the leaf's first.
    leaves: BTreeMap<u64, Leaf>,
    counts: Counts,
    runs: usize,
    /// Nothing that is delayed is due before; perhaps nothing then either.
    soonest_ms: Option<i64>,
}

/// How many messages are what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub available: u64,
    pub delayed: u64,
    pub leased: u64,
    pub settled: u64,
}

#[derive(Debug)]
struct Leaf {
    sums: Sums,
    block: Arc<Block>,
}

/// Of a leaf.
#[derive(Clone, Copy, Debug)]
struct Sums {
    available: u32,
    delayed: u32,
    leased: u32,
    settled: u32,
    /// Nothing that is delayed is due before; perhaps nothing then either.
    soonest_ms: i64,
}

/// The runs of a leaf. Never empty.
#[derive(Clone, Debug)]
pub struct Block {
    base: u64,
    last: u64,
    runs: Vec<Run>,
    kinds: Vec<Cell>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    /// After the base.
    start: u32,
    kind: u16,
}

impl Runs {
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many runs there are; neighbours in two leaves may be alike.
    pub fn count(&self) -> usize {
        self.runs
    }

    /// The first run.
    pub fn first(&self) -> Option<(u64, u64, &Cell)> {
        let (_, leaf) = self.leaves.first_key_value()?;
        Some(leaf.block.run(0))
    }

    /// The last run.
    pub fn last(&self) -> Option<(u64, u64, &Cell)> {
        let (_, leaf) = self.leaves.last_key_value()?;
        Some(leaf.block.run(leaf.block.runs.len() - 1))
    }

    /// The runs that have an offset from `first` to `last`, cut to that, rising.
    pub fn between(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64, &Cell)> {
        let leaves = self.leaves.range(self.key_of(first)..);
        let leaves = leaves.map(|(_, leaf)| &*leaf.block).take_while(move |block| block.first() <= last);
        let runs = leaves.flat_map(move |block| block.from(first));
        let runs = runs.take_while(move |(begin, ..)| *begin <= last);
        runs.map(move |(begin, end, cell)| (begin.max(first), end.min(last), cell))
    }

    /// The first run with something available at or after an offset, cut to begin there.
    pub fn find_available(&self, from: u64) -> Option<(u64, u64)> {
        if self.counts.available == 0 {
            return None;
        }
        let leaves = self.leaves.range(self.key_of(from)..).filter(|(_, leaf)| leaf.sums.available > 0);
        let mut runs = leaves.flat_map(|(_, leaf)| leaf.block.from(from));
        let (begin, end, _) = runs.find(|(_, _, cell)| cell.state == State::Available)?;
        Some((begin.max(from), end))
    }

    /// How many messages from `first` to `last` are settled.
    pub fn settled_between(&self, first: u64, last: u64) -> u64 {
        let leaves = self.leaves.range(self.key_of(first)..).map(|(_, leaf)| leaf);
        let leaves = leaves.take_while(|leaf| leaf.block.first() <= last);
        let settled = leaves.map(|leaf| match first <= leaf.block.first() && leaf.block.last <= last {
            true => u64::from(leaf.sums.settled),
            false => leaf.count_between(first, last).settled,
        });
        settled.sum()
    }

    /// The runs that nobody holds and that are not settled.
    pub fn free(&self) -> impl Iterator<Item = (u64, u64, &Cell)> {
        let leaves = self.leaves.values().filter(|leaf| leaf.sums.available > 0 || leaf.sums.delayed > 0);
        let runs = leaves.flat_map(|leaf| leaf.block.from(0));
        runs.filter(|(_, _, cell)| matches!(cell.state, State::Available | State::Delayed(_)))
    }

    /// The runs with something leased.
    pub fn leased(&self) -> impl Iterator<Item = (u64, u64, &Cell)> {
        let leaves = self.leaves.values().filter(|leaf| leaf.sums.leased > 0);
        let runs = leaves.flat_map(|leaf| leaf.block.from(0));
        runs.filter(|(_, _, cell)| matches!(cell.state, State::Leased(_)))
    }

    /// Adds a run behind all others, where they end.
    pub fn push(&mut self, first: u64, last: u64, cell: Cell) {
        let mut first = first;
        while first <= last {
            let room = self.leaves.last_entry().filter(|entry| {
                let block = &entry.get().block;
                debug_assert_eq!(block.last + 1, first);
                first - block.base < SPAN_MAX && block.runs.len() < RUNS_MAX
            });
            let end = match room {
                Some(mut entry) => {
                    let leaf = entry.get_mut();
                    let end = last.min(leaf.block.base + (SPAN_MAX - 1));
                    let block = Arc::make_mut(&mut leaf.block);
                    let before = block.runs.len();
                    block.push(first, end, &cell);
                    self.runs += block.runs.len() - before;
                    leaf.sums.count(&cell, end - first + 1, true);
                    end
                }
                None => {
                    let end = last.min(first.saturating_add(SPAN_MAX - 1));
                    let runs = vec![Run { start: 0, kind: 0 }];
                    let block = Block { base: first, last: end, runs, kinds: vec![cell.clone()] };
                    self.leaves.insert(first, Leaf::new(block));
                    self.runs += 1;
                    end
                }
            };
            self.counts.add(&cell, end - first + 1);
            if let State::Delayed(until_ms) = cell.state {
                self.note_delayed(until_ms);
            }
            first = end + 1;
        }
    }

    /// Changes what lies from `first` to `last`, run by run.
    pub fn change(&mut self, first: u64, last: u64, mut change: impl FnMut(&mut Cell)) {
        let mut at = first;
        while at <= last {
            let key = self.key_of(at);
            let Some((&key, leaf)) = self.leaves.range_mut(key..).next() else { return };
            let (begin, end) = (at.max(leaf.block.first()), last.min(leaf.block.last));
            if end < begin {
                return;
            }
            at = leaf.block.last + 1;
            let before = leaf.block.runs.len();
            let (was, is) = leaf.change(begin, end, &mut change);
            self.counts.replace(was, is);
            let delayed_ms = (is.delayed > 0).then_some(leaf.sums.soonest_ms);
            let after = leaf.block.runs.len();
            self.runs = self.runs + after - before;
            if after > RUNS_MAX {
                let behind = leaf.split();
                self.leaves.insert(behind.block.base, behind);
            } else if after <= RUNS_MIN && after < before {
                self.join(key);
            }
            delayed_ms.into_iter().for_each(|until_ms| self.note_delayed(until_ms));
        }
    }

    fn note_delayed(&mut self, until_ms: i64) {
        self.soonest_ms = Some(self.soonest_ms.map_or(until_ms, |soonest_ms| soonest_ms.min(until_ms)));
    }

    /// Joins a leaf that has few runs with the one before it, if that has few too.
    fn join(&mut self, key: u64) {
        let Some((&before_key, before)) = self.leaves.range(..key).next_back() else { return };
        let Some(leaf) = self.leaves.get(&key) else { return };
        let small = before.block.runs.len() <= RUNS_MIN;
        if !small || leaf.block.last - before.block.base >= SPAN_MAX {
            return;
        }
        let (Some(leaf), Some(before)) = (self.leaves.remove(&key), self.leaves.get_mut(&before_key)) else { return };
        self.runs -= leaf.block.runs.len() + before.block.runs.len();
        let block = Arc::make_mut(&mut before.block);
        for (begin, end, cell) in leaf.block.from(0) {
            block.push(begin, end, cell);
        }
        before.sums = Sums::of(block);
        self.runs += before.block.runs.len();
    }

    /// Drops what lies before an offset.
    pub fn cut_before(&mut self, offset: u64) {
        while let Some(mut entry) = self.leaves.first_entry()
            && entry.get().block.first() < offset
        {
            let leaf = entry.get_mut();
            let end = leaf.block.last.min(offset - 1);
            let gone = leaf.count_between(leaf.block.first(), end);
            self.counts.replace(gone, Counts::default());
            if leaf.block.last < offset {
                self.runs -= entry.remove().block.runs.len();
                continue;
            }
            leaf.sums.subtract(gone);
            let block = Arc::make_mut(&mut leaf.block);
            let at = block.find(offset);
            block.runs.drain(..at);
            block.runs[0].start = (offset - block.base) as u32;
            self.runs -= at;
        }
    }

    /// Drops what lies at an offset and behind it.
    pub fn cut_from(&mut self, offset: u64) {
        while let Some(mut entry) = self.leaves.last_entry()
            && entry.get().block.last >= offset
        {
            let leaf = entry.get_mut();
            let begin = leaf.block.first().max(offset);
            let gone = leaf.count_between(begin, leaf.block.last);
            self.counts.replace(gone, Counts::default());
            if leaf.block.first() >= offset {
                self.runs -= entry.remove().block.runs.len();
                continue;
            }
            leaf.sums.subtract(gone);
            let block = Arc::make_mut(&mut leaf.block);
            let at = block.find(offset - 1) + 1;
            self.runs -= block.runs.len() - at;
            block.runs.truncate(at);
            block.last = offset - 1;
        }
    }

    /// When something delayed is due, at the soonest; None if nothing is delayed.
    pub fn soonest_ms(&self) -> Option<i64> {
        self.soonest_ms.filter(|_| self.counts.delayed > 0)
    }

    /// Makes available what was delayed until then. Returns whether there was any.
    pub fn mature(&mut self, now_ms: i64) -> bool {
        if self.soonest_ms().is_none_or(|soonest_ms| soonest_ms > now_ms) {
            return false;
        }
        let before = self.counts.available;
        let is_due = |leaf: &Leaf| leaf.sums.delayed > 0 && leaf.sums.soonest_ms <= now_ms;
        let mut from = 0;
        loop {
            let due = self.leaves.range(from..).find(|(_, leaf)| is_due(leaf));
            let Some((key, first, last)) = due.map(|(key, leaf)| (*key, leaf.block.first(), leaf.block.last)) else {
                break;
            };
            if let Some(leaf) = self.leaves.get_mut(&key) {
                // Found out again while what is not due stays.
                leaf.sums.soonest_ms = i64::MAX;
            }
            self.change(first, last, |cell| {
                if matches!(cell.state, State::Delayed(until_ms) if until_ms <= now_ms) {
                    cell.state = State::Available;
                }
            });
            from = last + 1;
        }
        let delayed = self.leaves.values().filter(|leaf| leaf.sums.delayed > 0);
        self.soonest_ms = delayed.map(|leaf| leaf.sums.soonest_ms).min();
        self.counts.available > before
    }

    pub fn clear(&mut self) {
        *self = Runs::default();
    }

    /// What is there now, for whoever looks at it later.
    pub fn freeze(&self) -> Vec<Arc<Block>> {
        self.leaves.values().map(|leaf| leaf.block.clone()).collect()
    }

    /// The key of the leaf that has an offset; of the one behind it if none has.
    fn key_of(&self, offset: u64) -> u64 {
        match self.leaves.range(..=offset).next_back() {
            Some((key, leaf)) if leaf.block.last >= offset => *key,
            _ => offset,
        }
    }

    /// What it takes in memory, but for the nodes of the tree.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let runs = |block: &Block| block.runs.capacity() * size_of::<Run>();
        let kinds = |block: &Block| block.kinds.capacity() * size_of::<Cell>();
        let of_leaf = size_of::<u64>() + size_of::<Leaf>() + 2 * size_of::<usize>() + size_of::<Block>();
        self.leaves.values().map(|leaf| of_leaf + runs(&leaf.block) + kinds(&leaf.block)).sum()
    }

    #[cfg(test)]
    pub fn check(&self) {
        let (mut counts, mut runs, mut at) = (Counts::default(), 0, None);
        for (key, leaf) in &self.leaves {
            assert!(*key <= leaf.block.first() && leaf.block.runs.len() <= RUNS_MAX);
            assert!(leaf.block.kinds.len() <= 2 * leaf.block.runs.len() + KINDS_SPARE + 1);
            let of_leaf = leaf.count_between(leaf.block.first(), leaf.block.last);
            let mut before = None;
            for (begin, end, cell) in leaf.block.from(0) {
                assert!(at.is_none_or(|at| at == begin) && begin <= end);
                assert_ne!(before, Some(cell));
                counts.add(cell, end - begin + 1);
                if let State::Delayed(until_ms) = cell.state {
                    assert!(leaf.sums.soonest_ms <= until_ms && self.soonest_ms <= Some(until_ms));
                    assert!(self.soonest_ms.is_some());
                }
                (at, before) = (Some(end + 1), Some(cell));
            }
            runs += leaf.block.runs.len();
            let sums = [leaf.sums.available, leaf.sums.delayed, leaf.sums.leased, leaf.sums.settled].map(u64::from);
            assert_eq!(sums, [of_leaf.available, of_leaf.delayed, of_leaf.leased, of_leaf.settled]);
        }
        assert_eq!((counts, runs), (self.counts, self.runs));
    }
}

/// So many kinds that no run is of any more are put up with.
const KINDS_SPARE: usize = 16;

impl Block {
    pub fn first(&self) -> u64 {
        self.base + u64::from(self.runs.first().map_or(0, |run| run.start))
    }

    fn run(&self, at: usize) -> (u64, u64, &Cell) {
        let run = self.runs[at];
        let end = self.runs.get(at + 1).map_or(self.last, |next| self.base + u64::from(next.start) - 1);
        (self.base + u64::from(run.start), end, &self.kinds[run.kind as usize])
    }

    /// Its runs, from the one that has an offset on, or from the first.
    pub fn from(&self, offset: u64) -> impl Iterator<Item = (u64, u64, &Cell)> {
        let at = if offset <= self.first() { 0 } else { self.find(offset) };
        (at..self.runs.len()).map(|at| self.run(at))
    }

    /// The run that has an offset of the block.
    fn find(&self, offset: u64) -> usize {
        let start = (offset - self.base).min(SPAN_MAX) as u32;
        self.runs.partition_point(|run| run.start <= start).saturating_sub(1)
    }

    fn push(&mut self, first: u64, last: u64, cell: &Cell) {
        let kind = self.kind(cell);
        if self.runs.last().is_none_or(|run| run.kind != kind) {
            self.runs.push(Run { start: (first - self.base) as u32, kind });
        }
        self.last = last;
    }

    /// The number of a kind.
    fn kind(&mut self, cell: &Cell) -> u16 {
        let at = self.kinds.iter().position(|kind| kind == cell).unwrap_or_else(|| {
            self.kinds.push(cell.clone());
            self.kinds.len() - 1
        });
        at as u16
    }

    /// Drops the kinds that no run is of.
    fn tidy(&mut self) {
        if self.kinds.len() <= 2 * self.runs.len() + KINDS_SPARE {
            return;
        }
        let mut numbers: Vec<Option<u16>> = vec![None; self.kinds.len()];
        let mut kinds = Vec::new();
        for run in &mut self.runs {
            let number = numbers[run.kind as usize].get_or_insert_with(|| {
                kinds.push(self.kinds[run.kind as usize].clone());
                (kinds.len() - 1) as u16
            });
            run.kind = *number;
        }
        self.kinds = kinds;
    }
}

impl Leaf {
    fn new(block: Block) -> Leaf {
        Leaf { sums: Sums::of(&block), block: Arc::new(block) }
    }

    fn count_between(&self, first: u64, last: u64) -> Counts {
        let mut counts = Counts::default();
        for (begin, end, cell) in self.block.from(first).take_while(|(begin, ..)| *begin <= last) {
            counts.add(cell, (end.min(last) + 1).saturating_sub(begin.max(first)));
        }
        counts
    }

    /// Changes runs of the block. Returns how many were what before and are now.
    fn change(&mut self, first: u64, last: u64, change: &mut impl FnMut(&mut Cell)) -> (Counts, Counts) {
        let (mut was, mut is) = (Counts::default(), Counts::default());
        let Leaf { sums, block } = self;
        let block = Arc::make_mut(block);
        let begin = block.find(first);
        let mut runs: Vec<Run> = Vec::with_capacity(4);
        let mut kind_before = begin.checked_sub(1).map(|before| block.runs[before].kind);
        let mut put = |start: u64, kind: u16| {
            if kind_before != Some(kind) {
                runs.push(Run { start: start as u32, kind });
            }
            kind_before = Some(kind);
        };
        let base = block.base;
        let mut at = begin;
        loop {
            let (run_first, run_last, cell) = block.run(at);
            let kind = block.runs[at].kind;
            let (low, high) = (run_first.max(first), run_last.min(last));
            let mut changed = cell.clone();
            change(&mut changed);
            if run_first < low {
                put(run_first - base, kind);
            }
            if changed == *cell {
                if let State::Delayed(until_ms) = changed.state {
                    sums.soonest_ms = sums.soonest_ms.min(until_ms);
                }
                put(low - base, kind);
            } else {
                let messages = high - low + 1;
                was.add(cell, messages);
                is.add(&changed, messages);
                sums.count(cell, messages, false);
                sums.count(&changed, messages, true);
                put(low - base, block.kind(&changed));
            }
            at += 1;
            if run_last >= last {
                if run_last > last {
                    put(last + 1 - base, kind);
                }
                break;
            }
        }
        // The one behind may be like the last now.
        if block.runs.get(at).is_some_and(|next| Some(next.kind) == kind_before) {
            at += 1;
        }
        block.runs.splice(begin..at, runs);
        block.tidy();
        (was, is)
    }

    /// Cuts the block in two halves and returns the second.
    fn split(&mut self) -> Leaf {
        let block = Arc::make_mut(&mut self.block);
        let middle = block.runs.len() / 2;
        let first = block.run(middle).0;
        let mut behind = Block { base: first, last: block.last, runs: Vec::new(), kinds: Vec::new() };
        for (begin, end, cell) in (middle..block.runs.len()).map(|at| block.run(at)) {
            behind.push(begin, end, cell);
        }
        block.runs.truncate(middle);
        block.last = first - 1;
        block.tidy();
        for block in [&mut *block, &mut behind] {
            block.runs.shrink_to_fit();
            block.kinds.shrink_to_fit();
        }
        self.sums = Sums::of(block);
        Leaf::new(behind)
    }
}

impl Sums {
    const NONE: Sums = Sums { available: 0, delayed: 0, leased: 0, settled: 0, soonest_ms: i64::MAX };

    fn of(block: &Block) -> Sums {
        let mut sums = Sums::NONE;
        block.from(0).for_each(|(begin, end, cell)| sums.count(cell, end - begin + 1, true));
        sums
    }

    fn count(&mut self, cell: &Cell, messages: u64, more: bool) {
        let place = match cell.state {
            State::Available => &mut self.available,
            State::Delayed(until_ms) => {
                self.soonest_ms = if more { self.soonest_ms.min(until_ms) } else { self.soonest_ms };
                &mut self.delayed
            }
            State::Leased(_) | State::Settling(_) => &mut self.leased,
            State::Settled => &mut self.settled,
        };
        *place = if more { *place + messages as u32 } else { *place - messages as u32 };
    }

    fn subtract(&mut self, gone: Counts) {
        self.available -= gone.available as u32;
        self.delayed -= gone.delayed as u32;
        self.leased -= gone.leased as u32;
        self.settled -= gone.settled as u32;
    }
}

impl Counts {
    fn add(&mut self, cell: &Cell, messages: u64) {
        match cell.state {
            State::Available => self.available += messages,
            State::Delayed(_) => self.delayed += messages,
            State::Leased(_) | State::Settling(_) => self.leased += messages,
            State::Settled => self.settled += messages,
        }
    }

    fn replace(&mut self, was: Counts, is: Counts) {
        self.available = self.available + is.available - was.available;
        self.delayed = self.delayed + is.delayed - was.delayed;
        self.leased = self.leased + is.leased - was.leased;
        self.settled = self.settled + is.settled - was.settled;
    }
}
