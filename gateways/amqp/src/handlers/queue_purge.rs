//! queue.purge (50, 30): drops what is ready in a queue; what is handed out stays. Needs read on the queue.

use codec_amqp::queue;
use core_rpc::Core;

use super::Request;
use crate::errors::Refusal;
use crate::state::access::Permission;

pub async fn handle<C: Core>(request: &mut Request<'_, C>, method: queue::Purge) -> Result<(), Refusal> {
    let name = request.channel.queue_name(&method.queue)?;
    let queue = request.usable_queue(&name, Permission::Read).await?;
    let messages = request.gateway.topology.purge_queue(&queue).await?;
    if !method.no_wait {
        request.reply(queue::PurgeOk { message_count: messages.try_into().unwrap_or(u32::MAX) });
    }
    Ok(())
}
