//! Which news of meta is new: a copy that applies its own writes at once hears of them again by the watch, later and
//! perhaps after it has written again. Pure.

use std::collections::{HashMap, HashSet};

/// The version of each key that a copy has, and what it deleted itself and was not told of yet.
#[derive(Debug, Default)]
pub struct Versions {
    known: HashMap<String, u64>,
    /// The version of the entry that was deleted here: puts up to it are old.
    deleted: HashMap<String, u64>,
}

impl Versions {
    /// Whether the copy shall take this put.
    pub fn put(&mut self, key: &str, version: u64) -> bool {
        if self.deleted.get(key).is_some_and(|deleted| version <= *deleted) {
            return false;
        }
        match self.known.get_mut(key) {
            Some(known) if *known >= version => false,
            Some(known) => {
                *known = version;
                true
            }
            None => {
                self.known.insert(key.to_owned(), version);
                true
            }
        }
    }

    /// Whether the copy shall drop what it has: the watch tells of a deletion at this revision.
    pub fn delete(&mut self, key: &str, revision: u64) -> bool {
        if self.deleted.get(key).is_some_and(|deleted| *deleted < revision) {
            self.deleted.remove(key);
        }
        match self.known.get(key) {
            Some(known) if *known < revision => self.known.remove(key).is_some(),
            _ => false,
        }
    }

    /// This process deleted the entry. False: the copy did not have it.
    pub fn delete_own(&mut self, key: &str) -> bool {
        let Some(version) = self.known.remove(key) else { return false };
        self.deleted.insert(key.to_owned(), version);
        true
    }

    /// A list of everything of a kind (`is_of`) as of a revision has come: what the copy has, the list has not, and is no newer,
    /// is gone. Returns it.
    pub fn missing(&mut self, listed: &HashSet<&str>, revision: u64, is_of: impl Fn(&str) -> bool) -> Vec<String> {
        let gone = |(key, version): (&String, &u64)| {
            (*version <= revision && is_of(key) && !listed.contains(key.as_str())).then(|| key.clone())
        };
        let gone: Vec<String> = self.known.iter().filter_map(gone).collect();
        for key in &gone {
            self.known.remove(key);
        }
        // A deletion that the list does not show any more will not be told of again.
        self.deleted.retain(|key, _| !is_of(key) || listed.contains(key.as_str()));
        gone
    }

    /// The version of what the copy has.
    pub fn of(&self, key: &str) -> Option<u64> {
        self.known.get(key).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_write_that_comes_back_is_not_new() {
        let mut versions = Versions::default();
        assert!(versions.put("k", 5));
        assert!(!versions.put("k", 5) && !versions.put("k", 4));
        assert!(versions.put("k", 6));
        assert!(!versions.delete("k", 5) && versions.delete("k", 7));
    }

    #[test]
    fn what_was_deleted_here_does_not_come_back() {
        let mut versions = Versions::default();
        assert!(versions.put("k", 5));
        assert!(versions.delete_own("k"));
        assert!(!versions.put("k", 5));
        assert!(versions.put("k", 9), "made again");
        assert!(!versions.delete("k", 7), "the deletion was before that");
        assert!(versions.delete("k", 10));
    }

    #[test]
    fn a_list_shows_what_is_gone() {
        let mut versions = Versions::default();
        for (key, version) in [("a", 1), ("b", 2), ("c", 9)] {
            versions.put(key, version);
        }
        assert_eq!(versions.missing(&HashSet::from(["a"]), 5, |_| true), ["b"]);
        assert_eq!((versions.of("a"), versions.of("c")), (Some(1), Some(9)));
    }
}
