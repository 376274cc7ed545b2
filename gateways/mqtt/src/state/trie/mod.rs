//! Topic filters and who subscribed to them, in a trie of their levels (4.7). Pure.
//!
//! ```text
//!   sensors/+/temp                root ─ sensors ─ + ─ temp    {5: …}
//!   sensors/#                            └ # {7: …}
//! ```
//! Nodes lie in one vector and point at each other by number, all edges of literal levels in one hash map, and a level's text is
//! kept once however many filters have it ([`symbols`]). So nothing here recurses, not even dropping: a client may send
//! filters of 32,767 levels. Matching goes through the name once, with the nodes that its levels so far lead to; each node is
//! reached by one way only, so no subscriber is visited twice for one filter, and a match costs at most as much as there are nodes.

mod subscribers;
mod symbols;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use self::subscribers::Subscribers;
use self::symbols::{Edge, EdgeHasher, Symbols};

const ROOT: u32 = 0;
/// No node: a filter has at most 32,767 levels and lies in memory, so the number is never reached.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Node<K, V> {
    /// Children by literal levels; they are in the trie's edges.
    literals: u32,
    plus: u32,
    hash: u32,
    subscribers: Subscribers<K, V>,
}

impl<K, V> Node<K, V> {
    fn new() -> Node<K, V> {
        Node { literals: 0, plus: NONE, hash: NONE, subscribers: Subscribers::default() }
    }

    fn is_idle(&self) -> bool {
        self.literals == 0 && self.plus == NONE && self.hash == NONE && self.subscribers.is_empty()
    }
}

/// The subscriptions of one gateway. `K` is who subscribed, `V` how.
#[derive(Debug)]
pub struct Trie<K, V> {
    nodes: Vec<Node<K, V>>,
    free: Vec<u32>,
    edges: HashMap<Edge, u32, EdgeHasher>,
    symbols: Symbols,
    /// The literals that filters begin with.
    first_levels: HashSet<Box<str>>,
    generation: u64,
    len: usize,
}

impl<K: Copy + Eq + Hash, V> Default for Trie<K, V> {
    fn default() -> Self {
        Trie {
            nodes: vec![Node::new()],
            free: Vec::new(),
            edges: HashMap::with_hasher(EdgeHasher::default()),
            symbols: Symbols::default(),
            first_levels: HashSet::new(),
            generation: 0,
            len: 0,
        }
    }
}

/// What filters begin with: which first levels of names anybody can be interested in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirstLevels {
    pub literals: HashSet<Box<str>>,
    /// A filter begins with `+` or `#`: all, but for those that begin with `$`.
    pub wildcard: bool,
}

impl<K: Copy + Eq + Hash, V> Trie<K, V> {
    /// Subscribes. Returns what the key had subscribed with to the same filter. The filter is valid (4.7.1), and not one of a shared
    /// subscription's.
    pub fn insert(&mut self, filter: &str, key: K, value: V) -> Option<V> {
        self.generation += 1;
        let mut node = ROOT;
        for level in filter.split('/') {
            node = self.child_or_new(node, level);
        }
        let replaced = self.nodes[node as usize].subscribers.insert(key, value);
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// Unsubscribes, and drops what leads nowhere then.
    pub fn remove(&mut self, filter: &str, key: &K) -> Option<V> {
        let mut path = Vec::with_capacity(8);
        let mut node = ROOT;
        for level in filter.split('/') {
            path.push((node, level));
            node = self.child(node, level)?;
        }
        let removed = self.nodes[node as usize].subscribers.remove(key)?;
        self.generation += 1;
        self.len -= 1;
        while self.nodes[node as usize].is_idle()
            && let Some((parent, level)) = path.pop()
        {
            self.cut(parent, level);
            self.nodes[node as usize] = Node::new();
            self.free.push(node);
            node = parent;
        }
        if self.len == 0 {
            // What many filters have left behind.
            *self = Trie { generation: self.generation, ..Trie::default() };
        }
        Some(removed)
    }

    /// How the key subscribed to exactly this filter.
    pub fn get(&self, filter: &str, key: &K) -> Option<&V> {
        let mut node = ROOT;
        for level in filter.split('/') {
            node = self.child(node, level)?;
        }
        self.nodes[node as usize].subscribers.get(key)
    }

    /// Calls `visit` for each subscription whose filter the topic name matches: several times for a key with several such filters.
    /// `#` also matches the level before it, `+` an empty level, and neither, at the beginning, a name that begins with `$`
    /// [MQTT-4.7.2-1].
    pub fn matches(&self, name: &str, visit: &mut impl FnMut(&K, &V)) {
        // Those that the levels so far lead to; behind them those of the next level.
        let mut reached = Vec::with_capacity(16);
        reached.push(ROOT);
        let mut wildcards = !name.starts_with('$');
        for level in name.split('/') {
            let symbol = self.symbols.get(level);
            let count = reached.len();
            for at in 0..count {
                let node = reached[at];
                let Node { literals, plus, hash, .. } = self.nodes[node as usize];
                if wildcards && hash != NONE {
                    self.nodes[hash as usize].subscribers.visit(visit);
                }
                if wildcards && plus != NONE {
                    reached.push(plus);
                }
                if literals > 0
                    && let Some(child) = symbol.and_then(|symbol| self.edges.get(&Edge { node, symbol }))
                {
                    reached.push(*child);
                }
            }
            reached.drain(..count);
            if reached.is_empty() {
                return;
            }
            wildcards = true;
        }
        for node in reached {
            let Node { hash, subscribers, .. } = &self.nodes[node as usize];
            subscribers.visit(visit);
            if *hash != NONE {
                self.nodes[*hash as usize].subscribers.visit(visit);
            }
        }
    }

    /// With which first levels names may be matched by any filter.
    pub fn first_levels(&self) -> FirstLevels {
        FirstLevels { literals: self.first_levels.clone(), wildcard: self.has_wildcard_first() }
    }

    /// Rises with every change: what was matched holds while it is the same.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Subscriptions.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn has_wildcard_first(&self) -> bool {
        let root = &self.nodes[ROOT as usize];
        root.plus != NONE || root.hash != NONE
    }

    fn child(&self, node: u32, level: &str) -> Option<u32> {
        let found = match level {
            "+" => self.nodes[node as usize].plus,
            "#" => self.nodes[node as usize].hash,
            level => *self.edges.get(&Edge { node, symbol: self.symbols.get(level)? })?,
        };
        (found != NONE).then_some(found)
    }

    fn child_or_new(&mut self, node: u32, level: &str) -> u32 {
        if let Some(child) = self.child(node, level) {
            return child;
        }
        let child = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::new());
            self.nodes.len() as u32 - 1
        });
        let parent = &mut self.nodes[node as usize];
        match level {
            "+" => parent.plus = child,
            "#" => parent.hash = child,
            level => {
                parent.literals += 1;
                let symbol = self.symbols.take(level);
                self.edges.insert(Edge { node, symbol }, child);
                if node == ROOT {
                    self.first_levels.insert(level.into());
                }
            }
        }
        child
    }

    /// Takes away a node's child of this level, which is there.
    fn cut(&mut self, node: u32, level: &str) {
        let parent = &mut self.nodes[node as usize];
        match level {
            "+" => parent.plus = NONE,
            "#" => parent.hash = NONE,
            level => {
                parent.literals -= 1;
                if let Some(symbol) = self.symbols.give_back(level) {
                    self.edges.remove(&Edge { node, symbol });
                }
                if node == ROOT {
                    self.first_levels.remove(level);
                }
            }
        }
    }
}
