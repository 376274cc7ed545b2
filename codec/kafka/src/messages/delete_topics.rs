//! DeleteTopics (20), versions 1 to 6: deletes topics.
//!
//! - 1: the first that Kafka 4 serves; throttle time
//! - 4: flexible
//! - 5: error message
//! - 6: topics by id (KIP-516)
//!
//! Up to version 5 `topic_names`, later `topics`.

use crate::schema::structs;
use crate::wire::Uuid;

structs! {
    /// The request.
    DeleteTopicsRequest {
        topics: Vec<DeleteTopicState> [6..];
        topic_names: Vec<String> [..=5];
        timeout_ms: i32 [0..];
    }

    /// In [`DeleteTopicsRequest::topics`].
    DeleteTopicState {
        name: Option<String> [6.., null 6..];
        topic_id: Uuid [6..];
    }

    /// The response.
    DeleteTopicsResponse {
        throttle_time_ms: i32 [0..];
        responses: Vec<DeletableTopicResult> [0..];
    }

    /// In [`DeleteTopicsResponse::responses`].
    DeletableTopicResult {
        name: Option<String> [0.., null 6..];
        topic_id: Uuid [6..];
        error_code: i16 [0..];
        error_message: Option<String> [5.., null 5..];
    }
}
