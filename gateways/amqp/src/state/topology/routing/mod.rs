//! Where an exchange sends a message: bindings, ordered for lookup as the exchange's type looks them up. Pure.

mod consistent_hash;
mod headers;
mod local_random;
mod topic_trie;

use std::collections::HashMap;
use std::sync::Arc;

use super::arguments::Arguments;
use super::records::{DestinationKind, ExchangeKind, Identity};
use consistent_hash::Ring;
pub use consistent_hash::WEIGHT_MAX;
use headers::HeaderMatch;
pub use headers::{X_MATCH, X_MATCHES};
use local_random::Draw;
use topic_trie::TopicTrie;

/// One binding of an exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    pub source: Arc<str>,
    pub source_id: u64,
    pub kind: DestinationKind,
    pub destination: Arc<str>,
    pub destination_id: Identity,
    pub routing_key: String,
    pub arguments: Arguments,
    pub properties_key: String,
    /// Rises from binding to binding in the order in which they were made.
    pub version: u64,
}

/// What a routing decision may ask of a message, beside its routing keys.
pub trait Message {
    /// Its headers.
    fn headers(&self) -> Arguments;

    /// `correlation_id`, `message_id` or `timestamp`, as text.
    fn property(&self, name: &str) -> Option<String>;
}

/// A message of which only the routing key is known.
pub struct KeyOnly;

impl Message for KeyOnly {
    fn headers(&self) -> Arguments {
        Arguments::default()
    }

    fn property(&self, _: &str) -> Option<String> {
        None
    }
}

/// What an `x-consistent-hash` exchange hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HashOn {
    #[default]
    RoutingKey,
    Header(String),
    Property(String),
}

/// The bindings of one exchange.
#[derive(Debug)]
pub enum Router {
    Direct(HashMap<String, Vec<Arc<Binding>>>),
    Fanout(Vec<Arc<Binding>>),
    Topic(TopicTrie),
    Headers(Vec<(HeaderMatch, Arc<Binding>)>),
    ConsistentHash(HashOn, Ring),
    LocalRandom(Draw),
}

impl Router {
    /// `kind` is the inner one of a delayed exchange.
    pub fn new(kind: ExchangeKind, hash_on: HashOn) -> Router {
        match kind {
            ExchangeKind::Fanout => Router::Fanout(Vec::new()),
            ExchangeKind::Topic => Router::Topic(TopicTrie::default()),
            ExchangeKind::Headers => Router::Headers(Vec::new()),
            ExchangeKind::ConsistentHash => Router::ConsistentHash(hash_on, Ring::default()),
            ExchangeKind::LocalRandom => Router::LocalRandom(Draw::default()),
            ExchangeKind::Direct | ExchangeKind::Delayed => Router::Direct(HashMap::new()),
        }
    }

    pub fn add(&mut self, binding: Arc<Binding>) {
        match self {
            Router::Direct(keys) => keys.entry(binding.routing_key.clone()).or_default().push(binding),
            Router::Fanout(bindings) => bindings.push(binding),
            Router::Topic(trie) => trie.add(binding),
            Router::Headers(bindings) => bindings.push((HeaderMatch::of(&binding.arguments), binding)),
            Router::ConsistentHash(_, ring) => ring.add(binding),
            Router::LocalRandom(draw) => draw.add(binding),
        }
    }

    pub fn remove(&mut self, binding: &Arc<Binding>) {
        match self {
            Router::Direct(keys) => {
                if let Some(bindings) = keys.get_mut(&binding.routing_key) {
                    bindings.retain(|other| !Arc::ptr_eq(other, binding));
                    if bindings.is_empty() {
                        keys.remove(&binding.routing_key);
                    }
                }
            }
            Router::Fanout(bindings) => bindings.retain(|other| !Arc::ptr_eq(other, binding)),
            Router::Topic(trie) => trie.remove(binding),
            Router::Headers(bindings) => bindings.retain(|(_, other)| !Arc::ptr_eq(other, binding)),
            Router::ConsistentHash(_, ring) => ring.remove(binding),
            Router::LocalRandom(draw) => draw.remove(binding),
        }
    }

    /// Whether the answer depends on the routing key alone, so that it may be remembered under it.
    pub fn is_by_key(&self) -> bool {
        !matches!(
            self,
            Router::Headers(_)
                | Router::LocalRandom(_)
                | Router::ConsistentHash(HashOn::Header(_), _)
                | Router::ConsistentHash(HashOn::Property(_), _)
        )
    }

