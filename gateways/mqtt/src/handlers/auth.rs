//! AUTH (3.15) after CONNACK: the client authenticates again (4.12.1).

use codec_mqtt::Auth;

use crate::errors::Refusal;
use crate::session::{Connection, End};

pub(crate) fn handle(_connection: &mut Connection, _auth: &Auth) -> Result<(), End> {
    // [MQTT-4.12.1-1]: only with the method that CONNECT had.
    Err(Refusal::protocol("an AUTH on a connection that has no authentication method").into())
}
