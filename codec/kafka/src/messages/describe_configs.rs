//! DescribeConfigs (32), versions 1 to 4: describes configurations.
//!
//! - 1: the first that Kafka 4 serves; synonyms (KIP-226)
//! - 3: type and documentation (KIP-569)
//! - 4: flexible
//!
//! Resource types: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.

use crate::schema::structs;

structs! {
    /// The request.
    DescribeConfigsRequest {
        resources: Vec<DescribeConfigsResource> [0..];
        include_synonyms: bool [0..];
        include_documentation: bool [3..];
    }

    /// In [`DescribeConfigsRequest::resources`].
    DescribeConfigsResource {
        resource_type: i8 [0..];
        resource_name: String [0..];
        configuration_keys: Option<Vec<String>> [0.., null 0..];
    }

    /// The response.
    DescribeConfigsResponse {
        throttle_time_ms: i32 [0..];
        results: Vec<DescribeConfigsResult> [0..];
    }

    /// In [`DescribeConfigsResponse::results`].
    DescribeConfigsResult {
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        resource_type: i8 [0..];
        resource_name: String [0..];
        configs: Vec<DescribeConfigsResourceResult> [0..];
    }

    /// In [`DescribeConfigsResult::configs`].
    DescribeConfigsResourceResult {
        name: String [0..];
        value: Option<String> [0.., null 0..];
        read_only: bool [0..];
        config_source: i8 [0..] = -1;
        is_sensitive: bool [0..];
        synonyms: Vec<DescribeConfigsSynonym> [0..];
        config_type: i8 [3..];
        documentation: Option<String> [3.., null 0..];
    }

    /// In [`DescribeConfigsResourceResult::synonyms`].
    DescribeConfigsSynonym {
        name: String [0..];
        value: Option<String> [0.., null 0..];
        source: i8 [0..];
    }
}
