//! ShareGroupHeartbeat (76), version 1: joins, keeps and leaves a share group.
//!
//! - 1: flexible (KIP-932); 0 was Kafka 4.0's early access
//!
//! Member epochs: 0 joins, -1 leaves. Null means unchanged.

use crate::schema::structs;
use crate::wire::Uuid;

structs! {
    /// The request.
    ShareGroupHeartbeatRequest {
        group_id: String [0..];
        member_id: String [0..];
        member_epoch: i32 [0..];
        rack_id: Option<String> [0.., null 0..];
        subscribed_topic_names: Option<Vec<String>> [0.., null 0..];
    }

    /// The response.
    ShareGroupHeartbeatResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        member_id: Option<String> [0.., null 0..];
        member_epoch: i32 [0..];
        heartbeat_interval_ms: i32 [0..];
        assignment: Option<Assignment> [0.., null 0..];
    }

    /// In [`ShareGroupHeartbeatResponse::assignment`].
    Assignment {
        topic_partitions: Vec<TopicPartitions> [0..];
    }

    /// In [`Assignment::topic_partitions`].
    TopicPartitions {
        topic_id: Uuid [0..];
        partitions: Vec<i32> [0..];
    }
}
