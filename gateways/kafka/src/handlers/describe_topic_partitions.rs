//! DescribeTopicPartitions (75), version 0: describes topics page by page.

use std::collections::BTreeSet;

use codec_kafka::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};
use core_rpc::{Core, PartitionId};

use super::Context;
use crate::errors::ErrorCode;
use crate::state::brokers::View;
use crate::state::internal_topics::is_internal;
use crate::state::security::{Operation, Resource};
use crate::translate::names::check_topic_name;
use crate::translate::{LEADER_EPOCH, TOPIC_OPERATIONS, uuid};
use crate::{Gateway, Topic};

/// Partitions in one answer at most: Kafka's default of `max.request.partition.size.limit`.
const PARTITIONS_MAX: i32 = 2000;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let all = request.topics.is_empty();
    let (from_name, from_index) =
        request.cursor.as_ref().map_or(("", 0), |cursor| (cursor.topic_name.as_str(), cursor.partition_index));
    let asked: BTreeSet<String> = match all {
        true => gateway.topics.all(&gateway.config.namespace).iter().map(|topic| topic.topic.name.clone()).collect(),
        false => request.topics.iter().map(|topic| topic.name.clone()).collect(),
    };
    // Which topic a cursor is in must be clear, and where.
    if from_index < 0 || (!all && request.cursor.is_some() && !asked.contains(from_name)) {
        return refused(&request);
    }
    let brokers = gateway.brokers.live();
    let mut response = DescribeTopicPartitionsResponse::default();
    let mut room = request.response_partition_limit.clamp(1, PARTITIONS_MAX);
    for name in asked.range(from_name.to_owned()..) {
        if room == 0 {
            response.next_cursor = Some(Cursor { topic_name: name.clone(), partition_index: 0 });
            break;
        }
        let topic = match gateway.topic_for(context, Operation::Describe, name) {
            Ok(topic) => topic,
            Err(_) if all => continue,
            Err(code) => {
                response.topics.push(unfound(name, code));
                continue;
            }
        };
        let first = if name == from_name { from_index } else { 0 };
        let partitions = topic.topic.partitions as i32;
        let end = partitions.min(first.saturating_add(room));
        let operations =
            gateway.security.operations(&context.peer, TOPIC_OPERATIONS, Resource::Topic(name));
        let topic = described(&topic, first..end, &brokers);
        response.topics.push(DescribeTopicPartitionsResponseTopic { topic_authorized_operations: operations, ..topic });
        if end < partitions {
            response.next_cursor = Some(Cursor { topic_name: name.clone(), partition_index: end });
            break;
        }
        room -= (end - first).max(0);
    }
    response
}

fn refused(request: &DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let topic = |name: &str| DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::InvalidRequest.code(),
        name: Some(name.to_owned()),
        ..Default::default()
    };
    DescribeTopicPartitionsResponse {
        topics: request.topics.iter().map(|asked| topic(&asked.name)).collect(),
        ..Default::default()
    }
}

fn unfound(name: &str, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    let code = match check_topic_name(name) {
        Ok(()) => code,
        Err(_) => ErrorCode::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic {
        error_code: code.code(),
        name: Some(name.to_owned()),
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..Default::default()
    }
}

fn described(topic: &Topic, indexes: std::ops::Range<i32>, brokers: &View) -> DescribeTopicPartitionsResponseTopic {
    let partition = |partition_index| {
        let leader_id = brokers.leader_id(PartitionId { topic: topic.topic.id, index: partition_index as u32 });
        DescribeTopicPartitionsResponsePartition {
            partition_index,
            leader_id,
            leader_epoch: LEADER_EPOCH,
            replica_nodes: vec![leader_id],
            isr_nodes: vec![leader_id],
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            ..Default::default()
        }
    };
    DescribeTopicPartitionsResponseTopic {
        name: Some(topic.topic.name.clone()),
        topic_id: uuid(topic.topic.id),
        is_internal: is_internal(&topic.topic.name),
        partitions: indexes.map(partition).collect(),
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..Default::default()
    }
}
