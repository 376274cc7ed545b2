//! What one user may do in one vhost: its patterns, and what they granted so far.

use std::collections::{HashMap, HashSet};

use fancy_regex::Regex;
use parking_lot::Mutex;
use serde_json::Value;

use crate::state::topology::Resource;

/// What a user may do with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Make and delete it.
    Configure,
    /// Put messages into it.
    Write,
    /// Take messages out of it.
    Read,
}

impl Permission {
    pub fn name(self) -> &'static str {
        match self {
            Permission::Configure => "configure",
            Permission::Write => "write",
            Permission::Read => "read",
        }
    }
}

/// So many names are remembered of each kind; one more, and they are forgotten.
const REMEMBERED_MAX: usize = 10_000;

/// One user's rights in one vhost.
#[derive(Debug)]
pub struct Grants {
    pub generation: u64,
    /// None: the user has no permissions there at all.
    patterns: Option<[Pattern; 3]>,
    /// By exchange: what may be written and read.
    topics: HashMap<String, [Pattern; 2]>,
    /// What was granted, by permission and kind of resource.
    granted: Mutex<[HashSet<Box<str>>; 6]>,
}

/// A pattern of a permission. An empty one matches the empty name only; one that cannot be read, nothing.
#[derive(Debug)]
struct Pattern(Option<Regex>);

impl Pattern {
    fn new(pattern: &str) -> Pattern {
        let pattern = if pattern.is_empty() { "^$" } else { pattern };
        let regex = Regex::new(pattern);
        if let Err(error) = &regex {
            tracing::warn!(pattern, %error, "a permission's pattern cannot be read; it matches nothing");
        }
        Pattern(regex.ok())
    }

    fn matches(&self, name: &str) -> bool {
        self.0.as_ref().is_some_and(|regex| regex.is_match(name).unwrap_or(false))
    }
}

impl Grants {
    /// Of the stored permissions, and of those for topics: (exchange, permission).
    pub fn new<'v>(
        generation: u64,
        user: &str,
        vhost: &str,
        permissions: Option<&Value>,
        topics: impl Iterator<Item = (&'v str, &'v Value)>,
    ) -> Grants {
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let plain = |value: &Value| ["configure", "write", "read"].map(|name| Pattern::new(&text(value, name)));
        let expanded = |value: &Value, name: &str| {
            Pattern::new(&text(value, name).replace("{username}", user).replace("{vhost}", vhost))
        };
        let topic = |(exchange, value): (&str, &Value)| {
            (exchange.to_owned(), ["write", "read"].map(|name| expanded(value, name)))
        };
        Grants {
            generation,
            patterns: permissions.map(plain),
            topics: topics.map(topic).collect(),
            granted: Mutex::default(),
        }
    }

    /// Whether the user may do this with a resource of the vhost.
    pub fn allow(&self, permission: Permission, resource: Resource<'_>) -> bool {
        let Some(patterns) = &self.patterns else { return false };
        let (kind, name) = match resource {
            Resource::Queue(_, name) => (0, name),
            Resource::Exchange(_, name) => (1, name),
        };
        let at = permission as usize * 2 + kind;
        let mut granted = self.granted.lock();
        if granted[at].contains(name) {
            return true;
        }
        let allowed = patterns[permission as usize].matches(name);
        if allowed {
            if granted[at].len() >= REMEMBERED_MAX {
                granted[at].clear();
            }
            granted[at].insert(name.into());
        }
        allowed
    }

    /// Whether messages with this routing key may be written or read. Where nothing is said of an exchange, they may.
    pub fn allow_topic(&self, permission: Permission, exchange: &str, routing_key: &str) -> bool {
        let Some([write, read]) = self.topics.get(exchange) else { return true };
        match permission {
            Permission::Write => write.matches(routing_key),
            Permission::Read => read.matches(routing_key),
            Permission::Configure => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn grants(permissions: Value) -> Grants {
        Grants::new(1, "me", "/", Some(&permissions), std::iter::empty())
    }

    #[test]
    fn patterns_are_looked_for_anywhere_in_the_name() {
        let grants = grants(json!({"configure": "^mine-", "write": "orders", "read": ""}));
        let queue = |name| Resource::Queue("/", name);
        for _ in 0..2 {
            assert!(grants.allow(Permission::Configure, queue("mine-1")));
            assert!(!grants.allow(Permission::Configure, queue("not-mine-1")));
            assert!(grants.allow(Permission::Write, Resource::Exchange("/", "all-orders-here")));
            assert!(!grants.allow(Permission::Read, queue("mine-1")));
            assert!(grants.allow(Permission::Read, queue("")));
        }
    }

    #[test]
    fn who_has_no_permissions_may_do_nothing() {
        let grants = Grants::new(1, "me", "/", None, std::iter::empty());
        assert!(!grants.allow(Permission::Read, Resource::Queue("/", "q")));
    }

    #[test]
    fn topics_where_something_is_said_of_them() {
        let topic = json!({"write": r"^{username}\.", "read": ".*"});
        let grants = Grants::new(1, "me", "/", None, [("x", &topic)].into_iter());
        assert!(grants.allow_topic(Permission::Write, "x", "me.a"));
        assert!(!grants.allow_topic(Permission::Write, "x", "you.a"));
        assert!(grants.allow_topic(Permission::Write, "other", "you.a"));
    }
}
