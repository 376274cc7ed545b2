//! ListGroups (16), versions 0 to 5: lists groups.
//!
//! - 1: throttle time
//! - 3: flexible
//! - 4: filter by state (KIP-518)
//! - 5: filter by type (KIP-848)

use crate::schema::structs;

structs! {
    /// The request.
    ListGroupsRequest {
        states_filter: Vec<String> [4..];
        types_filter: Vec<String> [5..];
    }

    /// The response.
    ListGroupsResponse {
        throttle_time_ms: i32 [1..];
        error_code: i16 [0..];
        groups: Vec<ListedGroup> [0..];
    }

    /// In [`ListGroupsResponse::groups`].
    ListedGroup {
        group_id: String [0..];
        protocol_type: String [0..];
        group_state: String [4..];
        group_type: String [5..];
    }
}
