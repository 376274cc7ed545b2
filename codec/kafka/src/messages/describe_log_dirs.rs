//! DescribeLogDirs (35), versions 1 to 4: describes log directories and the sizes of partitions.
//!
//! - 1: the first that Kafka 4 serves
//! - 2: flexible
//! - 3: an error of the whole request
//! - 4: sizes of the volume (KIP-827)

use crate::schema::structs;

structs! {
    /// The request.
    DescribeLogDirsRequest {
        topics: Option<Vec<DescribableLogDirTopic>> [0.., null 0..];
    }

    /// In [`DescribeLogDirsRequest::topics`].
    DescribableLogDirTopic {
        topic: String [0..];
        partitions: Vec<i32> [0..];
    }

    /// The response.
    DescribeLogDirsResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [3..];
        results: Vec<DescribeLogDirsResult> [0..];
    }

    /// In [`DescribeLogDirsResponse::results`].
    DescribeLogDirsResult {
        error_code: i16 [0..];
        log_dir: String [0..];
        topics: Vec<DescribeLogDirsTopic> [0..];
        total_bytes: i64 [4..] = -1;
        usable_bytes: i64 [4..] = -1;
    }

    /// In [`DescribeLogDirsResult::topics`].
    DescribeLogDirsTopic {
        name: String [0..];
        partitions: Vec<DescribeLogDirsPartition> [0..];
    }

    /// In [`DescribeLogDirsTopic::partitions`].
    DescribeLogDirsPartition {
        partition_index: i32 [0..];
        partition_size: i64 [0..];
        offset_lag: i64 [0..];
        is_future_key: bool [0..];
    }
}
