//! The bindings of a topic exchange, in a trie of their words: `*` is one word, `#` any number of them.
//!
//! Matching goes through the routing key once with the set of nodes that its words so far can have led to. A key of n
//! words and a trie of m nodes so cost at most n·m steps, however many `#` there are: trying each way of
//! dividing a key among several of them would let a client stop the gateway with one binding.

use std::collections::HashMap;
use std::sync::Arc;

use super::Binding;

/// The words of a key. An empty key has none.
fn words(key: &str) -> impl Iterator<Item = &str> {
    (!key.is_empty()).then(|| key.split('.')).into_iter().flatten()
}

#[derive(Debug, Default)]
struct Node {
    words: HashMap<Box<str>, Node>,
    star: Option<Box<Node>>,
    hash: Option<Box<Node>>,
    /// Those whose last word led here.
    bindings: Vec<Arc<Binding>>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.words.is_empty() && self.star.is_none() && self.hash.is_none() && self.bindings.is_empty()
    }

    fn add<'w>(&mut self, words: impl Iterator<Item = &'w str>, binding: Arc<Binding>) {
        let mut node = self;
        for word in words {
            node = match word {
                "*" => node.star.get_or_insert_default(),
                "#" => node.hash.get_or_insert_default(),
                word => node.words.entry(word.into()).or_default(),
            };
        }
        node.bindings.push(binding);
    }

    /// Removes the binding, and the nodes that lead nowhere then. As deep as the key has words, which a short string bounds.
    fn remove(&mut self, words: &[&str], binding: &Arc<Binding>) {
        let Some((word, rest)) = words.split_first() else {
            return self.bindings.retain(|other| !Arc::ptr_eq(other, binding));
        };
        let emptied = |child: &mut Node| {
            child.remove(rest, binding);
            child.is_empty()
        };
        match *word {
            "*" => drop(self.star.take_if(|child| emptied(child))),
            "#" => drop(self.hash.take_if(|child| emptied(child))),
            word => {
                if self.words.get_mut(word).is_some_and(emptied) {
                    self.words.remove(word);
                }
            }
        }
    }
}

/// Where the words so far can have led.
#[derive(Clone, Copy)]
struct At<'t> {
    node: &'t Node,
    /// The node stands for a `#`, which may take further words.
    takes_more: bool,
}

/// Reaches a node, and with it the `#` behind it, which may stand for no word at all. Only a `#` can be reached twice: by
/// staying there and from before it.
fn reach<'t>(reached: &mut Vec<At<'t>>, node: &'t Node, takes_more: bool) {
    let mut next = Some(At { node, takes_more });
    while let Some(at) = next {
        if at.takes_more && reached.iter().any(|other| std::ptr::eq(other.node, at.node)) {
            return;
        }
        reached.push(at);
        next = at.node.hash.as_deref().map(|node| At { node, takes_more: true });
    }
}

/// The bindings of one exchange.
#[derive(Debug, Default)]
pub struct TopicTrie {
    root: Node,
}

impl TopicTrie {
    pub fn add(&mut self, binding: Arc<Binding>) {
        let key = binding.routing_key.clone();
        self.root.add(words(&key), binding);
    }

    pub fn remove(&mut self, binding: &Arc<Binding>) {
        let words: Vec<&str> = words(&binding.routing_key).collect();
        self.root.remove(&words, binding);
    }

    /// Calls `found` with each binding whose pattern the routing key matches.
    pub fn matches(&self, routing_key: &str, found: &mut impl FnMut(&Arc<Binding>)) {
        let (mut reached, mut next) = (Vec::with_capacity(8), Vec::with_capacity(8));
        reach(&mut reached, &self.root, false);
        for word in words(routing_key) {
            for at in reached.drain(..) {
                if at.takes_more {
                    reach(&mut next, at.node, true);
                }
                if let Some(child) = at.node.words.get(word) {
                    reach(&mut next, child, false);
                }
                if let Some(child) = &at.node.star {
                    reach(&mut next, child, false);
                }
            }
            std::mem::swap(&mut reached, &mut next);
            if reached.is_empty() {
                return;
            }
        }
        reached.iter().flat_map(|at| &at.node.bindings).for_each(found);
    }
}

#[cfg(test)]
mod tests {
    use super::super::binding;
    use super::*;
    use proptest::prelude::*;

    /// What the words mean, literally.
    fn naive(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), None) => naive(rest, key),
            (Some((&"#", rest)), Some((_, others))) => naive(rest, key) || naive(pattern, others),
            (Some((&"*", rest)), Some((_, others))) => naive(rest, others),
            (Some((word, rest)), Some((other, others))) => word == other && naive(rest, others),
            _ => false,
        }
    }

    fn matched(trie: &TopicTrie, key: &str) -> Vec<String> {
        let mut found = Vec::new();
        trie.matches(key, &mut |binding| found.push(binding.destination.to_string()));
        found.sort();
        found
    }

    #[test]
    fn the_specifications_examples() {
        let mut trie = TopicTrie::default();
        for pattern in ["*.stock.#", "#", "usd.*", "", "*", "a..b"] {
            trie.add(binding(pattern, pattern, Default::default()));
        }
        assert_eq!(matched(&trie, "usd.stock"), ["#", "*.stock.#", "usd.*"]);
        assert_eq!(matched(&trie, "eur.stock.db"), ["#", "*.stock.#"]);
        assert_eq!(matched(&trie, "stock.nasdaq"), ["#"]);
        assert_eq!(matched(&trie, ""), ["", "#"]);
        assert_eq!(matched(&trie, "x"), ["#", "*"]);
        assert_eq!(matched(&trie, "a..b"), ["#", "a..b"]);
    }

    #[test]
    fn many_hashes_cost_little() {
        let mut trie = TopicTrie::default();
        trie.add(binding("q", &"#.a.".repeat(60), Default::default()));
        trie.add(binding("all", &["#"; 120].join("."), Default::default()));
        assert_eq!(matched(&trie, &["a"; 120].join(".")), ["all"]);
    }

    proptest! {
        #[test]
        fn it_matches_what_the_patterns_say(
            patterns in prop::collection::vec(prop::collection::vec("[ab*#]|", 0..5), 1..12),
            keys in prop::collection::vec(prop::collection::vec("[abc]|", 0..6), 1..12),
            removed in any::<prop::sample::Index>(),
        ) {
            let mut trie = TopicTrie::default();
            let mut bindings: Vec<_> = patterns
                .iter()
                .enumerate()
                .map(|(at, pattern)| binding(&at.to_string(), &pattern.join("."), Default::default()))
                .collect();
            bindings.iter().for_each(|binding| trie.add(binding.clone()));
            for _ in 0..2 {
                for key in &keys {
                    let key = key.join(".");
                    let key_words: Vec<&str> = words(&key).collect();
                    let mut expected: Vec<String> = bindings
                        .iter()
                        .filter(|binding| naive(&words(&binding.routing_key).collect::<Vec<_>>(), &key_words))
                        .map(|binding| binding.destination.to_string())
                        .collect();
                    expected.sort();
                    prop_assert_eq!(matched(&trie, &key), expected);
                }
                let gone = bindings.remove(removed.index(bindings.len()));
                trie.remove(&gone);
                if bindings.is_empty() {
                    prop_assert!(trie.root.is_empty());
                    break;
                }
            }
        }
    }
}
