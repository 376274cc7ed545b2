//! DeleteShareGroupOffsets (92), version 0: forgets where a share group begins.
//!
//! - 0: flexible (KIP-932)

use crate::schema::structs;
use crate::wire::Uuid;

structs! {
    /// The request.
    DeleteShareGroupOffsetsRequest {
        group_id: String [0..];
        topics: Vec<DeleteShareGroupOffsetsRequestTopic> [0..];
    }

    /// In [`DeleteShareGroupOffsetsRequest::topics`].
    DeleteShareGroupOffsetsRequestTopic {
        topic_name: String [0..];
    }

    /// The response.
    DeleteShareGroupOffsetsResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        responses: Vec<DeleteShareGroupOffsetsResponseTopic> [0..];
    }

    /// In [`DeleteShareGroupOffsetsResponse::responses`].
    DeleteShareGroupOffsetsResponseTopic {
        topic_name: String [0..];
        topic_id: Uuid [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
    }
}
