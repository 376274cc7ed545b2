//! SaslAuthenticate (36), versions 0 to 2: carries one step of a SASL exchange.
//!
//! - 0: (KIP-152)
//! - 1: lifetime of the session (KIP-368)
//! - 2: flexible

use bytes::Bytes;

use crate::schema::structs;

structs! {
    /// The request.
    SaslAuthenticateRequest {
        auth_bytes: Bytes [0..];
    }

    /// The response.
    SaslAuthenticateResponse {
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        auth_bytes: Bytes [0..];
        session_lifetime_ms: i64 [1..];
    }
}
