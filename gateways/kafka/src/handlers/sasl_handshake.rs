//! SaslHandshake (17), versions 0 to 1: chooses a SASL mechanism.
//!
//! - On a listener without SASL, and after authentication: ILLEGAL_SASL_STATE.
//! - Version 0, after which the exchange would go on without frames of requests: UNSUPPORTED_VERSION. Every client that
//!   knows SaslAuthenticate (Kafka 1.0) uses version 1.

use codec_kafka::messages::{SaslHandshakeRequest, SaslHandshakeResponse};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::security::sasl::{Mechanism, Sasl};

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: SaslHandshakeRequest,
) -> SaslHandshakeResponse {
    let offered = &gateway.security.config.sasl_mechanisms;
    let code = match (context.peer.take_sasl(), Mechanism::of(&request.mechanism)) {
        (Some(Sasl::Fresh), _) if context.version == 0 => ErrorCode::UnsupportedVersion,
        (Some(Sasl::Fresh), Some(mechanism)) if offered.contains(&mechanism) => {
            context.peer.set_sasl(Sasl::Chosen(mechanism));
            ErrorCode::None
        }
        (Some(Sasl::Fresh), _) => ErrorCode::UnsupportedSaslMechanism,
        _ => ErrorCode::IllegalSaslState,
    };
    SaslHandshakeResponse {
        error_code: code.code(),
        mechanisms: offered.iter().map(|mechanism| mechanism.name().to_owned()).collect(),
    }
}
