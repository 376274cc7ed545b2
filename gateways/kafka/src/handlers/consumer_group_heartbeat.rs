//! ConsumerGroupHeartbeat (68), versions 0 to 1: joins, keeps and leaves a consumer group whose assignments the broker
//! makes (KIP-848).
//!
//! - Version 1: a regular expression as subscription; the client makes its member id (KIP-1082).
//! - Assignors: `uniform` (the default) and `range`.

use std::sync::Arc;

use codec_kafka::Uuid;
use codec_kafka::messages::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use core_rpc::{Core, PartitionId, TopicId};
use gateway_runtime::identity::random_16_bytes;

use super::Context;
use crate::Gateway;
use crate::errors::{ErrorCode, Refusal};
use crate::state::consumer_groups::{Assignor, Departure, HeartbeatRequest, Partitions};
use crate::state::security::{Operation, Resource};
use crate::translate::{topic_id, uuid};

/// The first version in which the client makes its member id.
const OWN_MEMBER_ID_VERSION: i16 = 1;
/// The epoch of a request that joins.
const JOIN: i32 = 0;
/// The epoch of a request that leaves.
const LEAVE: i32 = -1;
/// The epoch of a request of a static member that leaves for a while.
const LEAVE_FOR_A_WHILE: i32 = -2;

pub async fn handle<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let checked = check(&request, context.version).and_then(|()| check_access(gateway, context, &request));
    let answered = match checked {
        Ok(()) if request.member_epoch < JOIN => leave(gateway, request).await,
        Ok(()) => beat(gateway, context, request).await,
        Err(refusal) => Err(refusal),
    };
    answered.unwrap_or_else(|refusal| ConsumerGroupHeartbeatResponse {
        error_code: refusal.code.code(),
        error_message: Some(refusal.message),
        ..Default::default()
    })
}

/// A member may read the group, and knows of the topics that it names.
fn check_access<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<(), Refusal> {
    gateway.check(context, Operation::Read, Resource::Group(&request.group_id))?;
    for topic in request.subscribed_topic_names.iter().flatten() {
        gateway.check(context, Operation::Describe, Resource::Topic(topic))?;
    }
    if gateway.share_groups.has_members(&request.group_id) {
        let message = format!("Group {} is not a consumer group.", request.group_id);
        return Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
    }
    Ok(())
}

/// What Kafka refuses before it looks at the group.
fn check(request: &ConsumerGroupHeartbeatRequest, version: i16) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let is_blank = |text: &str| text.trim().is_empty();
    let is_said_blank = |text: &Option<String>| text.as_deref().is_some_and(is_blank);
    let epoch = request.member_epoch;
    let has_id = version >= OWN_MEMBER_ID_VERSION || epoch > JOIN || epoch == LEAVE;
    if has_id && is_blank(&request.member_id) {
        return invalid("MemberId can't be empty.");
    }
    if is_blank(&request.group_id) {
        return invalid("GroupId can't be empty.");
    }
    if is_said_blank(&request.instance_id) {
        return invalid("InstanceId can't be empty.");
    }
    if is_said_blank(&request.rack_id) {
        return invalid("RackId can't be empty.");
    }
    match epoch {
        JOIN if request.rebalance_timeout_ms < 0 => {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        JOIN if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) => {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        JOIN if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() => {
            return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.");
        }
        LEAVE_FOR_A_WHILE if request.instance_id.is_none() => return invalid("InstanceId can't be null."),
        ..LEAVE_FOR_A_WHILE => return invalid("MemberEpoch is invalid."),
        _ => {}
    }
    match &request.server_assignor {
        Some(name) if Assignor::from_name(name).is_none() => {
            let known = Assignor::ALL.map(Assignor::name).join(", ");
            let message = format!("ServerAssignor {name} is not supported. Supported assignors: {known}.");
            Err(Refusal::new(ErrorCode::UnsupportedAssignor, message))
        }
        _ => Ok(()),
    }
}

async fn beat<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: ConsumerGroupHeartbeatRequest,
) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
    let member_id = match request.member_id.is_empty() {
        true => Uuid(random_16_bytes().map_err(|_| ErrorCode::CoordinatorNotAvailable)?).to_string(),
        false => request.member_id,
    };
    let heartbeat = HeartbeatRequest {
        member_id,
        epoch: request.member_epoch,
        instance_id: request.instance_id,
        rack_id: request.rack_id,
        rebalance_timeout_ms: u32::try_from(request.rebalance_timeout_ms).ok(),
        client_id: context.client_id.clone().unwrap_or_default(),
        // As Java prints an address; tools show it so.
        client_host: format!("/{}", context.peer.address.ip()),
        topics: request.subscribed_topic_names,
        regex: request.subscribed_topic_regex,
        assignor: request.server_assignor.as_deref().and_then(Assignor::from_name),
        owned: request.topic_partitions.map(owned),
    };
    let times = gateway.group_configs.consumer(&request.group_id);
    let beaten = gateway.groups.consumer_heartbeat(&request.group_id, times, heartbeat).await?;
    Ok(ConsumerGroupHeartbeatResponse {
        member_id: Some(beaten.member_id),
        member_epoch: beaten.epoch,
        heartbeat_interval_ms: i32::try_from(beaten.heartbeat_interval_ms).unwrap_or(i32::MAX),
        assignment: beaten.assignment.map(|assigned| Assignment { topic_partitions: topic_partitions(&assigned) }),
        ..Default::default()
    })
}

async fn leave<C: Core>(
    gateway: &Arc<Gateway<C>>,
    request: ConsumerGroupHeartbeatRequest,
) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
    let departure = Departure {
        member_id: request.member_id,
        instance_id: request.instance_id,
        comes_back: request.member_epoch == LEAVE_FOR_A_WHILE,
    };
    gateway.groups.consumer_leave(&request.group_id, &departure).await?;
    Ok(ConsumerGroupHeartbeatResponse {
        member_id: Some(departure.member_id),
        member_epoch: request.member_epoch,
        ..Default::default()
    })
}

fn owned(topics: Vec<TopicPartitions>) -> Partitions {
    let of_topic = |topic: TopicPartitions| {
        let id = topic_id(topic.topic_id);
        let indexes = topic.partitions.into_iter().filter_map(|index| u32::try_from(index).ok());
        indexes.map(move |index| PartitionId { topic: id, index })
    };
    topics.into_iter().flat_map(of_topic).collect()
}

fn topic_partitions(partitions: &Partitions) -> Vec<TopicPartitions> {
    let of_topic = |(id, indexes): (TopicId, &std::collections::BTreeSet<u32>)| TopicPartitions {
        topic_id: uuid(id),
        partitions: indexes.iter().map(|index| *index as i32).collect(),
    };
    partitions.by_topic().map(of_topic).collect()
}
