//! A session that this gateway looks after: the object, and what the store knows beside it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use codec_mqtt::{PacketId, Version};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::keys::{Key, Received};
use crate::state::Router;
use crate::state::sessions::record::{Delta, Head, Incarnation, Record, StoredWill, Unreadable};
use crate::state::sessions::session::{ConnectionId, Session, Snapshot};

/// Tells a connection that another has taken its place, or that somebody wants it gone. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Kicked(Arc<Notify>);

impl Kicked {
    pub(super) fn kick(&self) {
        self.0.notify_one();
    }

    /// Returns when the connection is to end. For one waiter.
    pub async fn kicked(&self) {
        self.0.notified().await;
    }
}

#[derive(Debug)]
pub(super) struct Kept {
    pub session: Arc<Session>,
    pub life: u64,
    pub state: Mutex<State>,
    /// Told when a connection has ended.
    pub detached: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    pub connection: Option<(ConnectionId, Kicked)>,
    pub expiry_s: u32,
    /// Ms since the Unix epoch; 0 while there is a connection.
    pub disconnected_ms: i64,
    pub version: Version,
    pub epoch: u32,
    pub will: Option<StoredWill>,
    /// It has ended, or is another gateway's: nothing is written of it.
    pub is_over: bool,
    /// The next record gives it up.
    pub is_released: bool,
    /// This gateway's claim lies in the log.
    pub is_claimed: bool,
    /// A record of it may lie in the log, and what has changed since.
    pub is_in_log: bool,
    pub has_delta: bool,
    /// What the last record took, and the deltas since, bytes.
    record_bytes: usize,
    deltas_bytes: usize,
    /// Rises with each change of the above that a record tells.
    pub changes: u64,
    /// What the last record told: the session's changes, and these.
    pub recorded: Option<(u64, u64)>,
    /// What was received and has a record that says so, or is about to.
    pub told: BTreeSet<PacketId>,
    /// Of those: nobody knows whether they were kept.
    pub doubted: BTreeSet<PacketId>,
    /// What it missed was still being read when it was recorded.
    pub was_catching_up: bool,
}

/// What is written of a session at once.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub entries: Vec<(String, Bytes)>,
    recorded: Option<(u64, u64)>,
    released: Vec<PacketId>,
    /// Of what was kept apart: what the log knows to be kept from now on.
    certain: Vec<PacketId>,
    ends_claim: bool,
    ends_delta: bool,
}

/// Smaller records are always written whole, bytes.
const RECORD_BYTES_MIN: usize = 4096;

/// Nothing expires later than this after its connection, ms: about 136 years are for ever.
const NEVER_S: u32 = u32::MAX;

impl State {
    pub fn new(version: Version, epoch: u32) -> State {
        State {
            connection: None,
            expiry_s: 0,
            disconnected_ms: 0,
            version,
            epoch,
            will: None,
            is_over: false,
            is_released: false,
            is_claimed: false,
            is_in_log: false,
            has_delta: false,
            record_bytes: 0,
            deltas_bytes: 0,
            changes: 1,
            recorded: None,
            told: BTreeSet::new(),
            doubted: BTreeSet::new(),
            was_catching_up: false,
        }
    }

    pub fn is_persistent(&self) -> bool {
        self.expiry_s > 0
    }

    /// When it ends, if nobody connects, ms since the Unix epoch.
    pub fn expires_ms(&self) -> Option<i64> {
        let ends = self.connection.is_none() && self.expiry_s != NEVER_S;
        ends.then(|| self.disconnected_ms.saturating_add(i64::from(self.expiry_s) * 1000))
    }

    /// When its will is published, if nobody connects: after its delay, or when the session ends (3.1.3.2.2).
    pub fn will_due_ms(&self) -> Option<i64> {
        let will = self.will.as_ref().filter(|_| self.connection.is_none())?;
        let delayed_ms = self.disconnected_ms.saturating_add(i64::from(will.delay_s) * 1000);
        Some(self.expires_ms().map_or(delayed_ms, |expires_ms| expires_ms.min(delayed_ms)))
    }

    pub fn is_will_due(&self, now_ms: i64) -> bool {
        self.will_due_ms().is_some_and(|due_ms| due_ms <= now_ms)
    }

    /// When to look at it again.
    pub fn due_ms(&self) -> Option<i64> {
        self.expires_ms().into_iter().chain(self.will_due_ms()).min()
    }

    /// Whether what has changed may be written instead of all of it. What is given up is written whole: whoever has it next has not
    /// kept what this gateway wrote.
    fn may_write_delta(&self) -> bool {
        let is_worth_it = self.record_bytes >= RECORD_BYTES_MIN && self.deltas_bytes < self.record_bytes;
        is_worth_it && self.is_persistent() && !self.is_released
    }

    /// Whether the log is to have a record of it. A session that ends with its connection has one for its will's sake, so that
    /// another gateway publishes it when this one dies.
    fn has_record(&self) -> bool {
        self.is_persistent() || self.will.is_some() || self.is_in_log
    }
}

impl Kept {
    pub fn new(session: Arc<Session>, life: u64, state: State) -> Arc<Kept> {
        Arc::new(Kept { session, life, state: Mutex::new(state), detached: Notify::new() })
    }

