//! DISCONNECT (3.14): the client's goodbye. With the reason 0x00 its will is forgotten [MQTT-3.1.2-10].

use codec_mqtt::{Disconnect, Reason};

use crate::errors::Refusal;
use crate::session::{Connection, End};

pub(crate) fn handle(connection: &mut Connection, disconnect: &Disconnect) -> Result<(), End> {
    let expiry_s = disconnect.properties.session_expiry_interval_s();
    // 3.14.2.2.2: what was to end with its connection cannot be told to stay.
    if connection.client.expiry_s == 0 && expiry_s.is_some_and(|expiry_s| expiry_s > 0) {
        return Err(Refusal::protocol("a session expiry in DISCONNECT that CONNECT did not have").into());
    }
    let expiry_s = expiry_s.map(|expiry_s| expiry_s.min(connection.gateway.config.session_expiry_max_s));
    Err(End::Client { sends_will: disconnect.reason != Reason::Success, expiry_s })
}
