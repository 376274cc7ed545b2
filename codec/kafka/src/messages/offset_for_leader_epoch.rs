//! OffsetForLeaderEpoch (23), versions 2 to 4: finds the end offset of a leader epoch.
//!
//! - 2: the first that Kafka 4 serves; current leader epoch (KIP-320)
//! - 3: replica id
//! - 4: flexible

use crate::schema::structs;

structs! {
    /// The request.
    OffsetForLeaderEpochRequest {
        replica_id: i32 [3..] = -2;
        topics: Vec<OffsetForLeaderTopic> [0..];
    }

    /// In [`OffsetForLeaderEpochRequest::topics`].
    OffsetForLeaderTopic {
        topic: String [0..];
        partitions: Vec<OffsetForLeaderPartition> [0..];
    }

    /// In [`OffsetForLeaderTopic::partitions`].
    OffsetForLeaderPartition {
        partition: i32 [0..];
        current_leader_epoch: i32 [0..] = -1;
        leader_epoch: i32 [0..];
    }

    /// The response.
    OffsetForLeaderEpochResponse {
        throttle_time_ms: i32 [0..];
        topics: Vec<OffsetForLeaderTopicResult> [0..];
    }

    /// In [`OffsetForLeaderEpochResponse::topics`].
    OffsetForLeaderTopicResult {
        topic: String [0..];
        partitions: Vec<EpochEndOffset> [0..];
    }

    /// In [`OffsetForLeaderTopicResult::partitions`].
    EpochEndOffset {
        error_code: i16 [0..];
        partition: i32 [0..];
        leader_epoch: i32 [0..] = -1;
        end_offset: i64 [0..] = -1;
    }
}
