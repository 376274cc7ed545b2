//! DescribeQuorum (55), versions 0 to 2: describes who keeps the cluster's metadata.
//!
//! - 0: flexible (KIP-595)
//! - 1: when each was heard of last (KIP-836)
//! - 2: directories, nodes and error messages (KIP-853)

use crate::schema::structs;
use crate::wire::Uuid;

structs! {
    /// The request.
    DescribeQuorumRequest {
        topics: Vec<TopicRequest> [0..];
    }

    /// In [`DescribeQuorumRequest::topics`].
    TopicRequest {
        topic_name: String [0..];
        partitions: Vec<PartitionRequest> [0..];
    }

    /// In [`TopicRequest::partitions`].
    PartitionRequest {
        partition_index: i32 [0..];
    }

    /// The response.
    DescribeQuorumResponse {
        error_code: i16 [0..];
        error_message: Option<String> [2.., null 2..];
        topics: Vec<TopicData> [0..];
        nodes: Vec<Node> [2..];
    }

    /// In [`DescribeQuorumResponse::topics`].
    TopicData {
        topic_name: String [0..];
        partitions: Vec<PartitionData> [0..];
    }

    /// In [`TopicData::partitions`].
    PartitionData {
        partition_index: i32 [0..];
        error_code: i16 [0..];
        error_message: Option<String> [2.., null 2..];
        leader_id: i32 [0..];
        leader_epoch: i32 [0..];
        high_watermark: i64 [0..];
        current_voters: Vec<ReplicaState> [0..];
        observers: Vec<ReplicaState> [0..];
    }

    /// In [`PartitionData::current_voters`] and [`PartitionData::observers`].
    ReplicaState {
        replica_id: i32 [0..];
        replica_directory_id: Uuid [2..];
        log_end_offset: i64 [0..];
        last_fetch_timestamp: i64 [1..] = -1;
        last_caught_up_timestamp: i64 [1..] = -1;
    }

    /// In [`DescribeQuorumResponse::nodes`].
    Node {
        node_id: i32 [2..];
        listeners: Vec<Listener> [2..];
    }

    /// In [`Node::listeners`].
    Listener {
        name: String [2..];
        host: String [2..];
        port: u16 [2..];
    }
}
