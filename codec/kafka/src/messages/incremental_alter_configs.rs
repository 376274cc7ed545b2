//! IncrementalAlterConfigs (44), versions 0 to 1: changes single keys of configurations.
//!
//! - 0: (KIP-339)
//! - 1: flexible
//!
//! Operations: 0 set, 1 delete, 2 append, 3 subtract.

use crate::schema::structs;

structs! {
    /// The request.
    IncrementalAlterConfigsRequest {
        resources: Vec<AlterConfigsResource> [0..];
        validate_only: bool [0..];
    }

    /// In [`IncrementalAlterConfigsRequest::resources`].
    AlterConfigsResource {
        resource_type: i8 [0..];
        resource_name: String [0..];
        configs: Vec<AlterableConfig> [0..];
    }

    /// In [`AlterConfigsResource::configs`].
    AlterableConfig {
        name: String [0..];
        config_operation: i8 [0..];
        value: Option<String> [0.., null 0..];
    }

    /// The response.
    IncrementalAlterConfigsResponse {
        throttle_time_ms: i32 [0..];
        responses: Vec<AlterConfigsResourceResponse> [0..];
    }

    /// In [`IncrementalAlterConfigsResponse::responses`].
    AlterConfigsResourceResponse {
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        resource_type: i8 [0..];
        resource_name: String [0..];
    }
}
