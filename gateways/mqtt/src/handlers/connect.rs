//! CONNECT where it is not the first packet (3.1): the first one is [`crate::session`]'s.

use crate::errors::Refusal;
use crate::session::End;

/// [MQTT-3.1.0-2].
pub(crate) fn handle() -> Result<(), End> {
    Err(Refusal::protocol("a second CONNECT").into())
}
