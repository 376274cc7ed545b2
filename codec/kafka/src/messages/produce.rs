//! Produce (0), versions 3 to 13: appends record batches to partitions.
//!
//! - 3: the first that Kafka 4 serves; record batches v2 only. Transactional id (KIP-98)
//! - 5: log start offset in the response
//! - 7: zstd may be used (KIP-110)
//! - 8: which records of a batch were refused, and why (KIP-467)
//! - 9: flexible
//! - 10: the new leader, after an error that says that this is not it (KIP-951)
//! - 12: a transaction's partitions need not be announced by AddPartitionsToTxn first (KIP-890)
//! - 13: topic ids instead of topic names (KIP-516)
//!
//! A response is sent only if `acks` is not 0. Brokers advertise versions from 0 on although they refuse those below 3:
//! librdkafka takes the absence of old versions for a broker that cannot compress (KAFKA-18659).

use bytes::Bytes;

use crate::schema::structs;
use crate::wire::Uuid;

structs! {
    /// The request.
    ProduceRequest {
        transactional_id: Option<String> [0.., null 0..];
        acks: i16 [0..];
        timeout_ms: i32 [0..];
        topic_data: Vec<TopicProduceData> [0..];
    }

    /// In [`ProduceRequest::topic_data`].
    TopicProduceData {
        name: String [..=12];
        topic_id: Uuid [13..];
        partition_data: Vec<PartitionProduceData> [0..];
    }

    /// In [`TopicProduceData::partition_data`].
    PartitionProduceData {
        index: i32 [0..];
        records: Option<Bytes> [0.., null 0..];
    }

    /// The response.
    ProduceResponse {
        responses: Vec<TopicProduceResponse> [0..];
        throttle_time_ms: i32 [0..];
        node_endpoints: Vec<NodeEndpoint> [10.., tag 0];
    }

    /// In [`ProduceResponse::responses`].
    TopicProduceResponse {
        name: String [..=12];
        topic_id: Uuid [13..];
        partition_responses: Vec<PartitionProduceResponse> [0..];
    }

    /// In [`ProduceResponse::node_endpoints`].
    NodeEndpoint {
        node_id: i32 [10..];
        host: String [10..];
        port: i32 [10..];
        rack: Option<String> [10.., null 10..];
    }

    /// In [`TopicProduceResponse::partition_responses`].
    PartitionProduceResponse {
        index: i32 [0..];
        error_code: i16 [0..];
        base_offset: i64 [0..];
        log_append_time_ms: i64 [0..] = -1;
        log_start_offset: i64 [5..] = -1;
        record_errors: Vec<BatchIndexAndErrorMessage> [8..];
        error_message: Option<String> [8.., null 8..];
        current_leader: LeaderIdAndEpoch [10.., tag 0];
    }

    /// In [`PartitionProduceResponse::record_errors`].
    BatchIndexAndErrorMessage {
        batch_index: i32 [8..];
        batch_index_error_message: Option<String> [8.., null 8..];
    }

    /// In [`PartitionProduceResponse::current_leader`].
    LeaderIdAndEpoch {
        leader_id: i32 [10..] = -1;
        leader_epoch: i32 [10..] = -1;
    }
}
