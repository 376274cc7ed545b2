//! PUBACK (3.4): the client has a message of QoS 1. Whatever reason it gives, it does not want it again.

use codec_mqtt::{Acknowledgement, QoS};

use crate::session::{Connection, End};

pub(crate) fn handle(connection: &mut Connection, puback: &Acknowledgement) -> Result<(), End> {
    match connection.session.acknowledged(puback.packet_id, QoS::AtLeastOnce) {
        Ok(share) => connection.is_done(share),
        // Late, or twice: mosquitto lets that pass, too.
        Err(unknown) => tracing::debug!(client = %connection.session.client_id, %unknown, "a PUBACK for nothing"),
    }
    Ok(())
}
