//! SaslHandshake (17), versions 0 to 1: refused, as by a Kafka listener without SASL.

use codec_kafka::messages::{SaslHandshakeRequest, SaslHandshakeResponse};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;

pub async fn handle<C: Core>(_: &Gateway<C>, _: &Context, _: SaslHandshakeRequest) -> SaslHandshakeResponse {
    SaslHandshakeResponse { error_code: ErrorCode::IllegalSaslState.code(), ..Default::default() }
}
