//! DeleteAcls (31), versions 1 to 3: removes access rules.
//!
//! - 1: the first that Kafka 4 serves; pattern types (KIP-290)
//! - 2: flexible
//! - 3: user resources (KIP-373)

use crate::schema::structs;

structs! {
    /// The request.
    DeleteAclsRequest {
        filters: Vec<DeleteAclsFilter> [0..];
    }

    /// In [`DeleteAclsRequest::filters`].
    DeleteAclsFilter {
        resource_type_filter: i8 [0..];
        resource_name_filter: Option<String> [0.., null 0..];
        pattern_type_filter: i8 [0..] = 3;
        principal_filter: Option<String> [0.., null 0..];
        host_filter: Option<String> [0.., null 0..];
        operation: i8 [0..];
        permission_type: i8 [0..];
    }

    /// The response.
    DeleteAclsResponse {
        throttle_time_ms: i32 [0..];
        filter_results: Vec<DeleteAclsFilterResult> [0..];
    }

    /// In [`DeleteAclsResponse::filter_results`].
    DeleteAclsFilterResult {
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        matching_acls: Vec<DeleteAclsMatchingAcl> [0..];
    }

    /// In [`DeleteAclsFilterResult::matching_acls`].
    DeleteAclsMatchingAcl {
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        resource_type: i8 [0..];
        resource_name: String [0..];
        pattern_type: i8 [0..] = 3;
        principal: String [0..];
        host: String [0..];
        operation: i8 [0..];
        permission_type: i8 [0..];
    }
}
