//! channel.flow (20, 20): a client that wants no deliveries for a while. As in RabbitMQ only `active = true` is taken,
//! and stopping refused: prefetch limits do that.

use codec_amqp::channel;
use core_rpc::Core;

use super::Request;
use crate::errors::Refusal;

pub async fn handle<C: Core>(request: &mut Request<'_, C>, method: channel::Flow) -> Result<(), Refusal> {
    if !method.active {
        return Err(Refusal::not_implemented("active=false"));
    }
    request.reply(channel::FlowOk { active: true });
    Ok(())
}
