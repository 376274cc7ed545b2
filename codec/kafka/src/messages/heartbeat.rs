//! Heartbeat (12), versions 0 to 4: keeps a member in its group.
//!
//! - 1: throttle time
//! - 3: static members (KIP-345)
//! - 4: flexible

use crate::schema::structs;

structs! {
    /// The request.
    HeartbeatRequest {
        group_id: String [0..];
        generation_id: i32 [0..];
        member_id: String [0..];
        group_instance_id: Option<String> [3.., null 3..];
    }

    /// The response.
    HeartbeatResponse {
        throttle_time_ms: i32 [1..];
        error_code: i16 [0..];
    }
}
