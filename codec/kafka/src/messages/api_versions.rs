//! ApiVersions (18), versions 0 to 4: tells which APIs and versions the broker serves.
//!
//! - 1: throttle time
//! - 3: flexible; name and version of the client (KIP-511); features (KIP-584)
//! - 4: a feature may begin at version 0
//!
//! The response header never has tagged fields. A request in an unknown version is answered in version 0, with the error
//! UNSUPPORTED_VERSION and the versions of this API.

use crate::schema::structs;

structs! {
    /// The request.
    ApiVersionsRequest {
        client_software_name: String [3..];
        client_software_version: String [3..];
    }

    /// The response.
    ApiVersionsResponse {
        error_code: i16 [0..];
        api_keys: Vec<ApiVersion> [0..];
        throttle_time_ms: i32 [1..];
        supported_features: Vec<SupportedFeatureKey> [3.., tag 0];
        finalized_features_epoch: i64 [3.., tag 1] = -1;
        finalized_features: Vec<FinalizedFeatureKey> [3.., tag 2];
        zk_migration_ready: bool [3.., tag 3];
    }

    /// In [`ApiVersionsResponse::api_keys`].
    ApiVersion {
        api_key: i16 [0..];
        min_version: i16 [0..];
        max_version: i16 [0..];
    }

    /// In [`ApiVersionsResponse::supported_features`].
    SupportedFeatureKey {
        name: String [3..];
        min_version: i16 [3..];
        max_version: i16 [3..];
    }

    /// In [`ApiVersionsResponse::finalized_features`].
    FinalizedFeatureKey {
        name: String [3..];
        max_version_level: i16 [3..];
        min_version_level: i16 [3..];
    }
}
