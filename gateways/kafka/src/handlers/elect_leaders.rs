//! ElectLeaders (43), versions 0 to 2: asks for leaders to be elected.
//!
//! A partition has one replica, which always leads: no election is ever needed (ELECTION_NOT_NEEDED). As by Kafka, that is
//! not told of partitions that were not named.

use codec_kafka::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource};
use crate::translate::partition_of;

/// Election types: preferred leaders, and leaders that may have lost records.
const ELECTION_TYPES: std::ops::RangeInclusive<i8> = 0..=1;

/// The first version with an election type, and an error of the whole request.
const TYPE_VERSION: i16 = 1;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    if let Err(code) = gateway.check(context, Operation::Alter, Resource::Cluster) {
        return ElectLeadersResponse { error_code: code.code(), ..Default::default() };
    }
    if context.version >= TYPE_VERSION && !ELECTION_TYPES.contains(&request.election_type) {
        return ElectLeadersResponse { error_code: ErrorCode::InvalidRequest.code(), ..Default::default() };
    }
    let result = |asked: codec_kafka::messages::elect_leaders::TopicPartitions| {
        let topic = gateway.topic(&asked.topic);
        let partition = |&partition_id: &i32| {
            let code = match topic.as_deref().and_then(|topic| partition_of(topic, partition_id)) {
                Some(_) => ErrorCode::ElectionNotNeeded,
                None => ErrorCode::UnknownTopicOrPartition,
            };
            PartitionResult { partition_id, error_code: code.code(), error_message: code.text() }
        };
        let partition_result = asked.partitions.iter().map(partition).collect();
        ReplicaElectionResult { topic: asked.topic, partition_result }
    };
    let asked = request.topic_partitions.unwrap_or_default();
    ElectLeadersResponse { replica_election_results: asked.into_iter().map(result).collect(), ..Default::default() }
}
