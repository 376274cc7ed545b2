//! DeleteGroups (42), versions 0 to 2: deletes groups.
//!
//! - 0: (KIP-229)
//! - 2: flexible

use crate::schema::structs;

structs! {
    /// The request.
    DeleteGroupsRequest {
        groups_names: Vec<String> [0..];
    }

    /// The response.
    DeleteGroupsResponse {
        throttle_time_ms: i32 [0..];
        results: Vec<DeletableGroupResult> [0..];
    }

    /// In [`DeleteGroupsResponse::results`].
    DeletableGroupResult {
        group_id: String [0..];
        error_code: i16 [0..];
    }
}
