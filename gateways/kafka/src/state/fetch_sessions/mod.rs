//! Fetch sessions (KIP-227): what a consumer fetches is remembered, so that it need only say what changes, and need only
//! be told of partitions where something happened.
//!
//! ```text
//! request   session id, epoch     what becomes of it
//! full          any,  -1          the session is closed; answered without one
//!               any,   0          the session is closed; answered in full, with the id of a new one if there is room
//! incremental   id, 1 2 3 …       what is named is added or changed, what is forgotten is removed; answered with what
//!                                 has records, an error, or other bounds than the client was told last
//! ```
//!
//! The epoch counts the requests, so that one that was lost or sent twice is noticed (INVALID_FETCH_SESSION_EPOCH). A
//! session is a help that may be taken away at any time: a client whose session is gone (FETCH_SESSION_ID_NOT_FOUND)
//! begins anew. So nothing of it outlives the gateway, and the memory is bounded: see [`Cache`].

mod cache;
mod session;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use codec_kafka::Uuid;
use gateway_runtime::identity::random_16_bytes;
use parking_lot::Mutex;

pub use cache::{Cache, Limits};
use session::Session;
pub use session::{Forgotten, Told};

/// The epoch of a request that begins a session, and of one that wants none.
pub const INITIAL_EPOCH: i32 = 0;
pub const FINAL_EPOCH: i32 = -1;

/// The session id of an answer without one.
pub const NO_SESSION: i32 = 0;

/// How a request names a topic: by its id from version 13 on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicKey {
    Name(Arc<str>),
    Id(Uuid),
}

/// What a client wants of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub topic: TopicKey,
    pub partition: i32,
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    pub last_fetched_epoch: i32,
    pub bytes_max: i32,
}

/// A request's part that concerns sessions.
#[derive(Clone, Debug)]
pub struct Asked {
    pub session_id: i32,
    pub epoch: i32,
    pub uses_ids: bool,
    pub wanted: Vec<Wanted>,
    pub forgotten: Vec<Forgotten>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error("there is no such session")]
    NotFound,
    #[error("the epoch is not the session's next")]
    InvalidEpoch,
    #[error("the session was begun with topics named otherwise")]
    TopicNaming,
}

/// A fetch on its way.
#[derive(Debug)]
pub struct Fetching {
    /// The partitions to read, in the order in which they are to fill the answer.
    pub wanted: Vec<Wanted>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Sessionless,
    Full {
        uses_ids: bool,
    },
    /// The epoch is that of the next request, the turns are those of the wanted partitions in the session.
    Incremental {
        session: Arc<Mutex<Session>>,
        next_epoch: i32,
        turns: Vec<u64>,
    },
}

/// What of the answers is sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Finished {
    pub session_id: i32,
    /// For each wanted partition; None: all.
    pub sent: Option<Vec<bool>>,
}

/// All sessions of this gateway.
#[derive(Debug)]
pub struct FetchSessions {
    cache: Mutex<Cache>,
}

impl FetchSessions {
    pub fn new(limits: Limits) -> Self {
        FetchSessions { cache: Mutex::new(Cache::new(limits)) }
    }

    /// Sessions there are.
    pub fn count(&self) -> usize {
        self.cache.lock().count()
    }

    /// Finds out what a request wants fetched.
    pub fn begin(&self, asked: Asked, now_ms: i64) -> Result<Fetching, SessionError> {
        let Asked { session_id, epoch, uses_ids, wanted, forgotten } = asked;
        if matches!(epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            if session_id != NO_SESSION {
                self.cache.lock().remove(session_id);
            }
            let kind = if epoch == INITIAL_EPOCH { Kind::Full { uses_ids } } else { Kind::Sessionless };
            return Ok(Fetching { wanted, kind });
        }
        let mut cache = self.cache.lock();
        let session = cache.get(session_id).ok_or(SessionError::NotFound)?;
        let mut locked = session.lock();
        if locked.epoch() != epoch {
            return Err(SessionError::InvalidEpoch);
        }
        if locked.uses_ids() != uses_ids {
            return Err(SessionError::TopicNaming);
        }
        locked.update(&wanted, &forgotten);
        if locked.partitions() == 0 {
            cache.remove(session_id);
            return Ok(Fetching { wanted, kind: Kind::Sessionless });
        }
        if !cache.touch(session_id, locked.partitions(), now_ms) {
            // It has grown too large. The client's next full fetch is answered without a session.
            return Err(SessionError::NotFound);
        }
        drop(cache);
        let next_epoch = locked.advance();
        let (wanted, turns) = locked.wanted();
        drop(locked);
        Ok(Fetching { wanted, kind: Kind::Incremental { session, next_epoch, turns } })
    }

    /// Finds out what is sent, once all has been read. `told` has an element for each of `fetching.wanted`.
    pub fn finish(&self, fetching: &Fetching, told: &[Told], now_ms: i64) -> Result<Finished, SessionError> {
        match &fetching.kind {
            Kind::Sessionless => Ok(Finished { session_id: NO_SESSION, sent: None }),
            Kind::Full { .. } if fetching.wanted.is_empty() => Ok(Finished { session_id: NO_SESSION, sent: None }),
            Kind::Full { uses_ids } => {
                let session = |id| Session::new(id, *uses_ids, &fetching.wanted, told);
                let session_id = self.cache.lock().create(told.len(), random_i32, session, now_ms);
                Ok(Finished { session_id: session_id.unwrap_or(NO_SESSION), sent: None })
            }
            Kind::Incremental { session, next_epoch, turns } => {
                let mut session = session.lock();
                // Another request went on in the session meanwhile.
                if session.epoch() != *next_epoch {
                    return Err(SessionError::InvalidEpoch);
                }
                let sent = turns.iter().zip(told).map(|(turn, told)| session.tell(*turn, told)).collect();
                Ok(Finished { session_id: session.id(), sent: Some(sent) })
            }
        }
    }
}

/// Session ids are random, so that nobody meets another's by chance.
fn random_i32() -> Option<i32> {
    let [a, b, c, d, ..] = random_16_bytes().ok()?;
    Some(i32::from_be_bytes([a, b, c, d]))
}
