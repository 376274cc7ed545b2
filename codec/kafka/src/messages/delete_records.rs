//! DeleteRecords (21), versions 0 to 2: deletes the records before an offset.
//!
//! - 0: (KIP-107)
//! - 2: flexible
//!
//! Offset -1 stands for the high watermark.

use crate::schema::structs;

structs! {
    /// The request.
    DeleteRecordsRequest {
        topics: Vec<DeleteRecordsTopic> [0..];
        timeout_ms: i32 [0..];
    }

    /// In [`DeleteRecordsRequest::topics`].
    DeleteRecordsTopic {
        name: String [0..];
        partitions: Vec<DeleteRecordsPartition> [0..];
    }

    /// In [`DeleteRecordsTopic::partitions`].
    DeleteRecordsPartition {
        partition_index: i32 [0..];
        offset: i64 [0..];
    }

    /// The response.
    DeleteRecordsResponse {
        throttle_time_ms: i32 [0..];
        topics: Vec<DeleteRecordsTopicResult> [0..];
    }

    /// In [`DeleteRecordsResponse::topics`].
    DeleteRecordsTopicResult {
        name: String [0..];
        partitions: Vec<DeleteRecordsPartitionResult> [0..];
    }

    /// In [`DeleteRecordsTopicResult::partitions`].
    DeleteRecordsPartitionResult {
        partition_index: i32 [0..];
        low_watermark: i64 [0..];
        error_code: i16 [0..];
    }
}