    /// Whether the log says less than there is to say.
    pub fn is_dirty(&self) -> bool {
        let state = self.state.lock();
        !state.is_over && state.has_record() && state.recorded != Some(self.now(&state))
            || state.was_catching_up && !self.session.is_holding()
            || !state.is_over && !self.session.attempts(|attempts| attempts.all_kept()).is_empty()
    }

    fn now(&self, state: &State) -> (u64, u64) {
        (if state.is_persistent() { self.session.changes() } else { 0 }, state.changes)
    }

    /// Only what was released of what was received.
    pub fn write_released(&self) -> Written {
        let state = self.state.lock();
        let mut written = Written::default();
        if !state.is_over {
            self.put_released(&state, &mut written);
        }
        written
    }

    /// What the log does not say yet. Written one at a time, so that the last is the newest.
    pub fn write(&self, own: Incarnation, router: &Router) -> Result<Written, Unreadable> {
        let mut written = self.write_released();
        if !self.is_dirty() {
            return Ok(written);
        }
        // Read first: what was routed before is in the snapshot.
        let filters = self.session.subscriptions();
        let is_catching_up = self.session.is_holding();
        let routed = router.positions(filters.iter().map(|(filter, _)| filter.as_str()));
        let mut state = self.state.lock();
        if state.is_over {
            written.entries.clear();
            return Ok(written);
        }
        written.certain = self.session.attempts(|attempts| attempts.all_kept());
        let client_id = &self.session.client_id;
        let kept = Received { life: self.life, attempt: None }.encode();
        let key = |packet_id: &PacketId| Key::Received(*packet_id, client_id).to_string();
        written.entries.extend(written.certain.iter().map(|packet_id| (key(packet_id), kept.clone())));
        let mut head = Head::new(own, self.life, state.version);
        head.keeper = head.keeper.filter(|_| !state.is_released);
        head.is_connected = state.connection.is_some();
        head.is_catching_up = is_catching_up;
        head.epoch = state.epoch;
        head.expiry_s = state.expiry_s;
        head.disconnected_ms = state.disconnected_ms;
        let changed = if state.may_write_delta() { self.session.changed(&routed) } else { None };
        let will = state.will.clone();
        let changes = match changed {
            Some(changed) => {
                let changes = changed.snapshot.changes;
                let delta = Delta { head, will, changed }.encode()?;
                state.deltas_bytes += delta.len();
                state.has_delta = true;
                written.entries.push((Key::Delta(client_id).to_string(), delta));
                changes
            }
            None => {
                let snapshot = match state.is_persistent() {
                    true => self.session.snapshot(&routed),
                    false => {
                        self.session.forget_snapshot();
                        Snapshot::default()
                    }
                };
                let changes = snapshot.changes;
                let record = Record { head, will, snapshot }.encode()?;
                (state.record_bytes, state.deltas_bytes) = (record.len(), 0);
                written.entries.push((Key::Session(client_id).to_string(), record));
                if state.has_delta {
                    written.ends_delta = true;
                    written.entries.push((Key::Delta(client_id).to_string(), Bytes::new()));
                }
                changes
            }
        };
        written.recorded = Some((changes, state.changes));
        state.is_in_log = true;
        state.was_catching_up = is_catching_up;
        if state.is_claimed && (state.is_persistent() || state.is_released) {
            written.ends_claim = true;
            written.entries.push((Key::Claim(own, client_id).to_string(), Bytes::new()));
        }
        Ok(written)
    }

    /// It is in the log.
    pub fn note(&self, written: &Written) {
        let mut state = self.state.lock();
        if written.recorded.is_some() {
            state.recorded = written.recorded;
        }
        for packet_id in &written.released {
            state.told.remove(packet_id);
        }
        if written.ends_claim {
            state.is_claimed = false;
        }
        // Unless another was written meanwhile.
        if written.ends_delta && state.deltas_bytes == 0 {
            state.has_delta = false;
        }
        if !written.certain.is_empty() {
            self.session.attempts(|attempts| attempts.end_all(&written.certain));
        }
    }

    /// It may not be in the log: what changes from now on is not told as a change of that.
    pub fn note_lost(&self) {
        self.session.forget_snapshot();
    }

    /// Tombstones of all that the log may have of it. Nothing is written of it from now on.
    pub fn write_end(&self, own: Incarnation, received: Vec<PacketId>) -> Vec<(String, Bytes)> {
        let mut state = self.state.lock();
        state.is_over = true;
        let client_id = &self.session.client_id;
        let received: BTreeSet<PacketId> = received.into_iter().chain(std::mem::take(&mut state.told)).collect();
        let mut keys: Vec<String> = received.iter().map(|id| Key::Received(*id, client_id).to_string()).collect();
        if state.is_in_log {
            keys.push(Key::Session(client_id).to_string());
        }
        if state.has_delta {
            keys.push(Key::Delta(client_id).to_string());
        }
        if state.is_claimed {
            keys.push(Key::Claim(own, client_id).to_string());
        }
        keys.into_iter().map(|key| (key, Bytes::new())).collect()
    }

    fn put_released(&self, state: &State, written: &mut Written) {
        if state.told.is_empty() {
            return;
        }
        let received = self.session.received_ids();
        written.released = state.told.iter().filter(|id| !received.contains(id)).copied().collect();
        let key = |id: &PacketId| Key::Received(*id, &self.session.client_id).to_string();
        written.entries.extend(written.released.iter().map(|id| (key(id), Bytes::new())));
    }
}
