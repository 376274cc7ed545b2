//! AlterConfigs (33), versions 0 to 2: replaces configurations.
//!
//! - 0: (KIP-133)
//! - 2: flexible
//!
//! Keys that are not named go back to their default: clients use IncrementalAlterConfigs.

use crate::schema::structs;

structs! {
    /// The request.
    AlterConfigsRequest {
        resources: Vec<AlterConfigsResource> [0..];
        validate_only: bool [0..];
    }

    /// In [`AlterConfigsRequest::resources`].
    AlterConfigsResource {
        resource_type: i8 [0..];
        resource_name: String [0..];
        configs: Vec<AlterableConfig> [0..];
    }

    /// In [`AlterConfigsResource::configs`].
    AlterableConfig {
        name: String [0..];
        value: Option<String> [0.., null 0..];
    }

    /// The response.
    AlterConfigsResponse {
        throttle_time_ms: i32 [0..];
        responses: Vec<AlterConfigsResourceResponse> [0..];
    }

    /// In [`AlterConfigsResponse::responses`].
    AlterConfigsResourceResponse {
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        resource_type: i8 [0..];
        resource_name: String [0..];
    }
}
