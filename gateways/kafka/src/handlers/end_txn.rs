//! EndTxn (26), versions 0 to 5: commits or aborts a transaction.
//!
//! - Answered when the decision is durable and carried out: what was committed is visible. Kafka answers before it has
//!   written the markers.
//! - Version 2: PRODUCER_FENCED (KIP-588). Version 5 (KIP-890): the producer's epoch is raised, and the response tells it.

use codec_kafka::messages::end_txn::{EndTxnRequest, EndTxnResponse};
use core_rpc::{Core, Outcome};

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource};
use crate::state::transactions::ProducerEpoch;

const PRODUCER_FENCED_VERSION: i16 = 2;
const RAISE_VERSION: i16 = 5;

pub async fn handle<C: Core>(gateway: &Gateway<C>, context: &Context, request: EndTxnRequest) -> EndTxnResponse {
    let id = &request.transactional_id;
    if let Err(code) = gateway.check(context, Operation::Write, Resource::TransactionalId(id)) {
        return EndTxnResponse { error_code: code.code(), ..Default::default() };
    }
    let producer = ProducerEpoch { id: request.producer_id, epoch: request.producer_epoch };
    let outcome = if request.committed { Outcome::Commit } else { Outcome::Abort };
    let raise = context.version >= RAISE_VERSION;
    let code = match gateway.transactions.end(id, producer, outcome, raise).await {
        Ok(next) => {
            return EndTxnResponse { producer_id: next.id, producer_epoch: next.epoch, ..Default::default() };
        }
        Err(error) if context.version < PRODUCER_FENCED_VERSION => ErrorCode::from(error).before_producer_fenced(),
        Err(error) => error.into(),
    };
    EndTxnResponse { error_code: code.code(), ..Default::default() }
}
