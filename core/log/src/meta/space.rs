//! The space in memory: entries, sessions, and the recent events that watches read.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use core_rpc::{MetaChanges, MetaEntry, MetaEvent, MetaList, SessionId, TOPIC_PREFIX, Topic};

use super::transaction::Changes;

/// Events that are remembered; who is further behind lists again.
const EVENTS_MAX: usize = 16 * 1024;
/// Bytes of the keys and values of remembered events.
const EVENT_BYTES_MAX: usize = 16 << 20;

pub struct Space {
    entries: BTreeMap<String, MetaEntry>,
    sessions: BTreeMap<SessionId, Duration>,
    keys_of_sessions: HashMap<SessionId, BTreeSet<String>>,
    revision: u64,
    session_last: u64,
    /// In order of revision.
    events: VecDeque<MetaEvent>,
    event_bytes: usize,
    /// The events up to this revision are no longer remembered.
    forgotten: u64,
}

impl Space {
    pub fn new(
        entries: Vec<MetaEntry>,
        sessions: Vec<(SessionId, Duration)>,
        revision: u64,
        session_last: u64,
    ) -> Space {
        let mut space = Space {
            entries: BTreeMap::new(),
            sessions: sessions.into_iter().collect(),
            keys_of_sessions: HashMap::new(),
            revision,
            session_last,
            events: VecDeque::new(),
            event_bytes: 0,
            forgotten: revision,
        };
        for entry in entries {
            space.insert(entry);
        }
        space
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn session_last(&self) -> u64 {
        self.session_last
    }

    pub fn get(&self, key: &str) -> Option<&MetaEntry> {
        self.entries.get(key)
    }

    pub fn list(&self, prefix: &str) -> MetaList {
        MetaList { entries: self.under(prefix).cloned().collect(), revision: self.revision }
    }

    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, Duration)> {
        self.sessions.iter().map(|(session, time_to_live)| (*session, *time_to_live))
    }

    pub fn has_session(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    pub fn keys_of_session(&self, session: SessionId) -> impl Iterator<Item = &String> {
        self.keys_of_sessions.get(&session).into_iter().flatten()
    }

    pub fn topics(&self) -> Vec<Topic> {
        self.under(TOPIC_PREFIX).filter_map(Topic::from_entry).collect()
    }

    /// What changed under `prefix` after a revision; None if nothing did.
    pub fn changes(&self, prefix: &str, after_revision: u64) -> Option<MetaChanges> {
        // A revision yet to come was another space's.
        if after_revision < self.forgotten || after_revision > self.revision {
            return Some(MetaChanges::Relist);
        }
        let first = self.events.partition_point(|event| revision_of(event) <= after_revision);
        let events: Vec<_> =
            self.events.range(first..).filter(|event| key_of(event).starts_with(prefix)).cloned().collect();
        (!events.is_empty()).then_some(MetaChanges::Events { events, revision: self.revision })
    }

    /// Takes over what is durable.
    pub fn apply(&mut self, changes: Changes) {
        for (key, entry) in changes.entries {
            self.remove(&key);
            if let Some(entry) = entry {
                self.insert(entry);
            }
        }
        for (session, time_to_live) in changes.sessions {
            match time_to_live {
                Some(time_to_live) => self.sessions.insert(session, time_to_live),
                None => self.sessions.remove(&session),
            };
        }
        self.revision = changes.revision;
        self.session_last = changes.session_last;
        for event in changes.events {
            self.event_bytes += event_bytes(&event);
            self.events.push_back(event);
        }
        while self.events.len() > EVENTS_MAX || self.event_bytes > EVENT_BYTES_MAX {
            let Some(event) = self.events.pop_front() else { break };
            self.event_bytes -= event_bytes(&event);
            self.forgotten = revision_of(&event);
        }
    }

    fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a MetaEntry> {
        let from: (Bound<&str>, Bound<&str>) = (Bound::Included(prefix), Bound::Unbounded);
        self.entries
            .range::<str, _>(from)
            .map(|(_, entry)| entry)
            .take_while(move |entry| entry.key.starts_with(prefix))
    }

    fn insert(&mut self, entry: MetaEntry) {
        if let Some(session) = entry.session {
            self.keys_of_sessions.entry(session).or_default().insert(entry.key.clone());
        }
        self.entries.insert(entry.key.clone(), entry);
    }

    fn remove(&mut self, key: &str) {
        let Some(entry) = self.entries.remove(key) else { return };
        let Some(session) = entry.session else { return };
        if let Some(keys) = self.keys_of_sessions.get_mut(&session) {
            keys.remove(key);
            if keys.is_empty() {
                self.keys_of_sessions.remove(&session);
            }
        }
    }
}

fn revision_of(event: &MetaEvent) -> u64 {
    match event {
        MetaEvent::Put(entry) => entry.version,
        MetaEvent::Deleted { revision, .. } => *revision,
    }
}

fn key_of(event: &MetaEvent) -> &str {
    match event {
        MetaEvent::Put(entry) => &entry.key,
        MetaEvent::Deleted { key, .. } => key,
    }
}

fn event_bytes(event: &MetaEvent) -> usize {
    match event {
        MetaEvent::Put(entry) => entry.key.len() + entry.value.len(),
        MetaEvent::Deleted { key, .. } => key.len(),
    }
}