    /// Calls `found` with each binding that a message with these routing keys follows; one more than once, perhaps.
    pub fn route(&self, keys: &[&str], message: &dyn Message, mut found: impl FnMut(&Arc<Binding>)) {
        match self {
            Router::Direct(bindings) => {
                keys.iter().filter_map(|key| bindings.get(*key)).flatten().for_each(found);
            }
            Router::Fanout(bindings) => bindings.iter().for_each(found),
            Router::Topic(trie) => keys.iter().for_each(|key| trie.matches(key, &mut found)),
            Router::Headers(bindings) if bindings.is_empty() => {}
            Router::Headers(bindings) => {
                let headers = message.headers();
                bindings.iter().filter(|(wanted, _)| wanted.matches(&headers)).for_each(|(_, binding)| found(binding));
            }
            Router::ConsistentHash(hash_on, ring) => {
                let hashed = match hash_on {
                    HashOn::RoutingKey => keys.first().map(|key| (*key).to_owned()),
                    HashOn::Header(name) => message.headers().get(name).map(|value| value.to_text()),
                    HashOn::Property(name) => message.property(name),
                };
                ring.choose(hashed.unwrap_or_default().as_bytes()).into_iter().for_each(found);
            }
            Router::LocalRandom(draw) => draw.draw().into_iter().for_each(found),
        }
    }
}

#[cfg(test)]
pub(crate) fn binding(destination: &str, routing_key: &str, arguments: Arguments) -> Arc<Binding> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static VERSION: AtomicU64 = AtomicU64::new(1);
    Arc::new(Binding {
        source: "x".into(),
        source_id: 1,
        kind: DestinationKind::Queue,
        destination: destination.into(),
        destination_id: Identity(1),
        routing_key: routing_key.into(),
        properties_key: super::records::properties_key(routing_key, &arguments),
        arguments,
        version: VERSION.fetch_add(1, Ordering::Relaxed),
    })
}

#[cfg(test)]
mod tests {
    use super::super::arguments::Argument;
    use super::*;

    fn routed(router: &Router, keys: &[&str], message: &dyn Message) -> Vec<String> {
        let mut found = Vec::new();
        router.route(keys, message, |binding| found.push(binding.destination.to_string()));
        found.sort();
        found.dedup();
        found
    }

    #[test]
    fn direct_follows_the_equal_key() {
        let mut router = Router::new(ExchangeKind::Direct, HashOn::default());
        let (a, b) = (binding("a", "k", Arguments::default()), binding("b", "k", Arguments::default()));
        router.add(a.clone());
        router.add(b);
        router.add(binding("c", "other", Arguments::default()));
        assert_eq!(routed(&router, &["k"], &KeyOnly), ["a", "b"]);
        assert_eq!(routed(&router, &["k", "other"], &KeyOnly), ["a", "b", "c"]);
        router.remove(&a);
        assert_eq!(routed(&router, &["k"], &KeyOnly), ["b"]);
        assert!(routed(&router, &["K"], &KeyOnly).is_empty());
    }

    #[test]
    fn fanout_follows_all() {
        let mut router = Router::new(ExchangeKind::Fanout, HashOn::default());
        router.add(binding("a", "k", Arguments::default()));
        router.add(binding("b", "", Arguments::default()));
        assert_eq!(routed(&router, &["anything"], &KeyOnly), ["a", "b"]);
    }

    #[test]
    fn a_hash_goes_to_one_and_always_the_same() {
        struct With(&'static str);
        impl Message for With {
            fn headers(&self) -> Arguments {
                [("h".to_owned(), Argument::Text(self.0.into()))].into_iter().collect()
            }
            fn property(&self, _: &str) -> Option<String> {
                None
            }
        }
        let mut router = Router::new(ExchangeKind::ConsistentHash, HashOn::Header("h".into()));
        assert!(!router.is_by_key());
        router.add(binding("a", "1", Arguments::default()));
        router.add(binding("b", "1", Arguments::default()));
        let first = routed(&router, &["x"], &With("v"));
        assert_eq!(first.len(), 1);
        assert_eq!(routed(&router, &["y"], &With("v")), first);
    }
}
