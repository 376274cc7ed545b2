//! PUBREL (3.6): the client sends a message of QoS 2 no more. Its identifier is forgotten, for a session that survives its
//! connection in the log, too, before PUBCOMP says so.

use codec_mqtt::{Acknowledgement, Reason};

use crate::session::{Connection, End, Kind};

pub(crate) fn handle(connection: &mut Connection, pubrel: &Acknowledgement) -> Result<(), End> {
    let is_known = connection.session.end_receive(pubrel.packet_id);
    // One that is not known may be in the log still: the record of its release may have failed on an earlier connection.
    if connection.session.is_persistent() {
        connection.inbound.needs_released();
    }
    let reason = if is_known { Reason::Success } else { Reason::PacketIdNotFound };
    connection.inbound.reply(Kind::Pubcomp, pubrel.packet_id, reason);
    Ok(())
}
