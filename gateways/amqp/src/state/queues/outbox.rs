//! What a connection is to send that none of its requests asked for: deliveries, mostly.

use std::sync::Arc;

/// What a connection is to send that none of its requests asked for.
#[derive(Debug, Default)]
pub struct Outbox {}

impl Outbox {
    pub fn new() -> Arc<Outbox> {
        Arc::new(Outbox::default())
    }
}
