//! Meta: the core's small versioned key-value space, its sessions and its topics.
//!
//! The whole space is in memory ([`space`]); reads and watches never touch the disk. Changes go through one writer
//! thread ([`writer`]) that gathers what waits, decides it ([`transaction`]), commits it to the database ([`store`])
//! with one sync, and only then shows and answers it. Not here: anything that grows with messages.

mod backend;
mod sessions;
mod space;
mod store;
mod topics;
mod transaction;
mod verbs;
mod watchers;
mod writer;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use core_rpc::{SessionId, Topic, TopicId};

use crate::clock::Clock;
use crate::disk::Disk;
pub use sessions::{SessionClock, SteadyClock};
use space::Space;
use store::Store;
pub use topics::PARTITIONS_MAX;
use writer::{Shared, Writer};

/// Who owns the partitions of topics: the engine. Called on the writer's thread, after a change is durable and before
/// anybody sees it.
pub trait TopicOwner: Send + Sync + 'static {
    fn add_topic(&self, topic: &Topic);
    /// Its partitions have grown, or its settings or labels have changed.
    fn update_topic(&self, topic: &Topic);
    fn remove_topic(&self, id: TopicId);
    /// A session has ended: what was leased to it falls free.
    fn end_session(&self, session: SessionId);
}

/// What meta takes from outside.
pub struct MetaOptions {
    /// For the times at which topics are created.
    pub clock: Arc<dyn Clock>,
    /// For the sessions' time to live.
    pub session_clock: Arc<dyn SessionClock>,
    /// For topic ids.
    pub random: Box<dyn FnMut() -> u128 + Send>,
}

/// Meta as found on the disk, before it takes changes: the engine is opened in between, with its topics.
pub struct OpenedMeta {
    store: Store,
    space: Space,
    options: MetaOptions,
}

/// The running meta. Cheap to clone. It ends with [`Meta::stop`], or with its last clone.
#[derive(Clone)]
pub struct Meta {
    shared: Arc<Shared>,
    writer: Arc<Writer>,
}

impl OpenedMeta {
    /// Opens the database in the disk's root, making it if there is none.
    pub fn open(disk: Arc<dyn Disk>, options: MetaOptions) -> io::Result<OpenedMeta> {
        let (store, space) = Store::open(disk)?;
        Ok(OpenedMeta { store, space, options })
    }

    /// All topics.
    pub fn topics(&self) -> Vec<Topic> {
        self.space.topics()
    }

    /// Begins to take changes, and to end sessions; all of them get their whole time to live again.
    pub fn start(self, owner: Arc<dyn TopicOwner>) -> io::Result<Meta> {
        let (shared, writer) = Writer::start(self.store, self.space, self.options, owner)?;
        Ok(Meta { shared, writer: Arc::new(writer) })
    }
}

impl Meta {
    /// Finishes what has been asked and closes the database; further calls answer `Unavailable`.
    pub fn stop(&self) {
        self.writer.stop();
    }

    /// Looks at the session clock now. Time that passes by itself needs no call; a test's clock does.
    pub fn clock_changed(&self) {
        self.shared.wake();
    }

    /// All topics.
    pub fn topics(&self) -> Vec<Topic> {
        self.shared.space.read().topics()
    }

    /// The storage failed: no change is taken any more until it is opened again.
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(std::sync::atomic::Ordering::Acquire)
    }

    pub fn has_session(&self, session: SessionId) -> bool {
        self.shared.space.read().has_session(session)
    }

    /// Says at any time whether a session lives: from when others can see that it does not, it does not.
    pub fn lives(&self, session: SessionId) -> Box<dyn Fn() -> bool + Send> {
        let shared = self.shared.clone();
        Box::new(move || shared.space.read().has_session(session))
    }

    /// Whether something can be leased to a session: it lives, and was opened since the start, which forgot all leases.
    pub fn can_lease(&self, session: SessionId) -> bool {
        session.0 > self.shared.session_last_before && self.has_session(session)
    }
}
