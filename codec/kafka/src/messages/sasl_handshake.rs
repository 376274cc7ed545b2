//! SaslHandshake (17), versions 0 to 1: agrees a SASL mechanism.
//!
//! - 0: the exchange that follows is in raw frames
//! - 1: it is in SaslAuthenticate requests (KIP-152)
//!
//! No version is flexible.

use crate::schema::structs;

structs! {
    /// The request.
    SaslHandshakeRequest {
        mechanism: String [0..];
    }

    /// The response.
    SaslHandshakeResponse {
        error_code: i16 [0..];
        mechanisms: Vec<String> [0..];
    }
}
