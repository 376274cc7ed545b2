//! ShareAcknowledge (79), version 1: settles acquired records.
//!
//! - 1: flexible (KIP-932); 0 was Kafka 4.0's early access
//!
//! Acknowledge types: 0 gap, 1 accept, 2 release, 3 reject.

use crate::schema::structs;
use crate::wire::Uuid;

structs! {
    /// The request.
    ShareAcknowledgeRequest {
        group_id: Option<String> [0.., null 0..];
        member_id: Option<String> [0.., null 0..];
        share_session_epoch: i32 [0..];
        topics: Vec<AcknowledgeTopic> [0..];
    }

    /// In [`ShareAcknowledgeRequest::topics`].
    AcknowledgeTopic {
        topic_id: Uuid [0..];
        partitions: Vec<AcknowledgePartition> [0..];
    }

    /// In [`AcknowledgeTopic::partitions`].
    AcknowledgePartition {
        partition_index: i32 [0..];
        acknowledgement_batches: Vec<AcknowledgementBatch> [0..];
    }

    /// In [`AcknowledgePartition::acknowledgement_batches`].
    AcknowledgementBatch {
        first_offset: i64 [0..];
        last_offset: i64 [0..];
        acknowledge_types: Vec<i8> [0..];
    }

    /// The response.
    ShareAcknowledgeResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        responses: Vec<ShareAcknowledgeTopicResponse> [0..];
        node_endpoints: Vec<NodeEndpoint> [0..];
    }

    /// In [`ShareAcknowledgeResponse::responses`].
    ShareAcknowledgeTopicResponse {
        topic_id: Uuid [0..];
        partitions: Vec<PartitionData> [0..];
    }

    /// In [`ShareAcknowledgeResponse::node_endpoints`].
    NodeEndpoint {
        node_id: i32 [0..];
        host: String [0..];
        port: i32 [0..];
        rack: Option<String> [0.., null 0..];
    }

    /// In [`ShareAcknowledgeTopicResponse::partitions`].
    PartitionData {
        partition_index: i32 [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        current_leader: LeaderIdAndEpoch [0..];
    }

    /// In [`PartitionData::current_leader`].
    LeaderIdAndEpoch {
        leader_id: i32 [0..];
        leader_epoch: i32 [0..];
    }
}
