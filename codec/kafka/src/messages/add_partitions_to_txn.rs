//! AddPartitionsToTxn (24), versions 0 to 5: adds partitions to a transaction.
//!
//! - 0: (KIP-98)
//! - 2: PRODUCER_FENCED (KIP-588)
//! - 3: flexible
//! - 4: several transactions, from brokers only; may only verify (KIP-890)
//! - 5: TRANSACTION_ABORTABLE (KIP-890)
//!
//! Clients use versions up to 3, and the fields `v3_and_below_…`.

use crate::schema::structs;

structs! {
    /// The request.
    AddPartitionsToTxnRequest {
        transactions: Vec<AddPartitionsToTxnTransaction> [4..];
        v3_and_below_transactional_id: String [..=3];
        v3_and_below_producer_id: i64 [..=3];
        v3_and_below_producer_epoch: i16 [..=3];
        v3_and_below_topics: Vec<AddPartitionsToTxnTopic> [..=3];
    }

    /// In [`AddPartitionsToTxnRequest::transactions`].
    AddPartitionsToTxnTransaction {
        transactional_id: String [4..];
        producer_id: i64 [4..];
        producer_epoch: i16 [4..];
        verify_only: bool [4..];
        topics: Vec<AddPartitionsToTxnTopic> [4..];
    }

    /// In [`AddPartitionsToTxnRequest::v3_and_below_topics`].
    AddPartitionsToTxnTopic {
        name: String [0..];
        partitions: Vec<i32> [0..];
    }

    /// The response.
    AddPartitionsToTxnResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [4..];
        results_by_transaction: Vec<AddPartitionsToTxnResult> [4..];
        results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult> [..=3];
    }

    /// In [`AddPartitionsToTxnResponse::results_by_transaction`].
    AddPartitionsToTxnResult {
        transactional_id: String [4..];
        topic_results: Vec<AddPartitionsToTxnTopicResult> [4..];
    }

    /// In [`AddPartitionsToTxnResponse::results_by_topic_v3_and_below`].
    AddPartitionsToTxnTopicResult {
        name: String [0..];
        results_by_partition: Vec<AddPartitionsToTxnPartitionResult> [0..];
    }

    /// In [`AddPartitionsToTxnTopicResult::results_by_partition`].
    AddPartitionsToTxnPartitionResult {
        partition_index: i32 [0..];
        partition_error_code: i16 [0..];
    }
}
