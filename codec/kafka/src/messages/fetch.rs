//! Fetch (1), versions 4 to 18: reads record batches of partitions, waiting for them if there are none yet.
//!
//! - 4: the first that Kafka 4 serves; isolation level and aborted transactions (KIP-98)
//! - 5: log start offset
//! - 7: fetch sessions (KIP-227)
//! - 9: leader epoch checked (KIP-320)
//! - 10: zstd (KIP-110)
//! - 11: rack of the consumer and preferred replica (KIP-392)
//! - 12: flexible; last fetched epoch and diverging epoch (KIP-595)
//! - 13: topic ids instead of topic names (KIP-516)
//! - 14: a new error for tiered storage (KIP-405)
//! - 15: replica state instead of replica id (KIP-903)
//! - 16: the new leader, after an error that says that this is not it (KIP-951)
//! - 17: directory id of the follower (KIP-853)
//! - 18: high watermark known to the follower (KIP-1166)
//!
//! `records` of the response is a list of chunks, so that stored batches are sent without a copy.

use crate::schema::structs;
use crate::wire::{RecordChunks, Uuid};

structs! {
    /// The request.
    FetchRequest {
        cluster_id: Option<String> [12.., null 12.., tag 0];
        replica_id: i32 [..=14] = -1;
        replica_state: ReplicaState [15.., tag 1];
        max_wait_ms: i32 [0..];
        min_bytes: i32 [0..];
        max_bytes: i32 [0..] = i32::MAX;
        isolation_level: i8 [0..];
        session_id: i32 [7..];
        session_epoch: i32 [7..] = -1;
        topics: Vec<FetchTopic> [0..];
        forgotten_topics_data: Vec<ForgottenTopic> [7..];
        rack_id: String [11..];
    }

    /// In [`FetchRequest::replica_state`].
    ReplicaState {
        replica_id: i32 [15..] = -1;
        replica_epoch: i64 [15..] = -1;
    }

    /// In [`FetchRequest::topics`].
    FetchTopic {
        topic: String [..=12];
        topic_id: Uuid [13..];
        partitions: Vec<FetchPartition> [0..];
    }

    /// In [`FetchRequest::forgotten_topics_data`].
    ForgottenTopic {
        topic: String [7..=12];
        topic_id: Uuid [13..];
        partitions: Vec<i32> [7..];
    }

    /// In [`FetchTopic::partitions`].
    FetchPartition {
        partition: i32 [0..];
        current_leader_epoch: i32 [9..] = -1;
        fetch_offset: i64 [0..];
        last_fetched_epoch: i32 [12..] = -1;
        log_start_offset: i64 [5..] = -1;
        partition_max_bytes: i32 [0..];
        replica_directory_id: Uuid [17.., tag 0];
        high_watermark: i64 [18.., tag 1] = i64::MAX;
    }

    /// The response.
    FetchResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [7..];
        session_id: i32 [7..];
        responses: Vec<FetchableTopicResponse> [0..];
        node_endpoints: Vec<NodeEndpoint> [16.., tag 0];
    }

    /// In [`FetchResponse::responses`].
    FetchableTopicResponse {
        topic: String [..=12];
        topic_id: Uuid [13..];
        partitions: Vec<PartitionData> [0..];
    }

    /// In [`FetchResponse::node_endpoints`].
    NodeEndpoint {
        node_id: i32 [16..];
        host: String [16..];
        port: i32 [16..];
        rack: Option<String> [16.., null 16..];
    }

    /// In [`FetchableTopicResponse::partitions`].
    PartitionData {
        partition_index: i32 [0..];
        error_code: i16 [0..];
        high_watermark: i64 [0..];
        last_stable_offset: i64 [0..] = -1;
        log_start_offset: i64 [5..] = -1;
        diverging_epoch: EpochEndOffset [12.., tag 0];
        current_leader: LeaderIdAndEpoch [12.., tag 1];
        snapshot_id: SnapshotId [12.., tag 2];
        aborted_transactions: Option<Vec<AbortedTransaction>> [0.., null 0..];
        preferred_read_replica: i32 [11..] = -1;
        records: Option<RecordChunks> [0.., null 0..];
    }

    /// In [`PartitionData::diverging_epoch`].
    EpochEndOffset {
        epoch: i32 [12..] = -1;
        end_offset: i64 [12..] = -1;
    }

    /// In [`PartitionData::current_leader`].
    LeaderIdAndEpoch {
        leader_id: i32 [12..] = -1;
        leader_epoch: i32 [12..] = -1;
    }

    /// In [`PartitionData::snapshot_id`].
    SnapshotId {
        end_offset: i64 [0..] = -1;
        epoch: i32 [0..] = -1;
    }

    /// In [`PartitionData::aborted_transactions`].
    AbortedTransaction {
        producer_id: i64 [0..];
        first_offset: i64 [0..];
    }
}
