//! UpdateFeatures (57), versions 0 to 2: changes the finalized features of the cluster.
//!
//! - 0: flexible (KIP-584)
//! - 1: upgrade type, validation only
//! - 2: no result per feature (KIP-1022)

use crate::schema::structs;

structs! {
    /// The request.
    UpdateFeaturesRequest {
        timeout_ms: i32 [0..] = 60000;
        feature_updates: Vec<FeatureUpdateKey> [0..];
        validate_only: bool [1..];
    }

    /// In [`UpdateFeaturesRequest::feature_updates`].
    FeatureUpdateKey {
        feature: String [0..];
        max_version_level: i16 [0..];
        allow_downgrade: bool [..=0];
        upgrade_type: i8 [1..] = 1;
    }

    /// The response.
    UpdateFeaturesResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        results: Vec<UpdatableFeatureResult> [..=1];
    }

    /// In [`UpdateFeaturesResponse::results`].
    UpdatableFeatureResult {
        feature: String [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
    }
}
