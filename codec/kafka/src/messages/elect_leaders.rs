//! ElectLeaders (43), versions 0 to 2: elects leaders of partitions.
//!
//! - 0: preferred leaders (KIP-183)
//! - 1: election type, unclean elections (KIP-460)
//! - 2: flexible
//!
//! A null list of topics asks for all partitions. Election types: 0 preferred, 1 unclean.

use crate::schema::structs;

structs! {
    /// The request.
    ElectLeadersRequest {
        election_type: i8 [1..];
        topic_partitions: Option<Vec<TopicPartitions>> [0.., null 0..];
        timeout_ms: i32 [0..] = 60000;
    }

    /// In [`ElectLeadersRequest::topic_partitions`].
    TopicPartitions {
        topic: String [0..];
        partitions: Vec<i32> [0..];
    }

    /// The response.
    ElectLeadersResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [1..];
        replica_election_results: Vec<ReplicaElectionResult> [0..];
    }

    /// In [`ElectLeadersResponse::replica_election_results`].
    ReplicaElectionResult {
        topic: String [0..];
        partition_result: Vec<PartitionResult> [0..];
    }

    /// In [`ReplicaElectionResult::partition_result`].
    PartitionResult {
        partition_id: i32 [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
    }
}
