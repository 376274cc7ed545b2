//! AlterReplicaLogDirs (34), versions 1 to 2: moves replicas to other directories of a broker.
//!
//! - 1: the first that Kafka 4 serves (KIP-113)
//! - 2: flexible

use crate::schema::structs;

structs! {
    /// The request.
    AlterReplicaLogDirsRequest {
        dirs: Vec<AlterReplicaLogDir> [0..];
    }

    /// In [`AlterReplicaLogDirsRequest::dirs`].
    AlterReplicaLogDir {
        path: String [0..];
        topics: Vec<AlterReplicaLogDirTopic> [0..];
    }

    /// In [`AlterReplicaLogDir::topics`].
    AlterReplicaLogDirTopic {
        name: String [0..];
        partitions: Vec<i32> [0..];
    }

    /// The response.
    AlterReplicaLogDirsResponse {
        throttle_time_ms: i32 [0..];
        results: Vec<AlterReplicaLogDirTopicResult> [0..];
    }

    /// In [`AlterReplicaLogDirsResponse::results`].
    AlterReplicaLogDirTopicResult {
        topic_name: String [0..];
        partitions: Vec<AlterReplicaLogDirPartitionResult> [0..];
    }

    /// In [`AlterReplicaLogDirTopicResult::partitions`].
    AlterReplicaLogDirPartitionResult {
        partition_index: i32 [0..];
        error_code: i16 [0..];
    }
}
