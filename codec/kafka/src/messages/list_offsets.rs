//! ListOffsets (2), versions 1 to 10: finds offsets by time, or the first and last ones.
//!
//! - 1: one offset per partition
//! - 2: isolation level (KIP-98), throttle time
//! - 4: leader epoch (KIP-320)
//! - 6: flexible
//! - 7: timestamp -3, the record with the greatest timestamp (KIP-734)
//! - 8: timestamp -4, the first offset kept locally (KIP-405)
//! - 9: timestamp -5, the last offset in tiered storage (KIP-1005)
//! - 10: timeout, for lookups in tiered storage (KIP-1075)
//!
//! Timestamps: milliseconds since 1970, or -1 latest, -2 earliest, and those above. Version 11 came with Kafka 4.2.

use crate::schema::structs;

structs! {
    /// The request.
    ListOffsetsRequest {
        replica_id: i32 [0..];
        isolation_level: i8 [2..];
        topics: Vec<ListOffsetsTopic> [0..];
        timeout_ms: i32 [10..];
    }

    /// In [`ListOffsetsRequest::topics`].
    ListOffsetsTopic {
        name: String [0..];
        partitions: Vec<ListOffsetsPartition> [0..];
    }

    /// In [`ListOffsetsTopic::partitions`].
    ListOffsetsPartition {
        partition_index: i32 [0..];
        current_leader_epoch: i32 [4..] = -1;
        timestamp: i64 [0..];
    }

    /// The response.
    ListOffsetsResponse {
        throttle_time_ms: i32 [2..];
        topics: Vec<ListOffsetsTopicResponse> [0..];
    }

    /// In [`ListOffsetsResponse::topics`].
    ListOffsetsTopicResponse {
        name: String [0..];
        partitions: Vec<ListOffsetsPartitionResponse> [0..];
    }

    /// In [`ListOffsetsTopicResponse::partitions`].
    ListOffsetsPartitionResponse {
        partition_index: i32 [0..];
        error_code: i16 [0..];
        timestamp: i64 [0..] = -1;
        offset: i64 [0..] = -1;
        leader_epoch: i32 [4..] = -1;
    }
}
