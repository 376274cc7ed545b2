//! TxnOffsetCommit (28), versions 0 to 5: stores positions of a group as part of a transaction.
//!
//! - 0: (KIP-98)
//! - 2: leader epoch (KIP-320)
//! - 3: flexible; member and generation (KIP-447)
//! - 4: TRANSACTION_ABORTABLE (KIP-890)
//! - 5: AddOffsetsToTxn is not needed before (KIP-890)

use crate::schema::structs;

structs! {
    /// The request.
    TxnOffsetCommitRequest {
        transactional_id: String [0..];
        group_id: String [0..];
        producer_id: i64 [0..];
        producer_epoch: i16 [0..];
        generation_id: i32 [3..] = -1;
        member_id: String [3..];
        group_instance_id: Option<String> [3.., null 3..];
        topics: Vec<TxnOffsetCommitRequestTopic> [0..];
    }

    /// In [`TxnOffsetCommitRequest::topics`].
    TxnOffsetCommitRequestTopic {
        name: String [0..];
        partitions: Vec<TxnOffsetCommitRequestPartition> [0..];
    }

    /// In [`TxnOffsetCommitRequestTopic::partitions`].
    TxnOffsetCommitRequestPartition {
        partition_index: i32 [0..];
        committed_offset: i64 [0..];
        committed_leader_epoch: i32 [2..] = -1;
        committed_metadata: Option<String> [0.., null 0..];
    }

    /// The response.
    TxnOffsetCommitResponse {
        throttle_time_ms: i32 [0..];
        topics: Vec<TxnOffsetCommitResponseTopic> [0..];
    }

    /// In [`TxnOffsetCommitResponse::topics`].
    TxnOffsetCommitResponseTopic {
        name: String [0..];
        partitions: Vec<TxnOffsetCommitResponsePartition> [0..];
    }

    /// In [`TxnOffsetCommitResponseTopic::partitions`].
    TxnOffsetCommitResponsePartition {
        partition_index: i32 [0..];
        error_code: i16 [0..];
    }
}
