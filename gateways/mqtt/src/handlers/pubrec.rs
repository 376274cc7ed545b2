//! PUBREC (3.5): the client has a message of QoS 2, or does not want it.

use codec_mqtt::{Acknowledgement, QoS, Reason};

use crate::session::{Connection, End};

pub(crate) fn handle(connection: &mut Connection, pubrec: &Acknowledgement) -> Result<(), End> {
    if pubrec.reason.is_failure() {
        // That is the end of it: no PUBREL follows (4.3.3).
        if let Ok(share) = connection.session.acknowledged(pubrec.packet_id, QoS::ExactlyOnce) {
            connection.is_done(share);
        }
        return Ok(());
    }
    let reason = match connection.session.received(pubrec.packet_id) {
        Ok(()) => Reason::Success,
        Err(_) => Reason::PacketIdNotFound,
    };
    connection.release(pubrec.packet_id, reason);
    Ok(())
}
