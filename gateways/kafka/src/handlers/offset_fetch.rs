//! OffsetFetch (9), versions 1 to 9: tells how far groups have read.
//!
//! - Version 2: null topics ask for all that the group has; an error of the whole request.
//! - Version 7 (KIP-447): `require_stable` refuses an offset that an open transaction may change with
//!   UNSTABLE_OFFSET_COMMIT.
//! - Version 8 (KIP-709): several groups.
//! - Version 9 (KIP-848): member id and epoch: members of consumer groups only read with their current epoch
//!   (STALE_MEMBER_EPOCH). Readers of classic groups are not checked, as in Kafka.
//! - A partition without an offset, and an unknown group or topic, are answered with -1 and no error.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use codec_kafka::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use core_rpc::{Committed, Core, CursorError, PartitionId};

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::groups::Reader;
use crate::state::security::{Operation, Resource};

/// The first version with an error of the whole request.
const REQUEST_ERROR_VERSION: i16 = 2;
/// The first version with several groups.
const GROUPS_VERSION: i16 = 8;

pub async fn handle<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    if context.version >= GROUPS_VERSION {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in request.groups {
            groups.push(fetch_group(gateway, context, group, request.require_stable).await);
        }
        return OffsetFetchResponse { groups, ..Default::default() };
    }
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter();
        topics.map(|topic| OffsetFetchRequestTopics { name: topic.name, partition_indexes: topic.partition_indexes }).collect()
    });
    let group = OffsetFetchRequestGroup { group_id: request.group_id, topics, ..Default::default() };
    one_group(fetch_group(gateway, context, group, request.require_stable).await, context)
}

async fn fetch_group<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    asked: OffsetFetchRequestGroup,
    stable: bool,
) -> OffsetFetchResponseGroup {
    if !gateway.groups.coordinates(&asked.group_id) {
        return refused(asked, ErrorCode::NotCoordinator);
    }
    if let Err(code) = gateway.check(context, Operation::Describe, Resource::Group(&asked.group_id)) {
        let topics = failed(asked.topics.unwrap_or_default(), code);
        return OffsetFetchResponseGroup { group_id: asked.group_id, topics, error_code: code.code() };
    }
    let reader = Reader { member_id: asked.member_id.as_deref(), epoch: asked.member_epoch };
    if let Err(error) = gateway.groups.check_read(&asked.group_id, reader).await {
        return refused(asked, error.into());
    }
    let fetched = match &asked.topics {
        None => fetch_all(gateway, &asked.group_id, stable).await,
        Some(topics) => fetch_topics(gateway, &asked.group_id, topics, stable).await,
    };
    match fetched {
        Ok(topics) => {
            let topics = permitted(gateway, context, asked.topics.is_none(), topics);
            OffsetFetchResponseGroup { group_id: asked.group_id, topics, error_code: 0 }
        }
        Err(error) => refused(asked, ErrorCode::from(&error)),
    }
}

/// Version 1 has nowhere else to put the error but the partitions it asked for.
fn refused(asked: OffsetFetchRequestGroup, error: ErrorCode) -> OffsetFetchResponseGroup {
    let topics = failed(asked.topics.unwrap_or_default(), error);
    OffsetFetchResponseGroup { group_id: asked.group_id, topics, error_code: error.code() }
}

/// Without the topics that the client may not see: left out where it asked for all, refused where it named them.
fn permitted<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    all: bool,
    topics: Vec<OffsetFetchResponseTopics>,
) -> Vec<OffsetFetchResponseTopics> {
    let permitted = |mut topic: OffsetFetchResponseTopics| {
        let Err(code) = gateway.check(context, Operation::Describe, Resource::Topic(&topic.name)) else {
            return Some(topic);
        };
        for partition in &mut topic.partitions {
            *partition = OffsetFetchResponsePartitions {
                error_code: code.code(),
                ..answer(partition.partition_index, Committed::default(), false)
            };
        }
        (!all).then_some(topic)
    };
    topics.into_iter().filter_map(permitted).collect()
}

