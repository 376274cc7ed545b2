//! SaslHandshake (17), versions 0 to 1: chooses a SASL mechanism.
//!
//! - On a listener without SASL, and after authentication where it holds as long as the connection: ILLEGAL_SASL_STATE.
//! - To authenticate again (KIP-368) by another mechanism than before: ILLEGAL_SASL_STATE.
//! - Version 0, after which the exchange would go on without frames of requests: UNSUPPORTED_VERSION. Every client that
//!   knows SaslAuthenticate (Kafka 1.0) uses version 1.

use codec_kafka::messages::{SaslHandshakeRequest, SaslHandshakeResponse};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::security::Mechanism;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: SaslHandshakeRequest,
) -> SaslHandshakeResponse {
    let offered = &gateway.security.config.sasl_mechanisms;
    let peer = &context.peer;
    let mechanism = Mechanism::of(&request.mechanism).filter(|mechanism| offered.contains(mechanism));
    let code = match (peer.may_choose(), mechanism) {
        (false, _) => ErrorCode::IllegalSaslState,
        (true, _) if context.version == 0 => ErrorCode::UnsupportedVersion,
        (true, None) => ErrorCode::UnsupportedSaslMechanism,
        (true, Some(mechanism)) if peer.choose(mechanism) => ErrorCode::None,
        (true, Some(_)) => ErrorCode::IllegalSaslState,
    };
    if code != ErrorCode::None {
        peer.fail_sasl();
    }
    SaslHandshakeResponse {
        error_code: code.code(),
        mechanisms: offered.iter().map(|mechanism| mechanism.name().to_owned()).collect(),
    }
}
