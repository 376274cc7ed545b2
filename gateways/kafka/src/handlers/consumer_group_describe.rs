//! ConsumerGroupDescribe (69), versions 0 to 1: a consumer group's state and its members (KIP-848).
//!
//! - Version 1 (KIP-1099): the protocol that each member speaks.
//! - A classic group, and an unknown one, is GROUP_ID_NOT_FOUND: clients then ask by DescribeGroups.

use std::sync::Arc;

use codec_kafka::messages::consumer_group_describe::{
    Assignment, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribedGroup, Member, TopicPartitions,
};
use core_rpc::Core;

use super::Context;
use super::describe_groups::GROUP_OPERATIONS;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::consumer_groups::{ConsumerGroupDescription, ConsumerMemberDescription, Partitions};
use crate::state::groups::GroupError;
use crate::state::security::{Operation, Resource};
use crate::translate::uuid;

/// The types of members, as the wire numbers them.
const CLASSIC_MEMBER: i8 = 0;
const CONSUMER_MEMBER: i8 = 1;

pub async fn handle<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let mut groups = Vec::with_capacity(request.group_ids.len());
    for id in request.group_ids {
        if let Err(code) = gateway.check(context, Operation::Describe, Resource::Group(&id)) {
            groups.push(DescribedGroup { group_id: id, error_code: code.code(), ..Default::default() });
            continue;
        }
        let described = match id.is_empty() {
            true => Err(GroupError::InvalidGroupId),
            false => gateway.groups.describe_consumer_group(&id).await,
        };
        let mut group = match described {
            Ok(description) if !may_know_topics(gateway, context, &description) => DescribedGroup {
                group_id: id,
                error_code: ErrorCode::TopicAuthorizationFailed.code(),
                error_message: Some("The group has described topic(s) that the client is not authorized to describe.".into()),
                ..Default::default()
            },
            Ok(description) => group(gateway, id, description),
            Err(error) => refused(id, error),
        };
        if request.include_authorized_operations && group.error_code == ErrorCode::None.code() {
            let resource = Resource::Group(&group.group_id);
            group.authorized_operations = gateway.security.operations(&context.peer, GROUP_OPERATIONS, resource);
        }
        groups.push(group);
    }
    ConsumerGroupDescribeResponse { groups, ..Default::default() }
}

/// Whether the client may know of all topics that members name, have and are to have.
fn may_know_topics<C: Core>(gateway: &Gateway<C>, context: &Context, group: &ConsumerGroupDescription) -> bool {
    let may_know = |name: &str| gateway.check(context, Operation::Describe, Resource::Topic(name)).is_ok();
    group.members.iter().all(|member| {
        let mut ids = member.assigned.by_topic().chain(member.target.by_topic()).map(|(id, _)| id);
        member.topics.iter().all(|name| may_know(name))
            && ids.all(|id| gateway.topic_by_id(id).is_none_or(|topic| may_know(&topic.topic.name)))
    })
}

fn refused(group_id: String, error: GroupError) -> DescribedGroup {
    let message = match error {
        GroupError::GroupNotFound => format!("Group {group_id} not found."),
        GroupError::NotAConsumerGroup => format!("Group {group_id} is not a consumer group."),
        error => error.to_string(),
    };
    let error_code = ErrorCode::from(error).code();
    DescribedGroup { group_id, error_code, error_message: Some(message), ..Default::default() }
}

fn group<C: Core>(gateway: &Gateway<C>, group_id: String, group: ConsumerGroupDescription) -> DescribedGroup {
    DescribedGroup {
        group_id,
        group_state: group.state.name().to_owned(),
        group_epoch: group.epoch,
        assignment_epoch: group.assignment_epoch,
        assignor_name: group.assignor.name().to_owned(),
        members: group.members.into_iter().map(|described| member(gateway, described)).collect(),
        ..Default::default()
    }
}

fn member<C: Core>(gateway: &Gateway<C>, member: ConsumerMemberDescription) -> Member {
    Member {
        member_id: member.id,
        instance_id: member.instance_id,
        rack_id: member.rack_id,
        member_epoch: member.epoch,
        client_id: member.client_id,
        client_host: member.client_host,
        subscribed_topic_names: member.topics.to_vec(),
        // Clients of Kafka 4.1 expect text.
        subscribed_topic_regex: Some(member.regex.unwrap_or_default()),
        assignment: assignment(gateway, &member.assigned),
        target_assignment: assignment(gateway, &member.target),
        member_type: if member.is_classic { CLASSIC_MEMBER } else { CONSUMER_MEMBER },
    }
}

/// Topics that were deleted meanwhile are left out: they have no name.
fn assignment<C: Core>(gateway: &Gateway<C>, partitions: &Partitions) -> Assignment {
    let topics = partitions.by_topic().filter_map(|(id, indexes)| {
        Some(TopicPartitions {
            topic_id: uuid(id),
            topic_name: gateway.topic_by_id(id)?.topic.name.clone(),
            partitions: indexes.iter().map(|index| *index as i32).collect(),
        })
    });
    Assignment { topic_partitions: topics.collect() }
}
