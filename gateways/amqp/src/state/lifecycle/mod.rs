//! Expiry, dead-lettering, length limits, auto-delete, delayed messages.

use core_rpc::Core;

/// Expiry, dead-lettering, length limits, auto-delete, delayed messages.
pub struct Lifecycle<C> {
    core: C,
}

impl<C: Core> Lifecycle<C> {
    pub async fn start(core: C) -> anyhow::Result<Lifecycle<C>> {
        Ok(Lifecycle { core })
    }

    pub fn core(&self) -> &C {
        &self.core
    }
}
