//! Who is connected to this gateway: connections with their channels, and what they did (for the management API).
//!
//! Counters are added to once per read round, not once per message.

mod connection;
mod counters;
mod places;
mod totals;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use parking_lot::Mutex;

pub use connection::{Capabilities, ChannelInfo, Connection, ConnectionParts, Negotiated};
pub use counters::{ChannelCounters, Counter};
pub use places::{Load, OverLimit, Place};

/// All connections that have opened a vhost.
#[derive(Debug, Default)]
pub struct Registry {
    connections: DashMap<u64, Arc<Connection>>,
    next_id: AtomicU64,
    /// What the connections did that are closed.
    past: Mutex<totals::Totals>,
    /// Of connections that are about to open. Held while it is counted how many there are.
    reserved: Mutex<Vec<places::Reserved>>,
}

impl Registry {
    /// A number that no connection of this gateway ever had.
    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn add(&self, connection: Arc<Connection>) {
        self.connections.insert(connection.id, connection);
    }

    pub fn remove(&self, id: u64) {
        // Locked until it is gone: who sums up meanwhile would count it twice, or not at all.
        let past = self.past.lock();
        if let Some((_, connection)) = self.connections.remove(&id) {
            past.add(&connection);
        }
    }

    pub fn get(&self, id: u64) -> Option<Arc<Connection>> {
        self.connections.get(&id).map(|entry| entry.value().clone())
    }

    /// By its name, as the management API calls it.
    pub fn by_name(&self, name: &str) -> Option<Arc<Connection>> {
        self.connections.iter().find(|entry| entry.value().name == name).map(|entry| entry.value().clone())
    }

    /// All, by their ids.
    pub fn all(&self) -> Vec<Arc<Connection>> {
        let mut all: Vec<_> = self.connections.iter().map(|entry| entry.value().clone()).collect();
        all.sort_by_key(|connection| connection.id);
        all
    }

    pub fn len(&self) -> usize {
        self.connections.len()
    }

    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// How many channels a user has open, on all its connections.
    pub fn channels_of(&self, user: &str) -> usize {
        let own = self.connections.iter().filter(|entry| entry.value().user.name == user);
        own.map(|entry| entry.value().channel_count()).sum()
    }
}
