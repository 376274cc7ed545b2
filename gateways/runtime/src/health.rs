//! Whether a gateway can do its work: its core answers.

use std::sync::Arc;
use std::time::Duration;

use core_process::admin::Health;
use core_rpc::Core;

/// How long the core may take.
const WAIT_MAX: Duration = Duration::from_secs(3);

/// Asks the core for anything.
pub fn of_core(core: impl Core) -> Health {
    Arc::new(move || {
        let core = core.clone();
        Box::pin(async move {
            match tokio::time::timeout(WAIT_MAX, core.meta_get("check".to_owned())).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(format!("the core: {error}")),
                Err(_) => Err("the core does not answer".to_owned()),
            }
        })
    })
}
