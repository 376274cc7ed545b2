//! LeaveGroup (13), versions 0 to 5: leaves a group.
//!
//! - 1: throttle time
//! - 3: several members, static ones too (KIP-345)
//! - 4: flexible
//! - 5: the reason (KIP-800)

use crate::schema::structs;

structs! {
    /// The request.
    LeaveGroupRequest {
        group_id: String [0..];
        member_id: String [..=2];
        members: Vec<MemberIdentity> [3..];
    }

    /// In [`LeaveGroupRequest::members`].
    MemberIdentity {
        member_id: String [3..];
        group_instance_id: Option<String> [3.., null 3..];
        reason: Option<String> [5.., null 5..];
    }

    /// The response.
    LeaveGroupResponse {
        throttle_time_ms: i32 [1..];
        error_code: i16 [0..];
        members: Vec<MemberResponse> [3..];
    }

    /// In [`LeaveGroupResponse::members`].
    MemberResponse {
        member_id: String [3..];
        group_instance_id: Option<String> [3.., null 3..];
        error_code: i16 [3..];
    }
}
