//! EndTxn (26), versions 0 to 5: commits or aborts a transaction.
//!
//! - 0: (KIP-98)
//! - 2: PRODUCER_FENCED (KIP-588)
//! - 3: flexible
//! - 4: TRANSACTION_ABORTABLE (KIP-890)
//! - 5: raises the producer's epoch, which the response returns (KIP-890)

use crate::schema::structs;

structs! {
    /// The request.
    EndTxnRequest {
        transactional_id: String [0..];
        producer_id: i64 [0..];
        producer_epoch: i16 [0..];
        committed: bool [0..];
    }

    /// The response.
    EndTxnResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [0..];
        producer_id: i64 [5..] = -1;
        producer_epoch: i16 [5..] = -1;
    }
}
