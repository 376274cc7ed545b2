//! PUBREC (3.5): the client has a message of QoS 2, or does not want it.

use codec_mqtt::{Acknowledgement, QoS, Reason};

use crate::errors::Refusal;
use crate::session::{Connection, End};
use crate::state::sessions::Unfit;

const ANOTHER: Refusal = Refusal::protocol("a PUBREC where none is due");

pub(crate) fn handle(connection: &mut Connection, pubrec: &Acknowledgement) -> Result<(), End> {
    if pubrec.reason.is_failure() {
        // That is the end of it: no PUBREL follows (4.3.3).
        return match connection.session.acknowledged(pubrec.packet_id, QoS::ExactlyOnce) {
            Ok(share) => {
                connection.is_done(share);
                Ok(())
            }
            Err(Unfit::Unknown) => Ok(()),
            Err(Unfit::Another) => Err(ANOTHER.into()),
        };
    }
    let reason = match connection.session.received(pubrec.packet_id) {
        Ok(()) => Reason::Success,
        Err(Unfit::Unknown) => Reason::PacketIdNotFound,
        Err(Unfit::Another) => return Err(ANOTHER.into()),
    };
    connection.release(pubrec.packet_id, reason);
    Ok(())
}
