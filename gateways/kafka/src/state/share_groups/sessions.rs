//! Share sessions: which partitions a member fetches over a connection, so that a request names only what changes.
//!
//! A session begins with epoch 0 and each request has the next; epoch -1 ends it. It also ends with its connection. Then
//! the caller gives back what the member has acquired.

use std::collections::HashMap;
use std::net::SocketAddr;

use core_rpc::PartitionId;
use parking_lot::Mutex;

/// Sessions at one gateway: Kafka's `group.share.max.share.sessions`.
const SESSIONS_MAX: usize = 2000;

pub const INITIAL_EPOCH: i32 = 0;
pub const FINAL_EPOCH: i32 = -1;

#[derive(Default)]
pub struct ShareSessions {
    sessions: Mutex<HashMap<SessionKey, Session>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    pub group: String,
    pub member: String,
}

struct Session {
    epoch: i32,
    partitions: Vec<PartitionId>,
    connection: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareSessionError {
    NotFound,
    InvalidEpoch,
    LimitReached,
}

impl ShareSessions {
    /// Begins or goes on with a session; returns what is to be fetched. `forgotten` is no longer fetched.
    pub fn fetch(
        &self,
        key: &SessionKey,
        epoch: i32,
        connection: SocketAddr,
        added: &[PartitionId],
        forgotten: &[PartitionId],
    ) -> Result<Vec<PartitionId>, ShareSessionError> {
        let mut sessions = self.sessions.lock();
        if epoch == INITIAL_EPOCH {
            if !sessions.contains_key(key) && sessions.len() >= SESSIONS_MAX {
                return Err(ShareSessionError::LimitReached);
            }
            let session = Session { epoch: INITIAL_EPOCH, partitions: Vec::new(), connection };
            sessions.insert(key.clone(), session);
        }
        let session = sessions.get_mut(key).ok_or(ShareSessionError::NotFound)?;
        session.advance(epoch)?;
        for partition in added {
            if !session.partitions.contains(partition) {
                session.partitions.push(*partition);
            }
        }
        session.partitions.retain(|partition| !forgotten.contains(partition));
        Ok(session.partitions.clone())
    }

    /// Goes on with a session without fetching.
    pub fn acknowledge(&self, key: &SessionKey, epoch: i32) -> Result<(), ShareSessionError> {
        if epoch == INITIAL_EPOCH {
            return Err(ShareSessionError::InvalidEpoch);
        }
        self.sessions.lock().get_mut(key).ok_or(ShareSessionError::NotFound)?.advance(epoch)
    }

    /// Ends a session.
    pub fn end(&self, key: &SessionKey) -> Result<(), ShareSessionError> {
        self.sessions.lock().remove(key).map(|_| ()).ok_or(ShareSessionError::NotFound)
    }

    /// Ends the sessions of a connection; returns whose they were.
    pub fn disconnected(&self, connection: SocketAddr) -> Vec<SessionKey> {
        let mut sessions = self.sessions.lock();
        sessions.extract_if(|_, session| session.connection == connection).map(|(key, _)| key).collect()
    }
}

impl Session {
    fn advance(&mut self, epoch: i32) -> Result<(), ShareSessionError> {
        if epoch != self.epoch {
            return Err(ShareSessionError::InvalidEpoch);
        }
        self.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        Ok(())
    }
}
