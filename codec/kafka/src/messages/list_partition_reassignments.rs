//! ListPartitionReassignments (46), version 0: lists moves of partitions under way.
//!
//! - 0: flexible (KIP-455)

use crate::schema::structs;

structs! {
    /// The request.
    ListPartitionReassignmentsRequest {
        timeout_ms: i32 [0..] = 60000;
        topics: Option<Vec<ListPartitionReassignmentsTopics>> [0.., null 0..];
    }

    /// In [`ListPartitionReassignmentsRequest::topics`].
    ListPartitionReassignmentsTopics {
        name: String [0..];
        partition_indexes: Vec<i32> [0..];
    }

    /// The response.
    ListPartitionReassignmentsResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        topics: Vec<OngoingTopicReassignment> [0..];
    }

    /// In [`ListPartitionReassignmentsResponse::topics`].
    OngoingTopicReassignment {
        name: String [0..];
        partitions: Vec<OngoingPartitionReassignment> [0..];
    }

    /// In [`OngoingTopicReassignment::partitions`].
    OngoingPartitionReassignment {
        partition_index: i32 [0..];
        replicas: Vec<i32> [0..];
        adding_replicas: Vec<i32> [0..];
        removing_replicas: Vec<i32> [0..];
    }
}
