//! Vhosts, exchanges, queues, bindings and policies: records in meta, an image in memory.

use core_rpc::Core;

/// Vhosts, exchanges, queues, bindings and policies: records in meta, an image in memory.
pub struct Topology<C> {
    core: C,
}

impl<C: Core> Topology<C> {
    pub async fn start(core: C) -> anyhow::Result<Topology<C>> {
        Ok(Topology { core })
    }

    pub fn core(&self) -> &C {
        &self.core
    }
}
