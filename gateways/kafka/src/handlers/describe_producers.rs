//! DescribeProducers (61), version 0: tells which idempotent producers a partition remembers.

use codec_kafka::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::translate::partition_of;
use crate::state::security::Operation;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let mut response = DescribeProducersResponse::default();
    let mut asked = Vec::new();
    let mut places = Vec::new();
    for topic_request in &request.topics {
        let topic = gateway.topic_for(context, Operation::Read, &topic_request.name);
        let mut partitions = Vec::with_capacity(topic_request.partition_indexes.len());
        for &partition_index in &topic_request.partition_indexes {
            let mut place = PartitionResponse { partition_index, ..Default::default() };
            let found = topic.as_deref().map_err(|code| *code);
            let found = found
                .and_then(|topic| partition_of(topic, partition_index).ok_or(ErrorCode::UnknownTopicOrPartition));
            match found {
                Ok(partition) => {
                    asked.push(partition);
                    places.push((response.topics.len(), partitions.len()));
                }
                Err(code) => fail(&mut place, code),
            }
            partitions.push(place);
        }
        response.topics.push(TopicResponse { name: topic_request.name.clone(), partitions });
    }
    if !asked.is_empty() {
        let answers = gateway.core.inspect(asked).await;
        for ((topic, partition), answer) in places.into_iter().zip(answers) {
            let place = &mut response.topics[topic].partitions[partition];
            match answer {
                Ok(state) => place.active_producers = state.producers.iter().map(described).collect(),
                Err(error) => fail(place, (&error).into()),
            }
        }
    }
    response
}

fn fail(place: &mut PartitionResponse, code: ErrorCode) {
    place.error_code = code.code();
    place.error_message = code.text();
}

fn described(producer: &core_rpc::ProducerState) -> ProducerState {
    ProducerState {
        producer_id: producer.id,
        producer_epoch: i32::from(producer.epoch),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_time_ms,
        coordinator_epoch: -1,
        current_txn_start_offset: producer
            .transaction_start
            .map_or(-1, |offset| i64::try_from(offset).unwrap_or(i64::MAX)),
    }
}
