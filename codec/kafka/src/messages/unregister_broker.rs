//! UnregisterBroker (64), version 0: makes the cluster forget a broker.
//!
//! - 0: flexible (KIP-500)

use crate::schema::structs;

structs! {
    /// The request.
    UnregisterBrokerRequest {
        broker_id: i32 [0..];
    }

    /// The response.
    UnregisterBrokerResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
    }
}
