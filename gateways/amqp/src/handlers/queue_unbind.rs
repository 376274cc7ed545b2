//! queue.unbind (50, 50): removes a binding; one that is not there is no error. Needs what queue.bind needs.

use codec_amqp::queue;
use core_rpc::Core;

use super::Request;
use super::queue_bind::{check, routing_key};
use crate::errors::Refusal;
use crate::state::topology::{Arguments, BindRequest, DestinationKind};

pub async fn handle<C: Core>(request: &mut Request<'_, C>, method: queue::Unbind) -> Result<(), Refusal> {
    let (gateway, connection) = (request.gateway.clone(), request.connection.clone());
    let destination = request.channel.queue_name(&method.queue)?;
    let unbind = BindRequest {
        vhost: &connection.vhost,
        source: &method.exchange,
        kind: DestinationKind::Queue,
        destination: &destination,
        routing_key: routing_key(&method.queue, &method.routing_key, &destination),
        arguments: Arguments::from(&method.arguments),
        connection: &connection.holder_prefix,
    };
    check(request, &connection, &unbind)?;
    gateway.topology.unbind(&unbind).await?;
    request.reply(queue::UnbindOk {});
    Ok(())
}
