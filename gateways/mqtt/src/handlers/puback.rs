//! PUBACK (3.4): the client has a message of QoS 1. Whatever reason it gives, it does not want it again.

use codec_mqtt::{Acknowledgement, QoS};

use crate::errors::Refusal;
use crate::session::{Connection, End};
use crate::state::sessions::Unfit;

pub(crate) fn handle(connection: &mut Connection, puback: &Acknowledgement) -> Result<(), End> {
    match connection.session.acknowledged(puback.packet_id, QoS::AtLeastOnce) {
        Ok(share) => connection.is_done(share),
        // Mosquitto lets that pass, too.
        Err(Unfit::Unknown) => tracing::debug!(client = %connection.session.client_id, "a PUBACK for nothing"),
        Err(Unfit::Another) => return Err(Refusal::protocol("a PUBACK for what is no message of QoS 1").into()),
    }
    Ok(())
}
