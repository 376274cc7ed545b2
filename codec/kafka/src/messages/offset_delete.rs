//! OffsetDelete (47), version 0: deletes positions of a consumer group.
//!
//! - 0: (KIP-496)
//!
//! No version is flexible.

use crate::schema::structs;

structs! {
    /// The request.
    OffsetDeleteRequest {
        group_id: String [0..];
        topics: Vec<OffsetDeleteRequestTopic> [0..];
    }

    /// In [`OffsetDeleteRequest::topics`].
    OffsetDeleteRequestTopic {
        name: String [0..];
        partitions: Vec<OffsetDeleteRequestPartition> [0..];
    }

    /// In [`OffsetDeleteRequestTopic::partitions`].
    OffsetDeleteRequestPartition {
        partition_index: i32 [0..];
    }

    /// The response.
    OffsetDeleteResponse {
        error_code: i16 [0..];
        throttle_time_ms: i32 [0..];
        topics: Vec<OffsetDeleteResponseTopic> [0..];
    }

    /// In [`OffsetDeleteResponse::topics`].
    OffsetDeleteResponseTopic {
        name: String [0..];
        partitions: Vec<OffsetDeleteResponsePartition> [0..];
    }

    /// In [`OffsetDeleteResponseTopic::partitions`].
    OffsetDeleteResponsePartition {
        partition_index: i32 [0..];
        error_code: i16 [0..];
    }
}
