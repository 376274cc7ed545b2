//! SyncGroup (14), versions 0 to 5: hands the assignment from the leader to the members of a group.
//!
//! - 1: throttle time
//! - 3: static members (KIP-345)
//! - 4: flexible
//! - 5: protocol type and name, to be checked (KIP-559)

use bytes::Bytes;

use crate::schema::structs;

structs! {
    /// The request.
    SyncGroupRequest {
        group_id: String [0..];
        generation_id: i32 [0..];
        member_id: String [0..];
        group_instance_id: Option<String> [3.., null 3..];
        protocol_type: Option<String> [5.., null 5..];
        protocol_name: Option<String> [5.., null 5..];
        assignments: Vec<SyncGroupRequestAssignment> [0..];
    }

    /// In [`SyncGroupRequest::assignments`].
    SyncGroupRequestAssignment {
        member_id: String [0..];
        assignment: Bytes [0..];
    }

    /// The response.
    SyncGroupResponse {
        throttle_time_ms: i32 [1..];
        error_code: i16 [0..];
        protocol_type: Option<String> [5.., null 5..];
        protocol_name: Option<String> [5.., null 5..];
        assignment: Bytes [0..];
    }
}
