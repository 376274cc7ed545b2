//! InitProducerId (22), versions 0 to 5: gives an idempotent producer its id.
//!
//! - A transactional id is refused with TRANSACTIONAL_ID_AUTHORIZATION_FAILED: there are no transactions yet.
//! - A producer that names an id to have its epoch raised (KIP-360) gets a new id with epoch 0, as from Kafka.

use codec_kafka::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource, ResourceType};

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    if let Some(transactional_id) = &request.transactional_id {
        let code = match transactional_id.is_empty() {
            true => ErrorCode::InvalidRequest,
            false => ErrorCode::TransactionalIdAuthorizationFailed,
        };
        return failed(code);
    }
    // Both or neither.
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return failed(ErrorCode::InvalidRequest);
    }
    // Who may write anything may do it idempotently (KIP-679).
    let cluster = gateway.check(context, Operation::IdempotentWrite, Resource::Cluster);
    if let Err(code) = cluster
        && !gateway.security.allows_some(&context.peer, Operation::Write, ResourceType::Topic)
    {
        return failed(code);
    }
    match gateway.producer_ids.next().await {
        Ok(producer_id) => InitProducerIdResponse { producer_id, ..Default::default() },
        Err(error) => failed((&error).into()),
    }
}

fn failed(code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse { error_code: code.code(), producer_epoch: -1, ..Default::default() }
}
