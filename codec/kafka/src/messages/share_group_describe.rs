//! ShareGroupDescribe (77), version 1: describes share groups.
//!
//! - 1: flexible (KIP-932); 0 was Kafka 4.0's early access

use crate::schema::structs;
use crate::wire::Uuid;

structs! {
    /// The request.
    ShareGroupDescribeRequest {
        group_ids: Vec<String> [0..];
        include_authorized_operations: bool [0..];
    }

    /// The response.
    ShareGroupDescribeResponse {
        throttle_time_ms: i32 [0..];
        groups: Vec<DescribedGroup> [0..];
    }

    /// In [`ShareGroupDescribeResponse::groups`].
    DescribedGroup {
        error_code: i16 [0..];
        error_message: Option<String> [0.., null 0..];
        group_id: String [0..];
        group_state: String [0..];
        group_epoch: i32 [0..];
        assignment_epoch: i32 [0..];
        assignor_name: String [0..];
        members: Vec<Member> [0..];
        authorized_operations: i32 [0..] = i32::MIN;
    }

    /// In [`DescribedGroup::members`].
    Member {
        member_id: String [0..];
        rack_id: Option<String> [0.., null 0..];
        member_epoch: i32 [0..];
        client_id: String [0..];
        client_host: String [0..];
        subscribed_topic_names: Vec<String> [0..];
        assignment: Assignment [0..];
    }

    /// In [`Member::assignment`].
    Assignment {
        topic_partitions: Vec<TopicPartitions> [0..];
    }

    /// In [`Assignment::topic_partitions`].
    TopicPartitions {
        topic_id: Uuid [0..];
        topic_name: String [0..];
        partitions: Vec<i32> [0..];
    }
}
