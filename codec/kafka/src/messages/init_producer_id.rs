//! InitProducerId (22), versions 0 to 5: gives a producer its id and epoch.
//!
//! - 0: (KIP-98)
//! - 2: flexible
//! - 3: the producer may name its id and epoch, to have the epoch raised (KIP-360)
//! - 4: PRODUCER_FENCED (KIP-588)
//! - 5: for the transactions of KIP-890
//!
//! Version 6 (two-phase commit) is not stable in Kafka 4.1, and not declared here.

use crate::schema::structs;

structs! {
    /// The request.
    InitProducerIdRequest {
        transactional_id: Option<String> [0.., null 0..];
        transaction_timeout_ms: i32 [0..];
        producer_id: i64 [3..] = -1;
        producer_epoch: i16 [3..] = -1;
    }

    /// The response.
    InitProducerIdResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [0..];
        producer_id: i64 [0..] = -1;
        producer_epoch: i16 [0..];
    }
}
