//! basic.ack (60, 80): messages are done with.

use codec_amqp::basic;
use core_rpc::Core;

use super::Request;
use super::settling::settle;
use crate::errors::Refusal;
use crate::state::channel::Outcome;

pub fn handle<C: Core>(request: &mut Request<'_, C>, method: basic::Ack) -> Result<(), Refusal> {
    settle(request, method.delivery_tag, method.multiple, Outcome::Ack)
}
