//! FindCoordinator (10), versions 0 to 6: finds the broker that coordinates a group or a transactional id.
//!
//! - 1: key type, throttle time
//! - 3: flexible
//! - 4: several keys (KIP-699)
//! - 5: another error for transactions (KIP-890)
//! - 6: share groups, key type 2 (KIP-932)
//!
//! Key types: 0 group, 1 transaction, 2 share group.

use crate::schema::structs;

structs! {
    /// The request.
    FindCoordinatorRequest {
        key: String [..=3];
        key_type: i8 [1..];
        coordinator_keys: Vec<String> [4..];
    }

    /// The response.
    FindCoordinatorResponse {
        throttle_time_ms: i32 [1..];
        error_code: i16 [..=3];
        error_message: Option<String> [1..=3, null 1..=3];
        node_id: i32 [..=3];
        host: String [..=3];
        port: i32 [..=3];
        coordinators: Vec<Coordinator> [4..];
    }

    /// In [`FindCoordinatorResponse::coordinators`].
    Coordinator {
        key: String [4..];
        node_id: i32 [4..];
        host: String [4..];
        port: i32 [4..];
        error_code: i16 [4..];
        error_message: Option<String> [4.., null 4..];
    }
}
