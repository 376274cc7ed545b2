//! The texts of literal levels, each once, by a number; and how edges are hashed, which are pairs of such numbers. Pure.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

/// Odd, and without a pattern in its bits: the golden ratio's.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// From a node by a literal level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    pub node: u32,
    pub symbol: u32,
}

impl Hash for Edge {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.node) << 32 | u64::from(self.symbol));
    }
}

/// Hashes one `u64`, keyed anew for each trie: the numbers are ours, but clients decide which of them meet.
#[derive(Clone, Debug)]
pub struct EdgeHasher {
    key: u64,
}

impl Default for EdgeHasher {
    fn default() -> Self {
        EdgeHasher { key: RandomState::new().hash_one(0) }
    }
}

impl BuildHasher for EdgeHasher {
    type Hasher = Mixed;

    fn build_hasher(&self) -> Mixed {
        Mixed(self.key)
    }
}

#[derive(Debug)]
pub struct Mixed(u64);

impl Hasher for Mixed {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, value: u64) {
        // Both halves of a wide product depend on all bits.
        let product = u128::from(value ^ self.0) * u128::from(MULTIPLIER);
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Texts and their numbers, counted by the edges that have them.
#[derive(Debug, Default)]
pub struct Symbols {
    by_text: HashMap<Box<str>, Counted>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Counted {
    symbol: u32,
    uses: u32,
}

impl Symbols {
    /// The number of a text that some edge has.
    pub fn get(&self, text: &str) -> Option<u32> {
        Some(self.by_text.get(text)?.symbol)
    }

    /// The number of a text that one more edge has.
    pub fn take(&mut self, text: &str) -> u32 {
        if let Some(counted) = self.by_text.get_mut(text) {
            counted.uses += 1;
            return counted.symbol;
        }
        // Numbers are as dense as can be: without free ones they are as many as texts.
        let symbol = self.free.pop().unwrap_or(self.by_text.len() as u32);
        self.by_text.insert(text.into(), Counted { symbol, uses: 1 });
        symbol
    }

    /// One edge less has it. The number that it had.
    pub fn give_back(&mut self, text: &str) -> Option<u32> {
        let counted = self.by_text.get_mut(text)?;
        counted.uses -= 1;
        let Counted { symbol, uses } = *counted;
        if uses == 0 {
            self.by_text.remove(text);
            self.free.push(symbol);
        }
        Some(symbol)
    }
}
