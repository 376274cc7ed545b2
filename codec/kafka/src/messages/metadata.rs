//! Metadata (3), versions 0 to 13: describes brokers, topics and partitions.
//!
//! - 1: racks, controller, internal topics; a null list asks for all topics
//! - 2: cluster id
//! - 4: whether topics may be created is asked
//! - 5: offline replicas
//! - 7: leader epoch (KIP-320)
//! - 8: authorized operations (KIP-430)
//! - 9: flexible
//! - 10: topic ids in the response (KIP-516)
//! - 11: authorized operations of the cluster moved to DescribeCluster (KIP-700)
//! - 12: topics asked for by id (KIP-516)
//! - 13: an error of the whole request (KIP-1102)
//!
//! In version 0 an empty list asks for all topics; from version 1 on it asks for none.

use crate::schema::structs;
use crate::wire::Uuid;

structs! {
    /// The request.
    MetadataRequest {
        topics: Option<Vec<MetadataRequestTopic>> [0.., null 1..];
        allow_auto_topic_creation: bool [4..] = true;
        include_cluster_authorized_operations: bool [8..=10];
        include_topic_authorized_operations: bool [8..];
    }

    /// In [`MetadataRequest::topics`].
    MetadataRequestTopic {
        topic_id: Uuid [10..];
        name: Option<String> [0.., null 10..];
    }

    /// The response.
    MetadataResponse {
        throttle_time_ms: i32 [3..];
        brokers: Vec<MetadataResponseBroker> [0..];
        cluster_id: Option<String> [2.., null 2..];
        controller_id: i32 [1..] = -1;
        topics: Vec<MetadataResponseTopic> [0..];
        cluster_authorized_operations: i32 [8..=10] = i32::MIN;
        error_code: i16 [13..];
    }

    /// In [`MetadataResponse::brokers`].
    MetadataResponseBroker {
        node_id: i32 [0..];
        host: String [0..];
        port: i32 [0..];
        rack: Option<String> [1.., null 1..];
    }

    /// In [`MetadataResponse::topics`].
    MetadataResponseTopic {
        error_code: i16 [0..];
        name: Option<String> [0.., null 12..];
        topic_id: Uuid [10..];
        is_internal: bool [1..];
        partitions: Vec<MetadataResponsePartition> [0..];
        topic_authorized_operations: i32 [8..] = i32::MIN;
    }

    /// In [`MetadataResponseTopic::partitions`].
    MetadataResponsePartition {
        error_code: i16 [0..];
        partition_index: i32 [0..];
        leader_id: i32 [0..];
        leader_epoch: i32 [7..] = -1;
        replica_nodes: Vec<i32> [0..];
        isr_nodes: Vec<i32> [0..];
        offline_replicas: Vec<i32> [5..];
    }
}
