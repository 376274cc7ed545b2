//! OffsetForLeaderEpoch (23), versions 2 to 4: finds the end offset of a leader epoch. Every partition has one epoch,
//! 0, which ends where the partition ends.

use codec_kafka::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};
use core_rpc::{Core, OffsetAt, OffsetsRequest};

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::translate::{LEADER_EPOCH, check_leader_epoch, partition_of};
use crate::state::security::Operation;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut response = OffsetForLeaderEpochResponse::default();
    let mut queries = Vec::new();
    let mut places = Vec::new();
    for asked in &request.topics {
        let topic = gateway.topic_for(context, Operation::Describe, &asked.topic);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in &asked.partitions {
            let mut place = EpochEndOffset { partition: partition.partition, ..Default::default() };
            let found = topic
                .as_deref()
                .map_err(|code| *code)
                .and_then(|topic| partition_of(topic, partition.partition).ok_or(ErrorCode::UnknownTopicOrPartition))
                .and_then(|found| check_leader_epoch(partition.current_leader_epoch).map(|()| found));
            match found {
                Err(code) => place.error_code = code.code(),
                Ok(found) if partition.leader_epoch == LEADER_EPOCH => {
                    queries.push((found, OffsetAt::Latest));
                    places.push((response.topics.len(), partitions.len()));
                }
                // Of an epoch that never was, there is no end.
                Ok(_) => {}
            }
            partitions.push(place);
        }
        response.topics.push(OffsetForLeaderTopicResult { topic: asked.topic.clone(), partitions });
    }
    if !queries.is_empty() {
        let answers = gateway.core.offsets(OffsetsRequest { queries }).await;
        for ((topic, partition), answer) in places.into_iter().zip(answers) {
            let place = &mut response.topics[topic].partitions[partition];
            match answer {
                Ok(found) => {
                    place.leader_epoch = LEADER_EPOCH;
                    place.end_offset = found.offset.map_or(-1, |offset| offset as i64);
                }
                Err(error) => place.error_code = ErrorCode::from(&error).code(),
            }
        }
    }
    response
}
