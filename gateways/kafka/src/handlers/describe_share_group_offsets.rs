//! DescribeShareGroupOffsets (90), version 0: tells where share groups begin on partitions (KIP-932): the first offset that
//! is not settled; -1 where the group has read nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use codec_kafka::messages::describe_share_group_offsets::{
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsRequestTopic,
    DescribeShareGroupOffsetsResponse, DescribeShareGroupOffsetsResponseGroup,
    DescribeShareGroupOffsetsResponsePartition, DescribeShareGroupOffsetsResponseTopic,
};
use core_rpc::{Core, LeaseView, PartitionId, PeekRequest, TopicId};

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource};
use crate::translate::{LEADER_EPOCH, partition_of, uuid};

pub async fn handle<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: DescribeShareGroupOffsetsRequest,
) -> DescribeShareGroupOffsetsResponse {
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let group_id = group.group_id.clone();
        groups.push(describe(gateway, context, group).await.unwrap_or_else(|code| DescribeShareGroupOffsetsResponseGroup {
            group_id,
            error_code: code.code(),
            error_message: code.text(),
            ..Default::default()
        }));
    }
    DescribeShareGroupOffsetsResponse { groups, ..Default::default() }
}

async fn describe<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    group: DescribeShareGroupOffsetsRequestGroup,
) -> Result<DescribeShareGroupOffsetsResponseGroup, ErrorCode> {
    gateway.check(context, Operation::Describe, Resource::Group(&group.group_id))?;
    if !gateway.groups.coordinates(&group.group_id) {
        return Err(ErrorCode::NotCoordinator);
    }
    gateway.share_group(&group.group_id).await?.ok_or(ErrorCode::GroupIdNotFound)?;
    let peek = PeekRequest { group: gateway.share_group_name(&group.group_id), partitions: None, ranges_max: 0 };
    let maps = gateway.core.peek(peek).await.map_err(|error| ErrorCode::from(&error))?;
    let topics = match group.topics {
        Some(topics) => topics.into_iter().map(|topic| named(gateway, context, topic, &maps)).collect(),
        None => all(gateway, context, &maps),
    };
    Ok(DescribeShareGroupOffsetsResponseGroup { group_id: group.group_id, topics, ..Default::default() })
}

fn named<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    asked: DescribeShareGroupOffsetsRequestTopic,
    maps: &[(PartitionId, Option<LeaseView>)],
) -> DescribeShareGroupOffsetsResponseTopic {
    let denied = gateway.check(context, Operation::Describe, Resource::Topic(&asked.topic_name)).err();
    let found = gateway.topic(&asked.topic_name).filter(|_| denied.is_none());
    let code = denied.unwrap_or(ErrorCode::UnknownTopicOrPartition);
    let partition = |index: i32| match found.as_ref().and_then(|found| partition_of(found, index)) {
        Some(id) => {
            let map = maps.iter().find(|(other, _)| *other == id).and_then(|(_, map)| map.as_ref());
            described(index, map)
        }
        None => DescribeShareGroupOffsetsResponsePartition {
            error_code: code.code(),
            error_message: code.text(),
            ..described(index, None)
        },
    };
    DescribeShareGroupOffsetsResponseTopic {
        topic_id: found.as_ref().map(|found| uuid(found.topic.id)).unwrap_or_default(),
        topic_name: asked.topic_name,
        partitions: asked.partitions.into_iter().map(partition).collect(),
    }
}

fn all<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    maps: &[(PartitionId, Option<LeaseView>)],
) -> Vec<DescribeShareGroupOffsetsResponseTopic> {
    let mut topics: BTreeMap<TopicId, Vec<DescribeShareGroupOffsetsResponsePartition>> = BTreeMap::new();
    for (id, map) in maps {
        topics.entry(id.topic).or_default().push(described(id.index as i32, map.as_ref()));
    }
    let named = |(topic, partitions)| {
        let topic_name = gateway.topic_by_id(topic)?.topic.name.clone();
        gateway.check(context, Operation::Describe, Resource::Topic(&topic_name)).ok()?;
        Some(DescribeShareGroupOffsetsResponseTopic { topic_name, topic_id: uuid(topic), partitions })
    };
    topics.into_iter().filter_map(named).collect()
}

fn described(partition_index: i32, map: Option<&LeaseView>) -> DescribeShareGroupOffsetsResponsePartition {
    DescribeShareGroupOffsetsResponsePartition {
        partition_index,
        start_offset: map.map_or(-1, |map| map.floor as i64),
        leader_epoch: LEADER_EPOCH,
        ..Default::default()
    }
}
