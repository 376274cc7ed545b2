//! basic.reject (60, 90): a message goes back to where it was in its queue, or is dead.

use codec_amqp::basic;
use core_rpc::Core;

use super::Request;
use super::settling::settle;
use crate::errors::Refusal;
use crate::state::channel::Outcome;

pub fn handle<C: Core>(request: &mut Request<'_, C>, method: basic::Reject) -> Result<(), Refusal> {
    let outcome = if method.requeue { Outcome::Requeue } else { Outcome::Reject };
    settle(request, method.delivery_tag, false, outcome)
}
