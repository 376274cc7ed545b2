//! One session: the partitions that a client fetches, in turn, and what it was told of each last.

use std::collections::{BTreeMap, HashMap};

use super::{INITIAL_EPOCH, TopicKey, Wanted};

/// A partition that the client no longer wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    pub topic: TopicKey,
    pub partition: i32,
}

/// What an answer tells of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    pub has_records: bool,
    /// An error, or a diverging epoch: told each time.
    pub is_error: bool,
}

/// What the client knows of a partition's bounds; None: nothing, or it was told an error since.
type Known = Option<(i64, i64, i64)>;

#[derive(Debug)]
pub struct Session {
    id: i32,
    /// The next request's.
    epoch: i32,
    uses_ids: bool,
    /// By turn: answers are bounded, so that who had records goes to the end.
    partitions: BTreeMap<u64, (Wanted, Known)>,
    turns: HashMap<(TopicKey, i32), u64>,
    next_turn: u64,
}

impl Session {
    /// A session whose first answer is `told`.
    pub fn new(id: i32, uses_ids: bool, wanted: &[Wanted], told: &[Told]) -> Self {
        let mut session = Session {
            id,
            epoch: next_epoch(INITIAL_EPOCH),
            uses_ids,
            partitions: BTreeMap::new(),
            turns: HashMap::with_capacity(wanted.len()),
            next_turn: 0,
        };
        for wanted in wanted {
            session.want(wanted);
        }
        for (wanted, told) in wanted.iter().zip(told) {
            let key = (wanted.topic.clone(), wanted.partition);
            if let Some(turn) = session.turns.get(&key).copied() {
                session.tell(turn, told);
            }
        }
        session
    }

    pub fn id(&self) -> i32 {
        self.id
    }

    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    pub fn uses_ids(&self) -> bool {
        self.uses_ids
    }

    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// Counts a request; returns the epoch of the next.
    pub fn advance(&mut self) -> i32 {
        self.epoch = next_epoch(self.epoch);
        self.epoch
    }

    pub fn update(&mut self, wanted: &[Wanted], forgotten: &[Forgotten]) {
        for wanted in wanted {
            self.want(wanted);
        }
        for Forgotten { topic, partition } in forgotten {
            if let Some(turn) = self.turns.remove(&(topic.clone(), *partition)) {
                self.partitions.remove(&turn);
            }
        }
    }

    fn want(&mut self, wanted: &Wanted) {
        let key = (wanted.topic.clone(), wanted.partition);
        let next_turn = self.next_turn;
        let turn = *self.turns.entry(key).or_insert(next_turn);
        self.next_turn += u64::from(turn == next_turn);
        match self.partitions.get_mut(&turn) {
            Some((known_wanted, _)) => *known_wanted = wanted.clone(),
            None => drop(self.partitions.insert(turn, (wanted.clone(), None))),
        }
    }

    /// All partitions in turn, and their turns.
    pub fn wanted(&self) -> (Vec<Wanted>, Vec<u64>) {
        let wanted = self.partitions.values().map(|(wanted, _)| wanted.clone()).collect();
        (wanted, self.partitions.keys().copied().collect())
    }

    /// Whether the client needs to be told this; if so it counts as told.
    pub fn tell(&mut self, turn: u64, told: &Told) -> bool {
        let Some((_, known)) = self.partitions.get_mut(&turn) else { return true };
        let bounds = (told.high_watermark, told.last_stable_offset, told.log_start_offset);
        let is_news = told.has_records || told.is_error || *known != Some(bounds);
        *known = (!told.is_error).then_some(bounds);
        if told.has_records
            && let Some(partition) = self.partitions.remove(&turn)
        {
            self.turns.insert((partition.0.topic.clone(), partition.0.partition), self.next_turn);
            self.partitions.insert(self.next_turn, partition);
            self.next_turn += 1;
        }
        is_news
    }
}

/// Epochs go from 1 to the greatest and begin anew at 1: 0 and negative ones mean something else.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}
