//! OffsetCommit (8), versions 2 to 9: stores the positions of a consumer group.
//!
//! - 2: the first that Kafka 4 serves
//! - 3: throttle time
//! - 5: retention time is gone (KIP-211)
//! - 6: leader epoch (KIP-320)
//! - 7: static members (KIP-345)
//! - 8: flexible
//! - 9: for the consumer group protocol of KIP-848 too
//!
//! Version 10 (topic ids) is not stable in Kafka 4.1, and not declared here.

use crate::schema::structs;

structs! {
    /// The request.
    OffsetCommitRequest {
        group_id: String [0..];
        generation_id_or_member_epoch: i32 [0..] = -1;
        member_id: String [0..];
        group_instance_id: Option<String> [7.., null 7..];
        retention_time_ms: i64 [..=4] = -1;
        topics: Vec<OffsetCommitRequestTopic> [0..];
    }

    /// In [`OffsetCommitRequest::topics`].
    OffsetCommitRequestTopic {
        name: String [0..];
        partitions: Vec<OffsetCommitRequestPartition> [0..];
    }

    /// In [`OffsetCommitRequestTopic::partitions`].
    OffsetCommitRequestPartition {
        partition_index: i32 [0..];
        committed_offset: i64 [0..];
        committed_leader_epoch: i32 [6..] = -1;
        committed_metadata: Option<String> [0.., null 0..];
    }

    /// The response.
    OffsetCommitResponse {
        throttle_time_ms: i32 [3..];
        topics: Vec<OffsetCommitResponseTopic> [0..];
    }

    /// In [`OffsetCommitResponse::topics`].
    OffsetCommitResponseTopic {
        name: String [0..];
        partitions: Vec<OffsetCommitResponsePartition> [0..];
    }

    /// In [`OffsetCommitResponseTopic::partitions`].
    OffsetCommitResponsePartition {
        partition_index: i32 [0..];
        error_code: i16 [0..];
    }
}
