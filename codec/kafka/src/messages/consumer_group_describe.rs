//! ConsumerGroupDescribe (69), versions 0 to 1: describes consumer groups of KIP-848.
//!
//! - 0: flexible (KIP-848)
//! - 1: member type (KIP-1099)
//!
//! Member types: 0 classic, 1 consumer, -1 unknown.

use crate::schema::structs;
use crate::wire::Uuid;

structs! {
    /// The request.
    ConsumerGroupDescribeRequest {
        group_ids: Vec<String> [0..];
        include_authorized_operations: bool [0..];
    }

    /// The response.
    ConsumerGroupDescribeResponse {
        throttle_time_ms: i32 [0..];
        groups: Vec<DescribedGroup> [0..];
    }

    /// In [`ConsumerGroupDescribeResponse::groups`].
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
        instance_id: Option<String> [0.., null 0..];
        rack_id: Option<String> [0.., null 0..];
        member_epoch: i32 [0..];
        client_id: String [0..];
        client_host: String [0..];
        subscribed_topic_names: Vec<String> [0..];
        subscribed_topic_regex: Option<String> [0.., null 0..];
        assignment: Assignment [0..];
        target_assignment: Assignment [0..];
        member_type: i8 [1..] = -1;
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
