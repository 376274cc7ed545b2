//! Who gets messages of a name.

use std::sync::Arc;

use crate::state::sessions::{Session, SessionKey, Wish};
use crate::state::trie::Trie;

/// What the trie has for a filter of a session.
#[derive(Clone, Debug)]
pub struct Subscriber {
    pub session: Arc<Session>,
    pub wish: Wish,
}

/// A session, and how those of its subscriptions want it that match.
#[derive(Clone, Debug)]
pub struct Target {
    pub session: Arc<Session>,
    pub wishes: Vec<Wish>,
}

/// The sessions that have a filter that matches, each once.
pub fn find(trie: &Trie<SessionKey, Subscriber>, name: &str) -> Arc<[Target]> {
    let mut found: Vec<Target> = Vec::new();
    trie.matches(name, &mut |_, subscriber: &Subscriber| {
        found.push(Target { session: subscriber.session.clone(), wishes: vec![subscriber.wish] });
    });
    found.sort_by_key(|target| target.session.key);
    found.dedup_by(|next, before| {
        let is_same = next.session.key == before.session.key;
        if is_same {
            before.wishes.append(&mut next.wishes);
        }
        is_same
    });
    found.into()
}
