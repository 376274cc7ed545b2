//! When sessions end: their deadlines, in memory only. After a restart all get their whole time again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use core_rpc::SessionId;

/// A clock for times to live: it is never set and never goes back.
pub trait SessionClock: Send + Sync {
    /// Since some moment that stays the same.
    fn elapsed(&self) -> Duration;
}

/// The machine's steady clock.
pub struct SteadyClock(Instant);

impl Default for SteadyClock {
    fn default() -> Self {
        SteadyClock(Instant::now())
    }
}

impl SessionClock for SteadyClock {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The sessions that live, and until when.
#[derive(Default)]
pub struct Deadlines {
    sessions: HashMap<SessionId, Deadline>,
}

struct Deadline {
    time_to_live: Duration,
    at: Duration,
}

impl Deadlines {
    pub fn add(&mut self, session: SessionId, time_to_live: Duration, now: Duration) {
        self.sessions.insert(session, Deadline { time_to_live, at: now.saturating_add(time_to_live) });
    }

    pub fn remove(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    /// False if the session has ended, be it only by the clock.
    pub fn renew(&mut self, session: SessionId, now: Duration) -> bool {
        match self.sessions.get_mut(&session) {
            Some(deadline) if now < deadline.at => {
                deadline.at = now.saturating_add(deadline.time_to_live);
                true
            }
            _ => false,
        }
    }

    /// Takes out the sessions whose time is over.
    pub fn take_over(&mut self, now: Duration) -> Vec<SessionId> {
        let over = self.sessions.extract_if(|_, deadline| deadline.at <= now);
        let mut over: Vec<SessionId> = over.map(|(session, _)| session).collect();
        over.sort_unstable();
        over
    }

    pub fn next(&self) -> Option<Duration> {
        self.sessions.values().map(|deadline| deadline.at).min()
    }
}
