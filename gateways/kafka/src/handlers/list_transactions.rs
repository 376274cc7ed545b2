//! ListTransactions (66), versions 0 to 2: the transactional ids that this gateway coordinates.
//!
//! - Version 1 (KIP-994): only those whose transaction began longer ago. Version 2 (KIP-1152): only those whose whole id matches a
//!   regular expression; one that cannot be read is refused with INVALID_REGULAR_EXPRESSION.

use codec_kafka::messages::list_transactions::{
    ListTransactionsRequest, ListTransactionsResponse, TransactionState as Listed,
};
use core_rpc::Core;
use regex_lite::Regex;

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource};
use crate::state::transactions::{ListFilter, TransactionState};

/// States that Kafka knows too. No transaction here is ever in one of them.
const OTHER_STATES: [&str; 2] = ["Dead", "PrepareEpochFence"];

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: ListTransactionsRequest,
) -> ListTransactionsResponse {
    let pattern = request.transactional_id_pattern.filter(|pattern| !pattern.is_empty());
    let pattern = match pattern.map(|pattern| Regex::new(&format!("^(?:{pattern})$"))).transpose() {
        Ok(pattern) => pattern,
        Err(_) => {
            let error_code = ErrorCode::InvalidRegularExpression.code();
            return ListTransactionsResponse { error_code, ..Default::default() };
        }
    };
    let (mut states, mut unknown_state_filters) = (Vec::new(), Vec::new());
    for name in &request.state_filters {
        match TransactionState::ALL.into_iter().find(|state| state.name() == name) {
            Some(state) => states.push(state),
            None if OTHER_STATES.contains(&name.as_str()) => {}
            None => unknown_state_filters.push(name.clone()),
        }
    }
    let filter = ListFilter {
        producer_ids: request.producer_id_filters,
        states: (!request.state_filters.is_empty()).then_some(states),
        longer_than_ms: (request.duration_filter >= 0).then_some(request.duration_filter),
        pattern,
    };
    let mut listed = gateway.transactions.list(&filter);
    listed.retain(|transaction| {
        gateway.check(context, Operation::Describe, Resource::TransactionalId(&transaction.id)).is_ok()
    });
    let listed = listed.into_iter().map(|transaction| Listed {
        transactional_id: transaction.id,
        producer_id: transaction.producer_id,
        transaction_state: transaction.state.name().to_owned(),
    });
    ListTransactionsResponse { unknown_state_filters, transaction_states: listed.collect(), ..Default::default() }
}
