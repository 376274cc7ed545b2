//! basic.nack (60, 120), RabbitMQ's: messages go back to where they were in their queue, or are dead.

use codec_amqp::basic;
use core_rpc::Core;

use super::Request;
use super::settling::settle;
use crate::errors::Refusal;
use crate::state::channel::Outcome;

pub fn handle<C: Core>(request: &mut Request<'_, C>, method: basic::Nack) -> Result<(), Refusal> {
    let outcome = if method.requeue { Outcome::Requeue } else { Outcome::Reject };
    settle(request, method.delivery_tag, method.multiple, outcome)
}
