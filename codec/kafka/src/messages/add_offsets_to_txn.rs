//! AddOffsetsToTxn (25), versions 0 to 4: adds the positions of a group to a transaction.
//!
//! - 0: (KIP-98)
//! - 2: PRODUCER_FENCED (KIP-588)
//! - 3: flexible
//! - 4: TRANSACTION_ABORTABLE (KIP-890)

use crate::schema::structs;

structs! {
    /// The request.
    AddOffsetsToTxnRequest {
        transactional_id: String [0..];
        producer_id: i64 [0..];
        producer_epoch: i16 [0..];
        group_id: String [0..];
    }

    /// The response.
    AddOffsetsToTxnResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [0..];
    }
}
