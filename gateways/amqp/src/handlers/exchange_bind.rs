//! exchange.bind (40, 30), RabbitMQ's: what the source routes by the binding goes to the destination exchange, too. Needs write on
//! the destination and read on the source.

use codec_amqp::exchange;
use core_rpc::Core;

use super::Request;
use super::queue_bind::{check, look_for};
use crate::errors::Refusal;
use crate::state::topology::{Arguments, BindRequest, DestinationKind};

pub async fn handle<C: Core>(request: &mut Request<'_, C>, method: exchange::Bind) -> Result<(), Refusal> {
    let (gateway, connection) = (request.gateway.clone(), request.connection.clone());
    let bind = BindRequest {
        vhost: &connection.vhost,
        source: &method.source,
        kind: DestinationKind::Exchange,
        destination: &method.destination,
        routing_key: &method.routing_key,
        arguments: Arguments::from(&method.arguments),
        connection: &connection.holder_prefix,
    };
    look_for(request, &bind).await?;
    check(request, &connection, &bind)?;
    gateway.topology.bind(&bind).await?;
    if !method.no_wait {
        request.reply(exchange::BindOk {});
    }
    Ok(())
}
