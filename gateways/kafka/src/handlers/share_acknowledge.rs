//! ShareAcknowledge (79), version 1: settles acquired records (KIP-932).
//!
//! - An acknowledgement is on the disk before it is answered.
//! - Of a partition's batches each is settled for itself; the answer tells the first error.

use std::sync::Arc;

use codec_kafka::messages::share_acknowledge::{
    PartitionData, ShareAcknowledgeRequest, ShareAcknowledgeResponse, ShareAcknowledgeTopicResponse,
};
use core_rpc::{Core, PartitionId, SettleRange, SettleRequest};

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource};
use crate::state::share_groups::sessions::{FINAL_EPOCH, SessionKey};
use crate::translate::acknowledged::{acknowledged, settle_ranges};
use crate::translate::{partition_of, topic_id};

pub async fn handle<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: ShareAcknowledgeRequest,
) -> ShareAcknowledgeResponse {
    let refuse = |code: ErrorCode| ShareAcknowledgeResponse {
        error_code: code.code(),
        error_message: code.text(),
        ..Default::default()
    };
    let key = match session_key(request.group_id, request.member_id) {
        Ok(key) => key,
        Err(code) => return refuse(code),
    };
    if let Err(code) = gateway.check(context, Operation::Read, Resource::Group(&key.group)) {
        return refuse(code);
    }
    let is_final = request.share_session_epoch == FINAL_EPOCH;
    let session = match is_final {
        true => gateway.share_sessions.end(&key),
        false => gateway.share_sessions.acknowledge(&key, request.share_session_epoch),
    };
    if let Err(error) = session {
        return refuse(error.into());
    }
    let mut settling = Settling::default();
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let found = gateway.topic_by_id(topic_id(topic.topic_id));
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let id = match &found {
                Some(found) => gateway
                    .check(context, Operation::Read, Resource::Topic(&found.topic.name))
                    .and_then(|()| partition_of(found, partition.partition_index).ok_or(ErrorCode::UnknownTopicOrPartition)),
                None => Err(ErrorCode::UnknownTopicId),
            };
            let batches = partition.acknowledgement_batches.iter();
            let ranges = settle_ranges(
                batches.map(|batch| (batch.first_offset, batch.last_offset, batch.acknowledge_types.as_slice())),
            );
            let error = match id.and_then(|id| Ok((id, ranges?))) {
                Ok((id, ranges)) => {
                    settling.add((responses.len(), partitions.len()), id, ranges);
                    ErrorCode::None
                }
                Err(code) => code,
            };
            partitions.push(PartitionData {
                partition_index: partition.partition_index,
                error_code: error.code(),
                error_message: error.text(),
                ..Default::default()
            });
        }
        responses.push(ShareAcknowledgeTopicResponse { topic_id: topic.topic_id, partitions });
    }
    for ((topic, partition), code) in settling.settle(gateway, &key).await {
        let place = &mut responses[topic].partitions[partition];
        (place.error_code, place.error_message) = (code.code(), code.text());
    }
    if is_final {
        gateway.release_share(key).await;
    }
    ShareAcknowledgeResponse { responses, ..Default::default() }
}

/// Whose session it is.
pub fn session_key(group: Option<String>, member: Option<String>) -> Result<SessionKey, ErrorCode> {
    match (group, member) {
        (Some(group), _) if group.is_empty() => Err(ErrorCode::InvalidGroupId),
        (Some(group), Some(member)) if !member.is_empty() => Ok(SessionKey { group, member }),
        (None, _) => Err(ErrorCode::InvalidGroupId),
        _ => Err(ErrorCode::InvalidRequest),
    }
}

/// Acknowledgements on their way to the core, and where in the response each partition is.
#[derive(Default)]
pub struct Settling {
    places: Vec<(usize, usize)>,
    partitions: Vec<(PartitionId, Vec<SettleRange>)>,
}

impl Settling {
    pub fn add(&mut self, place: (usize, usize), partition: PartitionId, ranges: Vec<SettleRange>) {
        if !ranges.is_empty() {
            self.places.push(place);
            self.partitions.push((partition, ranges));
        }
    }

    /// Settles; the result for each place.
    pub async fn settle<C: Core>(self, gateway: &Gateway<C>, key: &SessionKey) -> Vec<((usize, usize), ErrorCode)> {
        if self.partitions.is_empty() {
            return Vec::new();
        }
        let request = SettleRequest {
            group: gateway.share_group_name(&key.group),
            holder: key.member.clone(),
            partitions: self.partitions,
            durable: true,
        };
        let answers = gateway.core.settle(request).await;
        self.places.into_iter().zip(answers.iter().map(|answers| acknowledged(answers))).collect()
    }
}
