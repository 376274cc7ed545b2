//! ConsumerGroupHeartbeat (68), versions 0 to 1: joins, keeps and leaves a consumer group whose assignments the
//! broker makes.
//!
//! - 0: flexible (KIP-848)
//! - 1: subscription by a regular expression; the client makes its member id (KIP-848, KIP-1082)
//!
//! Member epochs: 0 joins, -1 leaves, -2 leaves for a while as a static member. Null means unchanged.

use crate::schema::structs;
use crate::wire::Uuid;

structs! {
    /// The request.
    ConsumerGroupHeartbeatRequest {
        group_id: String [0..];
        member_id: String [0..];
        member_epoch: i32 [0..];
        instance_id: Option<String> [0.., null 0..];
        rack_id: Option<String> [0.., null 0..];
        rebalance_timeout_ms: i32 [0..] = -1;
        subscribed_topic_names: Option<Vec<String>> [0.., null 0..];
        subscribed_topic_regex: Option<String> [1.., null 1..];
        server_assignor: Option<String> [0.., null 0..];
        topic_partitions: Option<Vec<TopicPartitions>> [0.., null 0..];
    }

    /// In [`ConsumerGroupHeartbeatRequest::topic_partitions`].
    TopicPartitions {
        topic_id: Uuid [0..];
        partitions: Vec<i32> [0..];
    }

    /// The response.
    ConsumerGroupHeartbeatResponse {
        throttle_time_ms: i32 [0..];
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        member_id: Option<String> [0.., null 0..];
        member_epoch: i32 [0..];
        heartbeat_interval_ms: i32 [0..];
        assignment: Option<Assignment> [0.., null 0..];
    }

    /// In [`ConsumerGroupHeartbeatResponse::assignment`].
    Assignment {
        topic_partitions: Vec<TopicPartitions> [0..];
    }
}
