//! queue.delete (50, 40): deletes a queue, its bindings and its messages; one that is not there is no error, as in RabbitMQ.
//! Needs configure on the queue.

use codec_amqp::queue;
use core_rpc::Core;

use super::Request;
use crate::errors::Refusal;
use crate::state::access::Permission;
use crate::state::topology::{QueueDelete, Resource};

pub async fn handle<C: Core>(request: &mut Request<'_, C>, method: queue::Delete) -> Result<(), Refusal> {
    let (gateway, connection) = (request.gateway.clone(), request.connection.clone());
    let name = request.channel.queue_name(&method.queue)?;
    let resource = Resource::Queue(&connection.vhost, &name);
    gateway.access.check(&connection, Permission::Configure, resource)?;
    gateway.topology.look_for(resource).await?;
    let known = gateway.topology.queue(&connection.vhost, &name);
    if method.if_empty {
        // What others have acknowledged is not there any more.
        gateway.queues.settler().settled().await;
    }
    let mut consumers = known.as_ref().map_or(0, |queue| gateway.queues.consumers(queue.topic));
    if method.if_unused
        && consumers == 0
        && let Some(queue) = &known
        && gateway.queues.is_consumed_elsewhere(queue, gateway.membership.own().node_id).await?
    {
        consumers = 1;
    }
    let delete = QueueDelete {
        vhost: &connection.vhost,
        name: &name,
        if_unused: method.if_unused,
        consumers,
        if_empty: method.if_empty,
        connection: &connection.holder_prefix,
    };
    let messages = gateway.topology.delete_queue(delete).await?;
    if !method.no_wait {
        request.reply(queue::DeleteOk { message_count: messages.try_into().unwrap_or(u32::MAX) });
    }
    Ok(())
}
