//! How a connection ends: what was published is kept, the session goes on without it or ends, and version 5 is told why.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use codec_mqtt::{Disconnect, Packet, Place, Properties, Property, Reason, Sender, Text, Version};

use super::wire::Wire;
use super::{Connection, End};
use crate::errors::Refusal;
use crate::state::sessions::Closing;

/// How long the core may take for what a connection has published that ends.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// How long a client may take to read why it goes, and to go.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// Ends a connection, whatever has ended it.
pub(super) async fn run(mut connection: Connection, end: End) {
    let client_id = &connection.session.client_id;
    let (sends_will, expiry_s) = match &end {
        End::Client { sends_will, expiry_s } => (*sends_will, *expiry_s),
        _ => (true, None),
    };
    match &end {
        End::Client { .. } => tracing::debug!(%client_id, "a client says goodbye"),
        End::Gone(error) => tracing::info!(%client_id, %error, "a client is gone"),
        End::Refused(refusal) => tracing::info!(%client_id, %refusal, "a connection is ended"),
    }
    connection.leave().await;
    let closing = Closing { expiry_s, send_will: sends_will };
    // A gateway that stops keeps wills for whoever comes next ([`Sessions::begin_stop`](crate::state::Sessions::begin_stop)).
    let shares = connection.gateway.sessions.close(&connection.session, connection.id, closing).await;
    connection.gateway.shares.detached(&connection.session, &shares);
    match end {
        End::Refused(refusal) => {
            connection.put_disconnect(refusal);
            linger(&mut connection.wire).await;
        }
        End::Client { .. } => linger(&mut connection.wire).await,
        End::Gone(_) => {}
    }
}

impl Connection {
    /// What was published is kept, though nobody waits for the answer any more: the session has to know what became of it.
    async fn leave(&mut self) {
        self.send_round();
        let answered = poll_fn(|context| {
            // Another refusal changes nothing.
            while let Ok(true) | Err(_) = self.poll_rounds(context) {}
            if self.inbound.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        });
        if tokio::time::timeout(LEAVE_MAX, answered).await.is_err() {
            tracing::warn!(client = %self.session.client_id, "a connection ends with publishes that are not answered");
            self.abandon_rounds();
        }
    }

    /// Version 5 is told; older ones have no such packet.
    fn put_disconnect(&mut self, refusal: Refusal) {
        if self.client.version < Version::Mqtt5 {
            return;
        }
        let reason = if refusal.reason.may_stand_in(Place::Disconnect, Sender::Server) {
            refusal.reason
        } else {
            Reason::Unspecified
        };
        let told = Text::new(refusal.what).filter(|_| self.client.wants_reasons).map(Property::ReasonString);
        let with = Disconnect { reason, properties: Properties::new(told).unwrap_or_default() };
        if !self.try_write(&Packet::Disconnect(with)) {
            // Without the string it may be small enough [MQTT-3.14.2-3].
            self.try_write(&Packet::Disconnect(Disconnect { reason, properties: Properties::default() }));
        }
    }
}

/// Sends what is left, and reads until the peer closes: what it has not read is lost if we close while it sends.
pub(super) async fn linger(wire: &mut Wire) {
    let farewell = async {
        wire.send().await?;
        wire.shut_down().await;
        while wire.discard().await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    // The last word was said, whatever becomes of it.
    let _ = tokio::time::timeout(LINGER_MAX, farewell).await;
}
