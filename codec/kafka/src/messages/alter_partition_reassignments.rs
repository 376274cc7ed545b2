//! AlterPartitionReassignments (45), versions 0 to 1: moves partitions to other brokers.
//!
//! - 0: flexible (KIP-455)
//! - 1: may forbid changes of the replication factor (KIP-860)
//!
//! Null replicas cancel a move.

use crate::schema::structs;

structs! {
    /// The request.
    AlterPartitionReassignmentsRequest {
        timeout_ms: i32 [0..] = 60000;
        allow_replication_factor_change: bool [1..] = true;
        topics: Vec<ReassignableTopic> [0..];
    }

    /// In [`AlterPartitionReassignmentsRequest::topics`].
    ReassignableTopic {
        name: String [0..];
        partitions: Vec<ReassignablePartition> [0..];
    }

    /// In [`ReassignableTopic::partitions`].
    ReassignablePartition {
        partition_index: i32 [0..];
        replicas: Option<Vec<i32>> [0.., null 0..];
    }

    /// The response.
    AlterPartitionReassignmentsResponse {
        throttle_time_ms: i32 [0..];
        allow_replication_factor_change: bool [1..] = true;
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        responses: Vec<ReassignableTopicResponse> [0..];
    }

    /// In [`AlterPartitionReassignmentsResponse::responses`].
    ReassignableTopicResponse {
        name: String [0..];
        partitions: Vec<ReassignablePartitionResponse> [0..];
    }

    /// In [`ReassignableTopicResponse::partitions`].
    ReassignablePartitionResponse {
        partition_index: i32 [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
    }
}
