//! CreatePartitions (37), versions 0 to 3: adds partitions to topics.
//!
//! - 0: (KIP-195)
//! - 2: flexible
//! - 3: quota errors (KIP-599)
//!
//! `count` is the new total.

use crate::schema::structs;

structs! {
    /// The request.
    CreatePartitionsRequest {
        topics: Vec<CreatePartitionsTopic> [0..];
        timeout_ms: i32 [0..];
        validate_only: bool [0..];
    }

    /// In [`CreatePartitionsRequest::topics`].
    CreatePartitionsTopic {
        name: String [0..];
        count: i32 [0..];
        assignments: Option<Vec<CreatePartitionsAssignment>> [0.., null 0..];
    }

    /// In [`CreatePartitionsTopic::assignments`].
    CreatePartitionsAssignment {
        broker_ids: Vec<i32> [0..];
    }

    /// The response.
    CreatePartitionsResponse {
        throttle_time_ms: i32 [0..];
        results: Vec<CreatePartitionsTopicResult> [0..];
    }

    /// In [`CreatePartitionsResponse::results`].
    CreatePartitionsTopicResult {
        name: String [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
    }
}
