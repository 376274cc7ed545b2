//! PINGREQ (3.12).

use codec_mqtt::Packet;

use crate::session::{Connection, End};

pub(crate) fn handle(connection: &mut Connection) -> Result<(), End> {
    connection.write(&Packet::Pingresp);
    Ok(())
}
