//! ShareFetch (78), version 1: acquires records for a member of a share group.
//!
//! - 1: flexible (KIP-932); 0 was Kafka 4.0's early access
//!
//! `records` of the response is a list of chunks, as Fetch's.

use crate::schema::structs;
use crate::wire::{RecordChunks, Uuid};

structs! {
    /// The request.
    ShareFetchRequest {
        group_id: Option<String> [0.., null 0..];
        member_id: Option<String> [0.., null 0..];
        share_session_epoch: i32 [0..];
        max_wait_ms: i32 [0..];
        min_bytes: i32 [0..];
        max_bytes: i32 [0..] = i32::MAX;
        max_records: i32 [0..];
        batch_size: i32 [0..];
        topics: Vec<FetchTopic> [0..];
        forgotten_topics_data: Vec<ForgottenTopic> [0..];
    }

    /// In [`ShareFetchRequest::topics`].
    FetchTopic {
        topic_id: Uuid [0..];
        partitions: Vec<FetchPartition> [0..];
    }

    /// In [`ShareFetchRequest::forgotten_topics_data`].
    ForgottenTopic {
        topic_id: Uuid [0..];
        partitions: Vec<i32> [0..];
    }

    /// In [`FetchTopic::partitions`].
    FetchPartition {
        partition_index: i32 [0..];
        acknowledgement_batches: Vec<AcknowledgementBatch> [0..];
    }

    /// In [`FetchPartition::acknowledgement_batches`].
    AcknowledgementBatch {
        first_offset: i64 [0..];
        last_offset: i64 [0..];
        acknowledge_types: Vec<i8> [0..];
    }

    /// The response.
    ShareFetchResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        acquisition_lock_timeout_ms: i32 [0..];
        responses: Vec<ShareFetchableTopicResponse> [0..];
        node_endpoints: Vec<NodeEndpoint> [0..];
    }

    /// In [`ShareFetchResponse::responses`].
    ShareFetchableTopicResponse {
        topic_id: Uuid [0..];
        partitions: Vec<PartitionData> [0..];
    }

    /// In [`ShareFetchResponse::node_endpoints`].
    NodeEndpoint {
        node_id: i32 [0..];
        host: String [0..];
        port: i32 [0..];
        rack: Option<String> [0.., null 0..];
    }

    /// In [`ShareFetchableTopicResponse::partitions`].
    PartitionData {
        partition_index: i32 [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        acknowledge_error_code: i16 [0..];
        acknowledge_error_message: Option<String> [0.., null 0..];
        current_leader: LeaderIdAndEpoch [0..];
        records: Option<RecordChunks> [0.., null 0..];
        acquired_records: Vec<AcquiredRecords> [0..];
    }

    /// In [`PartitionData::current_leader`].
    LeaderIdAndEpoch {
        leader_id: i32 [0..];
        leader_epoch: i32 [0..];
    }

    /// In [`PartitionData::acquired_records`].
    AcquiredRecords {
        first_offset: i64 [0..];
        last_offset: i64 [0..];
        delivery_count: i16 [0..];
    }
}
