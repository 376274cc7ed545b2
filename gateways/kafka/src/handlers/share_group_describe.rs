//! ShareGroupDescribe (77), version 1: describes share groups, empty ones too (KIP-932).

use std::collections::BTreeMap;
use std::sync::Arc;

use codec_kafka::messages::share_group_describe::{
    Assignment, DescribedGroup, Member, ShareGroupDescribeRequest, ShareGroupDescribeResponse, TopicPartitions,
};
use core_rpc::{Core, TopicId};

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource};
use crate::state::share_groups::{assignor, group::MemberDescription};
use crate::translate::uuid;

/// What can be done with a group, as bits numbered by Kafka's ACL operations: READ 3, DELETE 6, DESCRIBE 8,
/// DESCRIBE_CONFIGS 10, ALTER_CONFIGS 11.
const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

pub async fn handle<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: ShareGroupDescribeRequest,
) -> ShareGroupDescribeResponse {
    let mut groups = Vec::with_capacity(request.group_ids.len());
    for group_id in request.group_ids {
        let resource_id = group_id.clone();
        let resource = Resource::Group(&resource_id);
        if let Err(code) = gateway.check(context, Operation::Describe, resource) {
            groups.push(refused(group_id, code));
            continue;
        }
        let mut group = describe(gateway, group_id).await;
        if request.include_authorized_operations && group.error_code == ErrorCode::None.code() {
            group.authorized_operations = gateway.security.operations(&context.peer, GROUP_OPERATIONS, resource);
        }
        groups.push(group);
    }
    ShareGroupDescribeResponse { groups, ..Default::default() }
}

fn refused(group_id: String, code: ErrorCode) -> DescribedGroup {
    DescribedGroup { error_code: code.code(), error_message: code.text(), group_id, ..Default::default() }
}

async fn describe<C: Core>(gateway: &Arc<Gateway<C>>, group_id: String) -> DescribedGroup {
    if !gateway.groups.coordinates(&group_id) {
        return refused(group_id, ErrorCode::NotCoordinator);
    }
    let description = match gateway.share_group(&group_id).await {
        Ok(Some(description)) => description,
        Ok(None) => {
            return DescribedGroup {
                error_message: Some(format!("Group {group_id} not found.")),
                ..refused(group_id, ErrorCode::GroupIdNotFound)
            };
        }
        Err(code) => return refused(group_id, code),
    };
    DescribedGroup {
        group_id,
        group_state: if description.members.is_empty() { "Empty" } else { "Stable" }.to_owned(),
        group_epoch: description.epoch,
        assignment_epoch: description.epoch,
        assignor_name: assignor::NAME.to_owned(),
        members: description.members.into_iter().map(|member| describe_member(gateway, member)).collect(),
        ..Default::default()
    }
}

fn describe_member<C: Core>(gateway: &Gateway<C>, member: MemberDescription) -> Member {
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for partition in &member.assignment {
        topics.entry(partition.topic).or_default().push(partition.index as i32);
    }
    let named = |(topic, partitions)| {
        let topic_name = gateway.topic_by_id(topic)?.topic.name.clone();
        Some(TopicPartitions { topic_id: uuid(topic), topic_name, partitions })
    };
    Member {
        member_id: member.id,
        rack_id: member.rack,
        member_epoch: member.epoch,
        client_id: member.client_id,
        client_host: member.client_host,
        subscribed_topic_names: member.subscription,
        assignment: Assignment { topic_partitions: topics.into_iter().filter_map(named).collect() },
    }
}
