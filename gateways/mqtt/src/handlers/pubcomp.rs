//! PUBCOMP (3.7): a message of QoS 2 is done with.

use codec_mqtt::Acknowledgement;

use crate::session::{Connection, End};

pub(crate) fn handle(connection: &mut Connection, pubcomp: &Acknowledgement) -> Result<(), End> {
    match connection.session.completed(pubcomp.packet_id) {
        Ok(share) => connection.is_done(share),
        Err(unknown) => tracing::debug!(client = %connection.session.client_id, %unknown, "a PUBCOMP for nothing"),
    }
    Ok(())
}
