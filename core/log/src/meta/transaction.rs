//! Decides changes: what is asked and the space in, what is to be made durable out. Pure.
//!
//! A transaction gathers the changes of many calls, one after another; each sees those before it. A method that
//! answers an error has changed nothing.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use core_rpc::*;

use super::space::Space;

/// What is to be made durable and then shown.
#[derive(Default)]
pub struct Changes {
    pub entries: HashMap<String, Option<MetaEntry>>,
    /// Time to live of new sessions; None: ended.
    pub sessions: HashMap<SessionId, Option<Duration>>,
    pub revision: u64,
    pub session_last: u64,
    pub events: Vec<MetaEvent>,
    /// In order.
    pub topics: Vec<TopicChange>,
}

pub enum TopicChange {
    Added(Topic),
    Updated(Topic),
    Removed(TopicId),
}

pub struct Transaction<'a> {
    space: &'a Space,
    pub changes: Changes,
}

impl<'a> Transaction<'a> {
    pub fn new(space: &'a Space) -> Self {
        let changes = Changes { revision: space.revision(), session_last: space.session_last(), ..Changes::default() };
        Transaction { space, changes }
    }

    pub fn get(&self, key: &str) -> Option<&MetaEntry> {
        match self.changes.entries.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.space.get(key),
        }
    }

    pub fn put(&mut self, put: MetaPut) -> Result<u64, MetaError> {
        check_key(&put.key)?;
        if put.value.len() > META_VALUE_BYTES_MAX {
            return Err(MetaError::TooLarge);
        }
        if let Some(session) = put.session
            && !self.has_session(session)
        {
            return Err(MetaError::UnknownSession);
        }
        self.check_condition(&put.key, put.condition)?;
        Ok(self.set(put.key, put.value, put.session))
    }

    pub fn delete(&mut self, key: String, condition: MetaCondition) -> Result<(), MetaError> {
        check_key(&key)?;
        self.check_condition(&key, condition)?;
        self.unset(key);
        Ok(())
    }

    pub fn session_open(&mut self, time_to_live: Duration) -> SessionId {
        self.changes.session_last += 1;
        let session = SessionId(self.changes.session_last);
        self.changes.sessions.insert(session, Some(time_to_live));
        session
    }

    /// Ends a session; its keys vanish, in their order.
    pub fn session_end(&mut self, session: SessionId) -> Result<(), MetaError> {
        if !self.has_session(session) {
            return Err(MetaError::UnknownSession);
        }
        let owned = |entry: &MetaEntry| entry.session == Some(session);
        let changed = self.changes.entries.values().flatten().filter(|entry| owned(entry)).map(|entry| &entry.key);
        let mut keys: Vec<String> = self.space.keys_of_session(session).chain(changed).cloned().collect();
        keys.retain(|key| self.get(key).is_some_and(owned));
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            self.unset(key);
        }
        self.changes.sessions.insert(session, None);
        Ok(())
    }

    /// The version that the next change makes.
    pub fn next_version(&self) -> u64 {
        self.changes.revision + 1
    }

    /// Puts without a condition; returns the version.
    pub fn set(&mut self, key: String, value: Bytes, session: Option<SessionId>) -> u64 {
        self.changes.revision += 1;
        let version = self.changes.revision;
        let entry = MetaEntry { key: key.clone(), value, version, session };
        self.changes.events.push(MetaEvent::Put(entry.clone()));
        self.changes.entries.insert(key, Some(entry));
        version
    }

    /// Deletes without a condition. What is not there is no change.
    pub fn unset(&mut self, key: String) {
        if self.get(&key).is_some() {
            self.changes.revision += 1;
            self.changes.events.push(MetaEvent::Deleted { key: key.clone(), revision: self.changes.revision });
            self.changes.entries.insert(key, None);
        }
    }

    /// Whether there is something to make durable.
    pub fn is_change(&self) -> bool {
        !self.changes.entries.is_empty() || !self.changes.sessions.is_empty()
    }

    fn has_session(&self, session: SessionId) -> bool {
        match self.changes.sessions.get(&session) {
            Some(changed) => changed.is_some(),
            None => self.space.has_session(session),
        }
    }

    fn check_condition(&self, key: &str, condition: MetaCondition) -> Result<(), MetaError> {
        let entry = self.get(key);
        let holds = match condition {
            MetaCondition::Always => true,
            MetaCondition::Absent => entry.is_none(),
            MetaCondition::Version(version) => entry.is_some_and(|entry| entry.version == version),
        };
        if holds { Ok(()) } else { Err(MetaError::Conflict(entry.cloned())) }
    }
}

fn check_key(key: &str) -> Result<(), MetaError> {
    if key.is_empty() || key.len() > META_KEY_BYTES_MAX || key.starts_with(TOPIC_PREFIX) {
        return Err(MetaError::InvalidKey);
    }
    Ok(())
}
