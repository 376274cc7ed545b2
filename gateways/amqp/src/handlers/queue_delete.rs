//! queue.delete (50, 40): deletes a queue, its bindings and its messages; one that is not there is no error, as in RabbitMQ.
//! Needs configure on the queue.
//!
//! - `if_unused` looks at the consumers of this gateway.

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
    let delete = QueueDelete {
        vhost: &connection.vhost,
        name: &name,
        if_unused: method.if_unused,
        consumers: known.as_ref().map_or(0, |queue| gateway.queues.consumers(queue.topic)),
        if_empty: method.if_empty,
        connection: &connection.holder_prefix,
    };
    let messages = gateway.topology.delete_queue(delete).await?;
    if !method.no_wait {
        request.reply(queue::DeleteOk { message_count: messages.try_into().unwrap_or(u32::MAX) });
    }
    Ok(())
}
