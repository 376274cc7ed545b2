//! basic.recover (60, 110) and basic.recover-async (60, 100, without an answer): all that the channel has not settled goes back to
//! its queues, and is delivered again. As in RabbitMQ not without `requeue`.

use codec_amqp::basic;
use core_rpc::Core;

use super::Request;
use crate::errors::Refusal;

pub async fn handle<C: Core>(request: &mut Request<'_, C>, method: basic::Recover) -> Result<(), Refusal> {
    recover(request, method.requeue)?;
    request.reply(basic::RecoverOk {});
    Ok(())
}

pub(super) fn recover<C: Core>(request: &mut Request<'_, C>, requeue: bool) -> Result<(), Refusal> {
    if !requeue {
        return Err(Refusal::not_implemented("requeue=false"));
    }
    request.channel.consuming.recover();
    request.settles.touch(request.channel.number);
    Ok(())
}
