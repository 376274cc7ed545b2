//! When what is due: one deadline for each key, which can be moved or taken back; the earliest first. Pure, time passed in.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// Deadlines in ms since the Unix epoch.
#[derive(Debug)]
pub struct Deadlines<K> {
    by_time: BTreeSet<(i64, K)>,
    by_key: HashMap<K, i64>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Deadlines { by_time: BTreeSet::new(), by_key: HashMap::new() }
    }
}

impl<K: Clone + Ord + Hash> Deadlines<K> {
    /// Replaces the key's deadline. True: it is now the earliest of all.
    pub fn set(&mut self, key: K, at_ms: i64) -> bool {
        if let Some(old_ms) = self.by_key.insert(key.clone(), at_ms) {
            self.by_time.remove(&(old_ms, key.clone()));
        }
        self.by_time.insert((at_ms, key.clone()));
        self.by_time.first() == Some(&(at_ms, key))
    }

    /// Sets the deadline if the key has none, or a later one. True: it is now the earliest of all.
    pub fn set_earlier(&mut self, key: K, at_ms: i64) -> bool {
        match self.by_key.get(&key) {
            Some(old_ms) if *old_ms <= at_ms => false,
            _ => self.set(key, at_ms),
        }
    }

    pub fn remove(&mut self, key: &K) {
        if let Some(at_ms) = self.by_key.remove(key) {
            self.by_time.remove(&(at_ms, key.clone()));
        }
    }

    /// The earliest deadline.
    pub fn next_ms(&self) -> Option<i64> {
        self.by_time.first().map(|(at_ms, _)| *at_ms)
    }

    /// Takes all that are due, earliest first.
    pub fn take_due(&mut self, now_ms: i64) -> Vec<K> {
        let mut due = Vec::new();
        while let Some((at_ms, _)) = self.by_time.first() {
            if *at_ms > now_ms {
                break;
            }
            let Some((_, key)) = self.by_time.pop_first() else { break };
            self.by_key.remove(&key);
            due.push(key);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_deadline_and_the_earliest_comes_first() {
        let mut deadlines = Deadlines::default();
        assert!(deadlines.set("a", 30));
        assert!(deadlines.set("b", 20));
        assert!(!deadlines.set("c", 40));
        assert!(!deadlines.set_earlier("c", 50));
        assert!(deadlines.set_earlier("c", 10));
        assert_eq!(deadlines.next_ms(), Some(10));
        deadlines.set("b", 60);
        assert_eq!(deadlines.take_due(5), Vec::<&str>::new());
        assert_eq!(deadlines.take_due(30), ["c", "a"]);
        assert_eq!(deadlines.next_ms(), Some(60));
        deadlines.remove(&"b");
        deadlines.remove(&"b");
        assert_eq!(deadlines.next_ms(), None);
    }
}
