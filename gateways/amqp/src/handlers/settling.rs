//! What basic.ack, basic.nack and basic.reject have in common.

use core_rpc::Core;

use super::Request;
use crate::errors::Refusal;
use crate::state::channel::{Outcome, UnknownTag};

/// Settles deliveries; in a transaction, with its commit.
pub fn settle<C: Core>(
    request: &mut Request<'_, C>,
    delivery_tag: u64,
    multiple: bool,
    outcome: Outcome,
) -> Result<(), Refusal> {
    let unknown = |UnknownTag(tag)| Refusal::precondition_failed(format!("unknown delivery tag {tag}"));
    let channel = &mut *request.channel;
    if let Some(transaction) = &mut channel.transaction {
        let taken = channel.consuming.take(delivery_tag, multiple).map_err(unknown)?;
        transaction.settles.push((taken, outcome));
        return Ok(());
    }
    let settled = channel.consuming.settle(delivery_tag, multiple, outcome).map_err(unknown)?;
    if outcome == Outcome::Ack {
        channel.info.counters.ack.add(settled);
    }
    request.settles.touch(channel.number);
    Ok(())
}
