//! access.request (30, 10): tickets of AMQP 0-8. Granted without a look, as in RabbitMQ: permissions are checked where
//! something is done.

use codec_amqp::access;
use core_rpc::Core;

use super::Request;
use crate::errors::Refusal;

pub fn handle<C: Core>(request: &mut Request<'_, C>, _: access::Request) -> Result<(), Refusal> {
    request.reply(access::RequestOk { ticket: 1 });
    Ok(())
}