async fn fetch_all<C: Core>(
    gateway: &Gateway<C>,
    group: &str,
    stable: bool,
) -> Result<Vec<OffsetFetchResponseTopics>, CursorError> {
    let mut topics: BTreeMap<String, Vec<OffsetFetchResponsePartitions>> = BTreeMap::new();
    for (partition, committed) in gateway.groups.all_with_pending(group).await? {
        if committed.cursor.is_none() && !stable {
            continue;
        }
        // Offsets of a deleted topic are on their way out.
        let Some(topic) = gateway.topic_by_id(partition.topic) else { continue };
        topics.entry(topic.topic.name.clone()).or_default().push(answer(partition.index as i32, committed, stable));
    }
    Ok(topics.into_iter().map(|(name, partitions)| OffsetFetchResponseTopics { name, partitions }).collect())
}

async fn fetch_topics<C: Core>(
    gateway: &Gateway<C>,
    group: &str,
    asked: &[OffsetFetchRequestTopics],
    stable: bool,
) -> Result<Vec<OffsetFetchResponseTopics>, CursorError> {
    let mut known = Vec::new();
    for topic in asked {
        let Some(cached) = gateway.topic(&topic.name) else { continue };
        let indexes = topic.partition_indexes.iter().filter_map(|index| u32::try_from(*index).ok());
        let indexes = indexes.filter(|index| *index < cached.topic.partitions);
        known.extend(indexes.map(|index| PartitionId { topic: cached.topic.id, index }));
    }
    let cursors: HashMap<PartitionId, Committed> = match gateway.groups.committed(group, known.clone()).await {
        Ok(cursors) => known.into_iter().zip(cursors).collect(),
        // One of the topics was deleted just now; the others' offsets are asked for all the same.
        Err(CursorError::UnknownPartition) => gateway.groups.all_with_pending(group).await?.into_iter().collect(),
        Err(error) => return Err(error),
    };
    let topics = asked.iter().map(|topic| {
        let id = gateway.topic(&topic.name).map(|cached| cached.topic.id);
        let partitions = topic.partition_indexes.iter().map(|&index| {
            let partition = id.zip(u32::try_from(index).ok()).map(|(topic, index)| PartitionId { topic, index });
            let committed = partition.and_then(|partition| cursors.get(&partition).cloned());
            answer(index, committed.unwrap_or_default(), stable)
        });
        OffsetFetchResponseTopics { name: topic.name.clone(), partitions: partitions.collect() }
    });
    Ok(topics.collect())
}

fn answer(partition_index: i32, committed: Committed, stable: bool) -> OffsetFetchResponsePartitions {
    let unstable = stable && committed.pending;
    let (offset, epoch, metadata) = match committed.cursor.filter(|_| !unstable) {
        Some(cursor) => (cursor.offset as i64, cursor.epoch, cursor.metadata),
        None => (-1, -1, String::new()),
    };
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: offset,
        committed_leader_epoch: epoch,
        metadata: Some(metadata),
        error_code: if unstable { ErrorCode::UnstableOffsetCommit } else { ErrorCode::None }.code(),
    }
}

fn failed(asked: Vec<OffsetFetchRequestTopics>, error: ErrorCode) -> Vec<OffsetFetchResponseTopics> {
    let partition =
        |index| OffsetFetchResponsePartitions { error_code: error.code(), ..answer(index, Committed::default(), false) };
    let topic = |topic: OffsetFetchRequestTopics| OffsetFetchResponseTopics {
        name: topic.name,
        partitions: topic.partition_indexes.into_iter().map(partition).collect(),
    };
    asked.into_iter().map(topic).collect()
}

/// The answer for a version that asks for one group.
fn one_group(group: OffsetFetchResponseGroup, context: &Context) -> OffsetFetchResponse {
    let partition = |partition: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
    };
    let topic = |topic: OffsetFetchResponseTopics| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
    };
    let error_code = if context.version >= REQUEST_ERROR_VERSION { group.error_code } else { 0 };
    OffsetFetchResponse { topics: group.topics.into_iter().map(topic).collect(), error_code, ..Default::default() }
}
