//! AlterShareGroupOffsets (91), version 0: moves where a share group begins.
//!
//! - 0: flexible (KIP-932)

use crate::schema::structs;
use crate::wire::Uuid;

structs! {
    /// The request.
    AlterShareGroupOffsetsRequest {
        group_id: String [0..];
        topics: Vec<AlterShareGroupOffsetsRequestTopic> [0..];
    }

    /// In [`AlterShareGroupOffsetsRequest::topics`].
    AlterShareGroupOffsetsRequestTopic {
        topic_name: String [0..];
        partitions: Vec<AlterShareGroupOffsetsRequestPartition> [0..];
    }

    /// In [`AlterShareGroupOffsetsRequestTopic::partitions`].
    AlterShareGroupOffsetsRequestPartition {
        partition_index: i32 [0..];
        start_offset: i64 [0..];
    }

    /// The response.
    AlterShareGroupOffsetsResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        responses: Vec<AlterShareGroupOffsetsResponseTopic> [0..];
    }

    /// In [`AlterShareGroupOffsetsResponse::responses`].
    AlterShareGroupOffsetsResponseTopic {
        topic_name: String [0..];
        topic_id: Uuid [0..];
        partitions: Vec<AlterShareGroupOffsetsResponsePartition> [0..];
    }

    /// In [`AlterShareGroupOffsetsResponseTopic::partitions`].
    AlterShareGroupOffsetsResponsePartition {
        partition_index: i32 [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
    }
}
