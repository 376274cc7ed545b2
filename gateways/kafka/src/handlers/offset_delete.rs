//! OffsetDelete (47), version 0: deletes a group's offsets of topics that it does not read (KIP-496).

use std::sync::Arc;

use codec_kafka::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};
use core_rpc::{Core, PartitionId};

use super::Context;
use crate::errors::ErrorCode;
use crate::{Gateway, Topic};
use crate::state::security::{Operation, Resource};

pub async fn handle<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    if let Err(code) = gateway.check(context, Operation::Delete, Resource::Group(&request.group_id)) {
        return OffsetDeleteResponse { error_code: code.code(), ..Default::default() };
    }
    let topics: Vec<(String, Vec<PartitionId>)> = request
        .topics
        .iter()
        .map(|topic| {
            let cached = gateway.topic_for(context, Operation::Read, &topic.name).ok();
            let known = topic.partitions.iter().filter_map(|partition| partition_id(cached.as_deref(), partition));
            (topic.name.clone(), known.collect())
        })
        .collect();
    let results = match gateway.groups.delete_offsets(&request.group_id, &topics).await {
        Ok(results) => results,
        Err(error) => return OffsetDeleteResponse { error_code: ErrorCode::from(error).code(), ..Default::default() },
    };
    let answered = request.topics.into_iter().zip(topics.iter().zip(results)).map(|(asked, ((_, known), result))| {
        let error = result.err().map_or(ErrorCode::None, ErrorCode::from);
        let partitions = asked.partitions.iter().map(|partition| {
            let is_known = known.iter().any(|id| i64::from(id.index) == i64::from(partition.partition_index));
            let denied = gateway.check(context, Operation::Read, Resource::Topic(&asked.name)).err();
            let unknown = denied.unwrap_or(ErrorCode::UnknownTopicOrPartition);
            let error = if is_known { error } else { unknown };
            OffsetDeleteResponsePartition { partition_index: partition.partition_index, error_code: error.code() }
        });
        OffsetDeleteResponseTopic { partitions: partitions.collect(), name: asked.name }
    });
    OffsetDeleteResponse { topics: answered.collect(), ..Default::default() }
}

fn partition_id(topic: Option<&Topic>, asked: &OffsetDeleteRequestPartition) -> Option<PartitionId> {
    let topic = &topic?.topic;
    let index = u32::try_from(asked.partition_index).ok().filter(|index| *index < topic.partitions)?;
    Some(PartitionId { topic: topic.id, index })
}
