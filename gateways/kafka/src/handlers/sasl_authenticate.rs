//! SaslAuthenticate (36), versions 0 to 2: refused, as by a Kafka listener without SASL.

use codec_kafka::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;

pub async fn handle<C: Core>(_: &Gateway<C>, _: &Context, _: SaslAuthenticateRequest) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse {
        error_code: ErrorCode::IllegalSaslState.code(),
        error_message: Some("SaslAuthenticate request received after successful authentication".into()),
        ..Default::default()
    }
}
