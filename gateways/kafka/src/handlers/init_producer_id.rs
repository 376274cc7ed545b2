//! InitProducerId (22), versions 0 to 5: gives a producer its id and epoch.
//!
//! - With a transactional id: the id's next epoch; whoever had the last is fenced, and what is open is aborted. Kafka
//!   answers CONCURRENT_TRANSACTIONS while it aborts; here the answer waits for it.
//! - Without: a new id with epoch 0, also for a producer that names an id to have its epoch raised (KIP-360), as from Kafka.
//! - Version 3: who names what it had is refused if another has begun since. Version 4: PRODUCER_FENCED (KIP-588).

use codec_kafka::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource, ResourceType};
use crate::state::transactions::ProducerEpoch;

const PRODUCER_FENCED_VERSION: i16 = 4;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let expected = match (request.producer_id, request.producer_epoch) {
        (-1, -1) => None,
        // Both or neither.
        (-1, _) | (_, -1) => return failed(ErrorCode::InvalidRequest),
        (id, epoch) => Some(ProducerEpoch { id, epoch }),
    };
    let Some(transactional_id) = &request.transactional_id else {
        // Who may write anything may do it idempotently (KIP-679).
        let cluster = gateway.check(context, Operation::IdempotentWrite, Resource::Cluster);
        if let Err(code) = cluster
            && !gateway.security.allows_some(&context.peer, Operation::Write, ResourceType::Topic)
        {
            return failed(code);
        }
        return match gateway.producer_ids.next().await {
            Ok(producer_id) => InitProducerIdResponse { producer_id, ..Default::default() },
            Err(error) => failed((&error).into()),
        };
    };
    if let Err(code) = gateway.check(context, Operation::Write, Resource::TransactionalId(transactional_id)) {
        return failed(code);
    }
    match gateway.transactions.init(transactional_id, request.transaction_timeout_ms, expected).await {
        Ok(producer) => InitProducerIdResponse {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            ..Default::default()
        },
        Err(error) if context.version < PRODUCER_FENCED_VERSION => {
            failed(ErrorCode::from(error).before_producer_fenced())
        }
        Err(error) => failed(error.into()),
    }
}

fn failed(code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse { error_code: code.code(), producer_epoch: -1, ..Default::default() }
}
