//! DescribeProducers (61), version 0: describes the active producers of partitions.
//!
//! - 0: flexible (KIP-664)

use crate::schema::structs;

structs! {
    /// The request.
    DescribeProducersRequest {
        topics: Vec<TopicRequest> [0..];
    }

    /// In [`DescribeProducersRequest::topics`].
    TopicRequest {
        name: String [0..];
        partition_indexes: Vec<i32> [0..];
    }

    /// The response.
    DescribeProducersResponse {
        throttle_time_ms: i32 [0..];
        topics: Vec<TopicResponse> [0..];
    }

    /// In [`DescribeProducersResponse::topics`].
    TopicResponse {
        name: String [0..];
        partitions: Vec<PartitionResponse> [0..];
    }

    /// In [`TopicResponse::partitions`].
    PartitionResponse {
        partition_index: i32 [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        active_producers: Vec<ProducerState> [0..];
    }

    /// In [`PartitionResponse::active_producers`].
    ProducerState {
        producer_id: i64 [0..];
        producer_epoch: i32 [0..];
        last_sequence: i32 [0..] = -1;
        last_timestamp: i64 [0..] = -1;
        coordinator_epoch: i32 [0..];
        current_txn_start_offset: i64 [0..] = -1;
    }
}
