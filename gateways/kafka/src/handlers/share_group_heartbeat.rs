//! ShareGroupHeartbeat (76), version 1: joins, keeps and leaves a share group (KIP-932).
//!
//! - A member that this gateway does not know (it has taken the group over) gets UNKNOWN_MEMBER_ID and joins again.
//! - A group id that members of another kind of group use: GROUP_ID_NOT_FOUND.

use std::collections::BTreeMap;
use std::sync::Arc;

use codec_kafka::messages::share_group_heartbeat::{
    Assignment, ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse, TopicPartitions,
};
use core_rpc::{Core, TopicId};

use super::Context;
use crate::Gateway;
use crate::errors::{ErrorCode, Refusal};
use crate::state::groups::GroupError;
use crate::state::security::{Operation, Resource};
use crate::state::share_groups::{assignor, group::Heartbeat};
use crate::translate::uuid;

pub async fn handle<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: ShareGroupHeartbeatRequest,
) -> ShareGroupHeartbeatResponse {
    beat(gateway, context, request).await.unwrap_or_else(|refusal| ShareGroupHeartbeatResponse {
        error_code: refusal.code.code(),
        error_message: Some(refusal.message),
        ..Default::default()
    })
}

async fn beat<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: ShareGroupHeartbeatRequest,
) -> Result<ShareGroupHeartbeatResponse, Refusal> {
    gateway.check(context, Operation::Read, Resource::Group(&request.group_id))?;
    check(&request)?;
    for name in request.subscribed_topic_names.iter().flatten() {
        gateway.check(context, Operation::Describe, Resource::Topic(name))?;
    }
    let ShareGroupHeartbeatRequest { group_id, member_id, member_epoch, rack_id, subscribed_topic_names, .. } = request;
    if !gateway.groups.coordinates(&group_id) {
        return Err(ErrorCode::NotCoordinator.into());
    }
    let config = gateway.group_configs.share(&group_id);
    let heartbeat = Heartbeat {
        member_id: member_id.clone(),
        epoch: member_epoch,
        rack: rack_id,
        subscription: subscribed_topic_names,
        client_id: context.client_id.clone().unwrap_or_default(),
        client_host: format!("/{}", context.peer.address.ip()),
        session_timeout: config.session_timeout,
    };
    if heartbeat.is_join() && !gateway.share_groups.has_members(&group_id) {
        match gateway.groups.describe(&group_id).await {
            Err(GroupError::GroupNotFound) => {}
            Ok(_) | Err(GroupError::NotAClassicGroup) => {
                let message = format!("Group {group_id} is not a share group.");
                return Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let find = |name: &str| gateway.topic(name).map(|topic| (topic.topic.id, topic.topic.partitions));
    let answer = gateway.share_groups.heartbeat(&group_id, heartbeat, &find).map_err(ErrorCode::from)?;
    Ok(ShareGroupHeartbeatResponse {
        member_id: Some(member_id),
        member_epoch: answer.epoch,
        heartbeat_interval_ms: config.heartbeat_interval_ms,
        assignment: answer.assignment.as_ref().map(|assignment| Assignment { topic_partitions: by_topic(assignment) }),
        ..Default::default()
    })
}

/// What Kafka refuses before it looks at the group.
fn check(request: &ShareGroupHeartbeatRequest) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    match request {
        _ if request.group_id.trim().is_empty() => invalid("GroupId can't be empty."),
        _ if request.member_id.trim().is_empty() => invalid("MemberId can't be empty."),
        _ if request.rack_id.as_ref().is_some_and(|rack| rack.trim().is_empty()) => invalid("RackId can't be empty."),
        _ if request.member_epoch < -1 => {
            invalid(&format!("MemberEpoch is {}, but must be greater than or equal to -1.", request.member_epoch))
        }
        _ if request.member_epoch == 0 && request.subscribed_topic_names.as_ref().is_none_or(Vec::is_empty) => {
            invalid("SubscribedTopicNames must be set in first request.")
        }
        _ => Ok(()),
    }
}

fn by_topic(assignment: &assignor::Assignment) -> Vec<TopicPartitions> {
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for partition in assignment {
        topics.entry(partition.topic).or_default().push(partition.index as i32);
    }
    topics.into_iter().map(|(topic, partitions)| TopicPartitions { topic_id: uuid(topic), partitions }).collect()
}
