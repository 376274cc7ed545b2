//! JoinGroup (11), versions 0 to 9: joins a group and waits until all members have.
//!
//! - 1: rebalance timeout
//! - 2: throttle time
//! - 4: the first join is answered by a member id to join with (KIP-394)
//! - 5: static members (KIP-345)
//! - 6: flexible
//! - 7: the protocol type in the response (KIP-559)
//! - 8: the reason (KIP-800)
//! - 9: the leader may be told to skip the assignment (KIP-814)

use bytes::Bytes;

use crate::schema::structs;

structs! {
    /// The request.
    JoinGroupRequest {
        group_id: String [0..];
        session_timeout_ms: i32 [0..];
        rebalance_timeout_ms: i32 [1..] = -1;
        member_id: String [0..];
        group_instance_id: Option<String> [5.., null 5..];
        protocol_type: String [0..];
        protocols: Vec<JoinGroupRequestProtocol> [0..];
        reason: Option<String> [8.., null 8..];
    }

    /// In [`JoinGroupRequest::protocols`].
    JoinGroupRequestProtocol {
        name: String [0..];
        metadata: Bytes [0..];
    }

    /// The response.
    JoinGroupResponse {
        throttle_time_ms: i32 [2..];
        error_code: i16 [0..];
        generation_id: i32 [0..] = -1;
        protocol_type: Option<String> [7.., null 7..];
        protocol_name: Option<String> [0.., null 7..];
        leader: String [0..];
        skip_assignment: bool [9..];
        member_id: String [0..];
        members: Vec<JoinGroupResponseMember> [0..];
    }

    /// In [`JoinGroupResponse::members`].
    JoinGroupResponseMember {
        member_id: String [0..];
        group_instance_id: Option<String> [5.., null 5..];
        metadata: Bytes [0..];
    }
}
