//! OffsetCommit (8), versions 2 to 9: stores how far a group has read, durably.
//!
//! - Version 7 (KIP-345): static members.
//! - A member commits in its generation; without members anybody may, with generation -1.
//! - Versions 2 to 4 may ask for a retention time of their own; with -1, as later, it is the gateway's. It counts from the
//!   commit on; what a group's members read is kept all the same.
//! - A negative offset is kept as it is, as by Kafka: kafkajs commits -1 and -2 where it resets a group to the latest or the
//!   earliest offset, and reads them as that; to others it is as good as none.

use std::sync::Arc;

use codec_kafka::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use core_rpc::{Core, PartitionId};

use super::Context;
use crate::errors::ErrorCode;
use crate::state::groups::{Commit, Committer, GroupError};
use crate::{Gateway, Topic};
use crate::state::security::{Operation, Resource};

/// The first version in which an unknown group is told from a wrong generation.
const GROUP_NOT_FOUND_VERSION: i16 = 9;
/// A retention time that means the gateway's.
const DEFAULT_RETENTION: i64 = -1;

pub async fn handle<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    if let Err(code) = gateway.check(context, Operation::Read, Resource::Group(&request.group_id)) {
        return refused(&request.topics, code);
    }
    let mut commits = Vec::new();
    let mut response = refused(&request.topics, ErrorCode::None);
    let retention_ms = Some(request.retention_time_ms).filter(|asked_ms| *asked_ms != DEFAULT_RETENTION);
    let length_max = gateway.groups.config().offset_metadata_length_max;
    for (asked, answered) in request.topics.iter().zip(&mut response.topics) {
        let topic = gateway.topic_for(context, Operation::Read, &asked.name);
        for (index, partition) in asked.partitions.iter().enumerate() {
            match commit(topic.as_deref().map_err(|code| *code), partition, length_max) {
                Ok(commit) => commits.push(Commit { retention_ms, ..commit }),
                Err(error) => answered.partitions[index].error_code = error.code(),
            }
        }
    }
    if commits.is_empty() && !request.topics.is_empty() {
        return response;
    }
    let committer = Committer {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id_or_member_epoch,
        transaction: None,
    };
    let results = match gateway.groups.commit(&request.group_id, committer, commits).await {
        Ok(results) => results,
        Err(GroupError::GroupNotFound) if context.version < GROUP_NOT_FOUND_VERSION => {
            return refused(&request.topics, ErrorCode::IllegalGeneration);
        }
        Err(error) => return refused(&request.topics, error.into()),
    };
    // The results are in the order of the partitions that had no error so far.
    let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    let committed = partitions.filter(|partition| partition.error_code == ErrorCode::None.code());
    for (partition, result) in committed.zip(&results) {
        partition.error_code = result.as_ref().err().map_or(ErrorCode::None, ErrorCode::from).code();
    }
    response
}

/// Checks an offset to commit.
pub(super) fn commit(
    topic: Result<&Topic, ErrorCode>,
    asked: &OffsetCommitRequestPartition,
    length_max: usize,
) -> Result<Commit, ErrorCode> {
    let topic = &topic?.topic;
    let index = u32::try_from(asked.partition_index).ok().filter(|index| *index < topic.partitions);
    let index = index.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let metadata = asked.committed_metadata.clone().unwrap_or_default();
    // In UTF-16 units, as Kafka counts; there are never more of them than bytes.
    if metadata.len() > length_max && metadata.encode_utf16().count() > length_max {
        return Err(ErrorCode::OffsetMetadataTooLarge);
    }
    Ok(Commit {
        partition: PartitionId { topic: topic.id, index },
        offset: asked.committed_offset,
        leader_epoch: asked.committed_leader_epoch,
        metadata,
        retention_ms: None,
    })
}

/// The same answer for every partition.
fn refused(topics: &[OffsetCommitRequestTopic], error: ErrorCode) -> OffsetCommitResponse {
    let partition = |asked: &OffsetCommitRequestPartition| OffsetCommitResponsePartition {
        partition_index: asked.partition_index,
        error_code: error.code(),
    };
    let topic = |asked: &OffsetCommitRequestTopic| OffsetCommitResponseTopic {
        name: asked.name.clone(),
        partitions: asked.partitions.iter().map(partition).collect(),
    };
    OffsetCommitResponse { topics: topics.iter().map(topic).collect(), ..Default::default() }
}
