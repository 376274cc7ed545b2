//! PushTelemetry (72), version 0: sends metrics of the client.
//!
//! - 0: flexible (KIP-714)

use bytes::Bytes;

use crate::schema::structs;
use crate::wire::Uuid;

structs! {
    /// The request.
    PushTelemetryRequest {
        client_instance_id: Uuid [0..];
        subscription_id: i32 [0..];
        terminating: bool [0..];
        compression_type: i8 [0..];
        metrics: Bytes [0..];
    }

    /// The response.
    PushTelemetryResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [0..];
    }
}
