//! DescribeGroups (15), versions 0 to 6: describes classic groups.
//!
//! - 1: throttle time
//! - 3: authorized operations (KIP-430)
//! - 4: static members (KIP-345)
//! - 5: flexible
//! - 6: error message, and GROUP_ID_NOT_FOUND for a group that does not exist (KIP-1043)

use bytes::Bytes;

use crate::schema::structs;

structs! {
    /// The request.
    DescribeGroupsRequest {
        groups: Vec<String> [0..];
        include_authorized_operations: bool [3..];
    }

    /// The response.
    DescribeGroupsResponse {
        throttle_time_ms: i32 [1..];
        groups: Vec<DescribedGroup> [0..];
    }

    /// In [`DescribeGroupsResponse::groups`].
    DescribedGroup {
        error_code: i16 [0..];
        error_message: Option<String> [6.., null 6..];
        group_id: String [0..];
        group_state: String [0..];
        protocol_type: String [0..];
        protocol_data: String [0..];
        members: Vec<DescribedGroupMember> [0..];
        authorized_operations: i32 [3..] = i32::MIN;
    }

    /// In [`DescribedGroup::members`].
    DescribedGroupMember {
        member_id: String [0..];
        group_instance_id: Option<String> [4.., null 4..];
        client_id: String [0..];
        client_host: String [0..];
        member_metadata: Bytes [0..];
        member_assignment: Bytes [0..];
    }
}
