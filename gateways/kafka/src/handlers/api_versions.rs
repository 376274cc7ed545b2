//! ApiVersions (18): tells which requests are served, from the table in [`super`].
//!
//! The finalized features are those that say which protocols clients may use. `kraft.version` and `metadata.version` are
//! about a quorum, which is not here.

use codec_kafka::ApiKey;
use codec_kafka::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use core_rpc::Core;

use super::{Context, SERVED, Served};
use crate::Gateway;
use crate::errors::ErrorCode;

/// The finalized features and their levels; each can be from 0 to that.
pub const FEATURES: &[(&str, i16)] = &[
    // The consumer protocol (KIP-848).
    ("group.version", 1),
    // Share groups (KIP-932).
    ("share.version", 1),
    // Transactions that raise their producer's epoch and announce nothing (KIP-890).
    ("transaction.version", 2),
];

/// The first version in which a supported feature may begin at level 0.
const LEVEL_0_VERSION: i16 = 4;

pub async fn handle<C: Core>(
    _: &Gateway<C>,
    context: &Context,
    request: ApiVersionsRequest,
) -> ApiVersionsResponse {
    if context.version >= 3 && !(is_name(&request.client_software_name) && is_name(&request.client_software_version)) {
        return ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code(), ..Default::default() };
    }
    ApiVersionsResponse {
        api_keys: SERVED.iter().map(line).collect(),
        supported_features: match context.version >= LEVEL_0_VERSION {
            true => FEATURES.iter().map(supported).collect(),
            false => Vec::new(),
        },
        // It never changes while the gateway runs.
        finalized_features_epoch: 0,
        finalized_features: FEATURES.iter().map(finalized).collect(),
        ..Default::default()
    }
}

fn supported((name, level): &(&str, i16)) -> SupportedFeatureKey {
    SupportedFeatureKey { name: (*name).to_owned(), min_version: 0, max_version: *level }
}

fn finalized((name, level): &(&str, i16)) -> FinalizedFeatureKey {
    FinalizedFeatureKey { name: (*name).to_owned(), max_version_level: *level, min_version_level: *level }
}

/// What Kafka allows as a client's name and version: letters and digits, between them also `-` and `.` (KIP-511).
fn is_name(text: &str) -> bool {
    let outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    outer(bytes.first()) && outer(bytes.last()) && bytes.iter().all(inner)
}

/// The answer to a version that is not served, to be sent in version 0.
pub fn unsupported() -> ApiVersionsResponse {
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: SERVED.iter().filter(|served| served.api == ApiKey::ApiVersions).map(line).collect(),
        ..Default::default()
    }
}

fn line(served: &Served) -> ApiVersion {
    let versions = served.advertised();
    ApiVersion { api_key: served.api as i16, min_version: *versions.start(), max_version: *versions.end() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_clients() {
        for name in ["a", "apache-kafka-java", "4.1.0", "A.b-c"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-", "a-", ".a", "a b", "a/b", "ä"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
