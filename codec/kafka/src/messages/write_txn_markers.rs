//! WriteTxnMarkers (27), version 1: ends transactions on partitions.
//!
//! - 1: the first that Kafka 4 serves; flexible
//!
//! Sent by coordinators, and by tools that abort hanging transactions (KIP-664).

use crate::schema::structs;

structs! {
    /// The request.
    WriteTxnMarkersRequest {
        markers: Vec<WritableTxnMarker> [0..];
    }

    /// In [`WriteTxnMarkersRequest::markers`].
    WritableTxnMarker {
        producer_id: i64 [0..];
        producer_epoch: i16 [0..];
        transaction_result: bool [0..];
        topics: Vec<WritableTxnMarkerTopic> [0..];
        coordinator_epoch: i32 [0..];
    }

    /// In [`WritableTxnMarker::topics`].
    WritableTxnMarkerTopic {
        name: String [0..];
        partition_indexes: Vec<i32> [0..];
    }

    /// The response.
    WriteTxnMarkersResponse {
        markers: Vec<WritableTxnMarkerResult> [0..];
    }

    /// In [`WriteTxnMarkersResponse::markers`].
    WritableTxnMarkerResult {
        producer_id: i64 [0..];
        topics: Vec<WritableTxnMarkerTopicResult> [0..];
    }

    /// In [`WritableTxnMarkerResult::topics`].
    WritableTxnMarkerTopicResult {
        name: String [0..];
        partitions: Vec<WritableTxnMarkerPartitionResult> [0..];
    }

    /// In [`WritableTxnMarkerTopicResult::partitions`].
    WritableTxnMarkerPartitionResult {
        partition_index: i32 [0..];
        error_code: i16 [0..];
    }
}
