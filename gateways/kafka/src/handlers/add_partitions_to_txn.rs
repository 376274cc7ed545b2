//! AddPartitionsToTxn (24), versions 0 to 5: announces the partitions that a transaction will append to.
//!
//! - Up to version 3 from producers, for one transaction; later from brokers, for several, which may only want to know whether
//!   the partitions were announced (KIP-890).
//! - An unknown partition fails the whole transaction's request, the others with OPERATION_NOT_ATTEMPTED.
//! - Version 2: PRODUCER_FENCED (KIP-588). Version 5: TRANSACTION_ABORTABLE.

use codec_kafka::messages::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, AddPartitionsToTxnResult,
    AddPartitionsToTxnTopic, AddPartitionsToTxnTopicResult, AddPartitionsToTxnTransaction,
};
use core_rpc::{Core, PartitionId};

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource};
use crate::state::transactions::{Addition, ProducerEpoch};
use crate::translate::partition_of;

const PRODUCER_FENCED_VERSION: i16 = 2;
/// The first version with several transactions.
const TRANSACTIONS_VERSION: i16 = 4;
const ABORTABLE_VERSION: i16 = 5;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    if context.version < TRANSACTIONS_VERSION {
        let transaction = AddPartitionsToTxnTransaction {
            transactional_id: request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            verify_only: false,
            topics: request.v3_and_below_topics,
        };
        let results = add(gateway, context, &transaction).await;
        return AddPartitionsToTxnResponse { results_by_topic_v3_and_below: results, ..Default::default() };
    }
    let mut response = AddPartitionsToTxnResponse::default();
    for transaction in request.transactions {
        let topic_results = add(gateway, context, &transaction).await;
        let transactional_id = transaction.transactional_id;
        response.results_by_transaction.push(AddPartitionsToTxnResult { transactional_id, topic_results });
    }
    response
}

async fn add<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    asked: &AddPartitionsToTxnTransaction,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let version = context.version;
    let permitted = match version < TRANSACTIONS_VERSION {
        true => gateway.check(context, Operation::Write, Resource::TransactionalId(&asked.transactional_id)),
        false => gateway.check(context, Operation::ClusterAction, Resource::Cluster),
    };
    if let Err(code) = permitted {
        return asked.topics.iter().map(|topic| result(topic, std::iter::repeat(code))).collect();
    }
    let (mut partitions, mut are_known) = (Vec::new(), true);
    for topic in &asked.topics {
        let found = find(gateway, context, topic);
        are_known &= found.iter().all(Result::is_ok);
        partitions.extend(found.into_iter().flatten());
    }
    if !are_known {
        let result_of = |topic| {
            let found = find(gateway, context, topic).into_iter();
            result(topic, found.map(|found| found.err().unwrap_or(ErrorCode::OperationNotAttempted)))
        };
        return asked.topics.iter().map(result_of).collect();
    }
    let producer = ProducerEpoch { id: asked.producer_id, epoch: asked.producer_epoch };
    let addition = Addition { partitions, offsets_partition: None };
    let done = match asked.verify_only {
        true => gateway.transactions.verify(&asked.transactional_id, producer, addition).await,
        false => gateway.transactions.add(&asked.transactional_id, producer, addition).await,
    };
    let code = match done.map_err(ErrorCode::from) {
        Ok(()) => ErrorCode::None,
        Err(code) if version < PRODUCER_FENCED_VERSION => code.before_producer_fenced(),
        Err(ErrorCode::TransactionAbortable) if version < ABORTABLE_VERSION => ErrorCode::InvalidTxnState,
        Err(code) => code,
    };
    asked.topics.iter().map(|topic| result(topic, std::iter::repeat(code))).collect()
}

/// The partitions asked for, in order. Brokers may see all; a client needs the right to write to them.
fn find<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    asked: &AddPartitionsToTxnTopic,
) -> Vec<Result<PartitionId, ErrorCode>> {
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let topic = match context.version < TRANSACTIONS_VERSION {
        true => gateway.topic_for(context, Operation::Write, &asked.name),
        false => gateway.topic(&asked.name).ok_or(unknown),
    };
    let find = |index: &i32| match &topic {
        Ok(topic) => partition_of(topic, *index).ok_or(unknown),
        Err(code) => Err(*code),
    };
    asked.partitions.iter().map(find).collect()
}

fn result(
    asked: &AddPartitionsToTxnTopic,
    codes: impl Iterator<Item = ErrorCode>,
) -> AddPartitionsToTxnTopicResult {
    let results = asked.partitions.iter().zip(codes).map(|(&partition_index, code)| {
        AddPartitionsToTxnPartitionResult { partition_index, partition_error_code: code.code() }
    });
    AddPartitionsToTxnTopicResult { name: asked.name.clone(), results_by_partition: results.collect() }
}
