//! DescribeTransactions (65), version 0: tells what transactional ids are doing, and where (KIP-664).
//!
//! - The offsets of groups that take part are shown as Kafka does it, as partitions of `__consumer_offsets`.

use codec_kafka::messages::describe_transactions::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, TopicData, TransactionState,
};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource};
use crate::state::transactions::TransactionDescription;

const OFFSETS_TOPIC: &str = "__consumer_offsets";

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let mut response = DescribeTransactionsResponse::default();
    for transactional_id in request.transactional_ids {
        let description = match gateway.check(context, Operation::Describe, Resource::TransactionalId(&transactional_id)) {
            Ok(()) => gateway.transactions.describe(&transactional_id).await.map_err(ErrorCode::from),
            Err(code) => Err(code),
        };
        let state = match description {
            Ok(description) => described(gateway, context, transactional_id, description),
            Err(code) => {
                let error_code = code.code();
                TransactionState { error_code, transactional_id, ..Default::default() }
            }
        };
        response.transaction_states.push(state);
    }
    response
}

fn described<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    transactional_id: String,
    description: TransactionDescription,
) -> TransactionState {
    let record = &description.record;
    let mut topics = Vec::new();
    for (topic, indexes) in description.partitions {
        // A topic that was deleted has no name.
        let Some(topic) = gateway.topic_by_id(topic) else { continue };
        if gateway.check(context, Operation::Describe, Resource::Topic(&topic.topic.name)).is_err() {
            continue;
        }
        let partitions = indexes.into_iter().map(|index| index as i32).collect();
        topics.push(TopicData { topic: topic.topic.name.clone(), partitions });
    }
    let sees_offsets = gateway.check(context, Operation::Describe, Resource::Topic(OFFSETS_TOPIC)).is_ok();
    if sees_offsets && !record.offsets_partitions.is_empty() {
        let partitions = record.offsets_partitions.iter().map(|index| *index as i32).collect();
        topics.push(TopicData { topic: OFFSETS_TOPIC.to_owned(), partitions });
    }
    TransactionState {
        error_code: ErrorCode::None.code(),
        transactional_id,
        transaction_state: record.state.name().to_owned(),
        transaction_timeout_ms: record.timeout_ms,
        transaction_start_time_ms: record.started_ms,
        producer_id: record.producer_id,
        producer_epoch: record.epoch,
        topics,
    }
}
