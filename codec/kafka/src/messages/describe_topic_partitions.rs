//! DescribeTopicPartitions (75), version 0: describes topics page by page.
//!
//! - 0: flexible (KIP-966)
//!
//! The cursor says where the next page begins.

use crate::schema::structs;
use crate::wire::Uuid;

structs! {
    /// The request.
    DescribeTopicPartitionsRequest {
        topics: Vec<TopicRequest> [0..];
        response_partition_limit: i32 [0..] = 2000;
        cursor: Option<Cursor> [0.., null 0..];
    }

    /// In [`DescribeTopicPartitionsRequest::topics`].
    TopicRequest {
        name: String [0..];
    }

    /// In [`DescribeTopicPartitionsRequest::cursor`].
    Cursor {
        topic_name: String [0..];
        partition_index: i32 [0..];
    }

    /// The response.
    DescribeTopicPartitionsResponse {
        throttle_time_ms: i32 [0..];
        topics: Vec<DescribeTopicPartitionsResponseTopic> [0..];
        next_cursor: Option<Cursor> [0.., null 0..];
    }

    /// In [`DescribeTopicPartitionsResponse::topics`].
    DescribeTopicPartitionsResponseTopic {
        error_code: i16 [0..];
        name: Option<String> [0.., null 0..];
        topic_id: Uuid [0..];
        is_internal: bool [0..];
        partitions: Vec<DescribeTopicPartitionsResponsePartition> [0..];
        topic_authorized_operations: i32 [0..] = i32::MIN;
    }

    /// In [`DescribeTopicPartitionsResponseTopic::partitions`].
    DescribeTopicPartitionsResponsePartition {
        error_code: i16 [0..];
        partition_index: i32 [0..];
        leader_id: i32 [0..];
        leader_epoch: i32 [0..] = -1;
        replica_nodes: Vec<i32> [0..];
        isr_nodes: Vec<i32> [0..];
        eligible_leader_replicas: Option<Vec<i32>> [0.., null 0..];
        last_known_elr: Option<Vec<i32>> [0.., null 0..];
        offline_replicas: Vec<i32> [0..];
    }
}
