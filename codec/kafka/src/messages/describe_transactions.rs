//! DescribeTransactions (65), version 0: describes transactions.
//!
//! - 0: flexible (KIP-664)

use crate::schema::structs;

structs! {
    /// The request.
    DescribeTransactionsRequest {
        transactional_ids: Vec<String> [0..];
    }

    /// The response.
    DescribeTransactionsResponse {
        throttle_time_ms: i32 [0..];
        transaction_states: Vec<TransactionState> [0..];
    }

    /// In [`DescribeTransactionsResponse::transaction_states`].
    TransactionState {
        error_code: i16 [0..];
        transactional_id: String [0..];
        transaction_state: String [0..];
        transaction_timeout_ms: i32 [0..];
        transaction_start_time_ms: i64 [0..];
        producer_id: i64 [0..];
        producer_epoch: i16 [0..];
        topics: Vec<TopicData> [0..];
    }

    /// In [`TransactionState::topics`].
    TopicData {
        topic: String [0..];
        partitions: Vec<i32> [0..];
    }
}
