//! Where each key was last seen: hashes of keys and offsets in a table of bounded memory.
//!
//! A key is known by 128 bits of SipHash under keys that are drawn anew for each table, so that nobody can choose two keys
//! which are taken for one (of which the older would be dropped). Of n keys two collide by chance once in 2^129 / n²
//! compactions.

use std::hash::{BuildHasher, RandomState};

/// An empty place has offset 0; others hold the offset plus one.
type Slot = [u64; 3];

const SLOT_BYTES: usize = std::mem::size_of::<Slot>();

const SLOTS_FIRST: usize = 1 << 10;

/// The table is full, or grows, with so many of eight places taken: more would make probing long.
const TAKEN_OF_EIGHT: usize = 6;

pub struct KeyMap {
    slots: Vec<Slot>,
    taken: usize,
    slots_max: usize,
    hashers: [RandomState; 2],
}

/// What stands for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash(u64, u64);

impl KeyMap {
    /// A table that takes `bytes_max` at most, the old one beside the new while it grows included.
    pub fn new(bytes_max: u64) -> KeyMap {
        // Of the last doubling there are the old and the new: two thirds are the table.
        let slots_max = (bytes_max as usize / SLOT_BYTES / 3 * 2).max(SLOTS_FIRST);
        let hashers = [RandomState::new(), RandomState::new()];
        KeyMap { slots: vec![[0; 3]; SLOTS_FIRST], taken: 0, slots_max, hashers }
    }

    pub fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash(self.hashers[0].hash_one(key), self.hashers[1].hash_one(key))
    }

    /// Notes that a key is at this offset, unless it was seen later. False: there is no room for another key; with `force`
    /// room is made beyond the limit.
    pub fn insert(&mut self, hash: KeyHash, offset: u64, force: bool) -> bool {
        if let Some(slot) = self.find(hash) {
            slot[2] = slot[2].max(offset + 1);
            return true;
        }
        if (self.taken + 1) * 8 > self.slots.len() * TAKEN_OF_EIGHT && !self.grow(force) {
            return false;
        }
        self.place([hash.0, hash.1, offset + 1]);
        self.taken += 1;
        true
    }

    /// The last offset of a key. None: it was not seen.
    pub fn get(&self, hash: KeyHash) -> Option<u64> {
        let mut at = self.first_place(hash.0);
        loop {
            match self.slots[at] {
                [_, _, 0] => return None,
                [one, other, next] if (one, other) == (hash.0, hash.1) => return Some(next - 1),
                _ => at = (at + 1) % self.slots.len(),
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.taken == 0
    }

    fn find(&mut self, hash: KeyHash) -> Option<&mut Slot> {
        let mut at = self.first_place(hash.0);
        loop {
            match self.slots[at] {
                [_, _, 0] => return None,
                [one, other, _] if (one, other) == (hash.0, hash.1) => return Some(&mut self.slots[at]),
                _ => at = (at + 1) % self.slots.len(),
            }
        }
    }

    fn first_place(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.slots.len() as u128) >> 64) as usize
    }

    fn place(&mut self, slot: Slot) {
        let mut at = self.first_place(slot[0]);
        while self.slots[at][2] != 0 {
            at = (at + 1) % self.slots.len();
        }
        self.slots[at] = slot;
    }

    fn grow(&mut self, force: bool) -> bool {
        let doubled = self.slots.len() * 2;
        let slots = if force { doubled } else { doubled.min(self.slots_max) };
        if slots <= self.slots.len() {
            return false;
        }
        let old = std::mem::replace(&mut self.slots, vec![[0; 3]; slots]);
        old.into_iter().filter(|slot| slot[2] != 0).for_each(|slot| self.place(slot));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_of_each_key_is_known() {
        let mut map = KeyMap::new(1 << 20);
        let key = |number: u32| number.to_le_bytes();
        for offset in 0..30_000u64 {
            let hash = map.hash(&key(offset as u32 % 7000));
            assert!(map.insert(hash, offset, false));
        }
        let early = map.hash(&key(1));
        assert!(map.insert(early, 0, false), "an earlier offset changes nothing");
        for number in 0..7000u32 {
            let last = (0..30_000u64).rev().find(|offset| *offset as u32 % 7000 == number);
            assert_eq!(map.get(map.hash(&key(number))), last);
        }
        assert_eq!(map.get(map.hash(b"other")), None);
    }

    #[test]
    fn memory_is_bounded_unless_forced() {
        let mut map = KeyMap::new(100_000);
        let mut taken = 0u64;
        while map.insert(map.hash(&taken.to_le_bytes()), taken, false) {
            taken += 1;
        }
        assert!(map.slots.len() * SLOT_BYTES <= 66_672, "{}", map.slots.len());
        assert!(taken > 1900, "{taken}");
        assert!(map.insert(map.hash(&0u64.to_le_bytes()), 9, false), "known keys always have room");
        let forced = map.hash(b"forced");
        assert!(map.insert(forced, taken, true));
        assert_eq!(map.get(forced), Some(taken));
    }
}
