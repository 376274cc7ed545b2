//! AlterShareGroupOffsets (91), version 0: moves where a share group without members begins (KIP-932). What was delivered and
//! acknowledged from there on is forgotten.

use std::sync::Arc;

use codec_kafka::messages::alter_share_group_offsets::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse, AlterShareGroupOffsetsResponsePartition,
    AlterShareGroupOffsetsResponseTopic,
};
use core_rpc::{Core, SeekRequest, SeekTo};

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource};
use crate::translate::{partition_of, uuid};

pub async fn handle<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: AlterShareGroupOffsetsRequest,
) -> AlterShareGroupOffsetsResponse {
    let allowed = gateway.check(context, Operation::Read, Resource::Group(&request.group_id));
    let checked = match allowed {
        Ok(()) => gateway.check_empty_share_group(&request.group_id).await,
        denied => denied,
    };
    if let Err(code) = checked {
        let (error_code, error_message) = (code.code(), code.text());
        return AlterShareGroupOffsetsResponse { error_code, error_message, ..Default::default() };
    }
    let mut responses = Vec::with_capacity(request.topics.len());
    let (mut seeks, mut places) = (Vec::new(), Vec::new());
    for topic in request.topics {
        let denied = gateway.check(context, Operation::Read, Resource::Topic(&topic.topic_name)).err();
        let found = gateway.topic(&topic.topic_name).filter(|_| denied.is_none());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let id = found.as_ref().and_then(|found| partition_of(found, partition.partition_index));
            let code = match (id, u64::try_from(partition.start_offset)) {
                (Some(id), Ok(offset)) => {
                    seeks.push((id, SeekTo::Offset(offset)));
                    places.push((responses.len(), partitions.len()));
                    ErrorCode::None
                }
                (None, _) => denied.unwrap_or(ErrorCode::UnknownTopicOrPartition),
                (_, Err(_)) => ErrorCode::InvalidRequest,
            };
            partitions.push(AlterShareGroupOffsetsResponsePartition {
                partition_index: partition.partition_index,
                error_code: code.code(),
                error_message: code.text(),
            });
        }
        responses.push(AlterShareGroupOffsetsResponseTopic {
            topic_id: found.as_ref().map(|found| uuid(found.topic.id)).unwrap_or_default(),
            topic_name: topic.topic_name,
            partitions,
        });
    }
    let seek = SeekRequest { group: gateway.share_group_name(&request.group_id), seeks };
    let answers = if places.is_empty() { Vec::new() } else { gateway.core.lease_seek(seek).await };
    for ((topic, partition), answer) in places.into_iter().zip(answers) {
        if let Err(error) = answer {
            let code = ErrorCode::from(&error);
            let place = &mut responses[topic].partitions[partition];
            (place.error_code, place.error_message) = (code.code(), code.text());
        }
    }
    AlterShareGroupOffsetsResponse { responses, ..Default::default() }
}
