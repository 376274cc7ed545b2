//! ListConfigResources (74), versions 0 to 1: lists resources that have configurations.
//!
//! - 0: flexible; client metrics resources only (KIP-714, named ListClientMetricsResources then)
//! - 1: any type of resource (KIP-1142)

use crate::schema::structs;

structs! {
    /// The request.
    ListConfigResourcesRequest {
        resource_types: Vec<i8> [1..];
    }

    /// The response.
    ListConfigResourcesResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [0..];
        config_resources: Vec<ConfigResource> [0..];
    }

    /// In [`ListConfigResourcesResponse::config_resources`].
    ConfigResource {
        resource_name: String [0..];
        resource_type: i8 [1..] = 16;
    }
}
