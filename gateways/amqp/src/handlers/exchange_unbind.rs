//! exchange.unbind (40, 40), RabbitMQ's: removes a binding between exchanges; one that is not there is no error. Needs what
//! exchange.bind needs.

use codec_amqp::exchange;
use core_rpc::Core;

use super::Request;
use super::queue_bind::check;
use crate::errors::Refusal;
use crate::state::topology::{Arguments, BindRequest, DestinationKind};

pub async fn handle<C: Core>(request: &mut Request<'_, C>, method: exchange::Unbind) -> Result<(), Refusal> {
    let (gateway, connection) = (request.gateway.clone(), request.connection.clone());
    let unbind = BindRequest {
        vhost: &connection.vhost,
        source: &method.source,
        kind: DestinationKind::Exchange,
        destination: &method.destination,
        routing_key: &method.routing_key,
        arguments: Arguments::from(&method.arguments),
        connection: &connection.holder_prefix,
    };
    check(request, &connection, &unbind)?;
    gateway.topology.unbind(&unbind).await?;
    if !method.no_wait {
        request.reply(exchange::UnbindOk {});
    }
    Ok(())
}
