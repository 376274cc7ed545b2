//! ListTransactions (66), versions 0 to 2: lists transactions.
//!
//! - 0: flexible (KIP-664)
//! - 1: filter by duration (KIP-994)
//! - 2: filter by a pattern of transactional ids (KIP-1152)

use crate::schema::structs;

structs! {
    /// The request.
    ListTransactionsRequest {
        state_filters: Vec<String> [0..];
        producer_id_filters: Vec<i64> [0..];
        duration_filter: i64 [1..] = -1;
        transactional_id_pattern: Option<String> [2.., null 2..];
    }

    /// The response.
    ListTransactionsResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [0..];
        unknown_state_filters: Vec<String> [0..];
        transaction_states: Vec<TransactionState> [0..];
    }

    /// In [`ListTransactionsResponse::transaction_states`].
    TransactionState {
        transactional_id: String [0..];
        producer_id: i64 [0..];
        transaction_state: String [0..];
    }
}
