//! The session under which this gateway held messages is another: whoever had some is told that they are others' now.

use std::sync::Arc;

use core_rpc::Core;

use super::outbox::Unasked;
use crate::Gateway;
use crate::errors::{Refusal, ReplyCode};

/// Follows the session until the gateway stops. Connections with consumers are closed by their queues
/// ([`super::Queues::look_at_session`]), here those that got messages without consuming or have cancelled since.
pub(crate) async fn follow_session<C: Core>(gateway: Arc<Gateway<C>>) {
    let mut changes = gateway.lease_session.changes();
    loop {
        let changed = tokio::select! {
            () = gateway.stop.cancelled() => return,
            changed = changes.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
        gateway.queues.look_at_session();
        for connection in gateway.registry.all().iter().filter(|connection| connection.has_unacknowledged()) {
            // One that is gone has nothing.
            let _ = connection.outbox.push(refused(0));
        }
    }
}

/// Ends a connection as RabbitMQ does when its node goes down.
pub(super) fn refused(channel: u16) -> Unasked {
    Unasked::Refused { channel, refusal: refusal() }
}

pub(super) fn refusal() -> Refusal {
    let text = "the session with the core was lost: what was unacknowledged is handed out again";
    Refusal::new(ReplyCode::ConnectionForced, text)
}
