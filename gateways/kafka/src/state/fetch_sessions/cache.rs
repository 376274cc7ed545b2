//! Which sessions there are, and which goes when there are too many.
//!
//! A new session takes the place of one that nobody used for two minutes; else of the smallest of those that are older
//! than two minutes, if that is no larger than the new one: so a crowd of small clients cannot drive out the few to whom
//! sessions save the most. Else there is none for it, and its client goes on with full fetches. (The rules are Kafka's.)
//! Besides, the partitions of all sessions together are bounded, which Kafka leaves open.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::session::Session;

/// How much may be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions (`max.incremental.fetch.session.cache.slots`).
    pub sessions_max: usize,
    /// Partitions of all sessions together; each takes about 250 bytes.
    pub partitions_max: usize,
    /// After what time a session may be evicted (`min.incremental.fetch.session.eviction.ms`).
    pub eviction_ms: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { sessions_max: 1_000, partitions_max: 1_000_000, eviction_ms: 120_000 }
    }
}

#[derive(Debug)]
pub struct Cache {
    limits: Limits,
    slots: HashMap<i32, Slot>,
    /// Of all slots.
    partitions: usize,
}

#[derive(Debug)]
struct Slot {
    session: Arc<Mutex<Session>>,
    created_ms: i64,
    used_ms: i64,
    partitions: usize,
}

impl Cache {
    pub fn new(limits: Limits) -> Self {
        Cache { limits, slots: HashMap::new(), partitions: 0 }
    }

    pub fn count(&self) -> usize {
        self.slots.len()
    }

    pub fn get(&self, id: i32) -> Option<Arc<Mutex<Session>>> {
        self.slots.get(&id).map(|slot| slot.session.clone())
    }

    pub fn remove(&mut self, id: i32) {
        if let Some(slot) = self.slots.remove(&id) {
            self.partitions -= slot.partitions;
        }
    }

    /// Notes that a session is used, and how large it is now. False: it is too large, and was removed.
    pub fn touch(&mut self, id: i32, partitions: usize, now_ms: i64) -> bool {
        let Some(slot) = self.slots.get_mut(&id) else { return false };
        self.partitions = self.partitions - slot.partitions + partitions;
        slot.partitions = partitions;
        slot.used_ms = now_ms;
        if self.partitions > self.limits.partitions_max {
            self.remove(id);
            return false;
        }
        true
    }

    /// Makes room for a session and puts it there; returns its id. None: there is no room.
    pub fn create(
        &mut self,
        partitions: usize,
        random: impl Fn() -> Option<i32>,
        session: impl FnOnce(i32) -> Session,
        now_ms: i64,
    ) -> Option<i32> {
        while self.slots.len() >= self.limits.sessions_max || self.partitions + partitions > self.limits.partitions_max
        {
            let id = self.evictable(partitions, now_ms)?;
            self.remove(id);
        }
        let id = loop {
            // Positive, and not another's.
            let id = random()? & i32::MAX;
            if id != 0 && !self.slots.contains_key(&id) {
                break id;
            }
        };
        let session = session(id);
        let partitions = session.partitions();
        let session = Arc::new(Mutex::new(session));
        self.slots.insert(id, Slot { session, created_ms: now_ms, used_ms: now_ms, partitions });
        self.partitions += partitions;
        Some(id)
    }

    /// The session that makes room for one of `partitions`. Looked for only when there is no room.
    fn evictable(&self, partitions: usize, now_ms: i64) -> Option<i32> {
        let is_old = |since_ms: i64| now_ms.saturating_sub(since_ms) > self.limits.eviction_ms;
        let unused = self.slots.iter().filter(|(_, slot)| is_old(slot.used_ms));
        if let Some((id, _)) = unused.min_by_key(|(id, slot)| (slot.used_ms, **id)) {
            return Some(*id);
        }
        let old = self.slots.iter().filter(|(_, slot)| is_old(slot.created_ms));
        let (id, smallest) = old.min_by_key(|(id, slot)| (slot.partitions, **id))?;
        (smallest.partitions <= partitions).then_some(*id)
    }
}
