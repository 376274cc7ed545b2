//! CreateAcls (30), versions 1 to 3: adds access rules.
//!
//! - 1: the first that Kafka 4 serves; pattern types (KIP-290)
//! - 2: flexible
//! - 3: user resources (KIP-373)

use crate::schema::structs;

structs! {
    /// The request.
    CreateAclsRequest {
        creations: Vec<AclCreation> [0..];
    }

    /// In [`CreateAclsRequest::creations`].
    AclCreation {
        resource_type: i8 [0..];
        resource_name: String [0..];
        resource_pattern_type: i8 [0..] = 3;
        principal: String [0..];
        host: String [0..];
        operation: i8 [0..];
        permission_type: i8 [0..];
    }

    /// The response.
    CreateAclsResponse {
        throttle_time_ms: i32 [0..];
        results: Vec<AclCreationResult> [0..];
    }

    /// In [`CreateAclsResponse::results`].
    AclCreationResult {
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
    }
}
