//! AddOffsetsToTxn (25), versions 0 to 4: announces that offsets of a group will be committed in a transaction.
//!
//! - Version 2: PRODUCER_FENCED (KIP-588).
//! - Clients of KIP-890 announce nothing.

use codec_kafka::messages::add_offsets_to_txn::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource};
use crate::state::transactions::{Addition, ProducerEpoch, offsets_partition};

const PRODUCER_FENCED_VERSION: i16 = 2;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    let permitted = gateway
        .check(context, Operation::Write, Resource::TransactionalId(&request.transactional_id))
        .and_then(|()| gateway.check(context, Operation::Read, Resource::Group(&request.group_id)));
    if let Err(code) = permitted {
        return AddOffsetsToTxnResponse { error_code: code.code(), ..Default::default() };
    }
    let producer = ProducerEpoch { id: request.producer_id, epoch: request.producer_epoch };
    let addition =
        Addition { offsets_partition: Some(offsets_partition(&request.group_id)), ..Default::default() };
    let result = gateway.transactions.add(&request.transactional_id, producer, addition).await;
    let code = match result.map_err(ErrorCode::from) {
        Ok(()) => ErrorCode::None,
        Err(code) if context.version < PRODUCER_FENCED_VERSION => code.before_producer_fenced(),
        Err(code) => code,
    };
    AddOffsetsToTxnResponse { error_code: code.code(), ..Default::default() }
}
