//! PUBCOMP (3.7): a message of QoS 2 is done with.

use codec_mqtt::Acknowledgement;

use crate::errors::Refusal;
use crate::session::{Connection, End};
use crate::state::sessions::Unfit;

pub(crate) fn handle(connection: &mut Connection, pubcomp: &Acknowledgement) -> Result<(), End> {
    match connection.session.completed(pubcomp.packet_id) {
        Ok(share) => connection.is_done(share),
        Err(Unfit::Unknown) => tracing::debug!(client = %connection.session.client_id, "a PUBCOMP for nothing"),
        Err(Unfit::Another) => return Err(Refusal::protocol("a PUBCOMP where none is due").into()),
    }
    Ok(())
}
