//! The queues that have consumers here: a dispatcher each, and the outboxes of the connections.

mod outbox;

use core_rpc::Core;

pub use outbox::Outbox;

/// The queues that have consumers here.
pub struct Queues<C> {
    core: C,
}

impl<C: Core> Queues<C> {
    pub fn new(core: C) -> Queues<C> {
        Queues { core }
    }

    /// How many consumers a queue has at this gateway: nobody can consume yet.
    pub fn consumers(&self, _: core_rpc::TopicId) -> usize {
        0
    }

    pub fn core(&self) -> &C {
        &self.core
    }
}
