//! queue.bind (50, 20): messages that the exchange matches with the binding go to the queue. Needs write on the queue and read
//! on the exchange.
//!
//! - An empty routing key together with an empty queue name means the queue that was declared last, in both.

use codec_amqp::{ShortStr, queue};
use core_rpc::Core;

use super::Request;
use crate::errors::Refusal;
use crate::state::access::Permission;
use crate::state::registry::Connection;
use crate::state::topology::{Arguments, BindRequest, DestinationKind, Resource};

pub async fn handle<C: Core>(request: &mut Request<'_, C>, method: queue::Bind) -> Result<(), Refusal> {
    let (gateway, connection) = (request.gateway.clone(), request.connection.clone());
    let destination = request.channel.queue_name(&method.queue)?;
    let bind = BindRequest {
        vhost: &connection.vhost,
        source: &method.exchange,
        kind: DestinationKind::Queue,
        destination: &destination,
        routing_key: routing_key(&method.queue, &method.routing_key, &destination),
        arguments: Arguments::from(&method.arguments),
        connection: &connection.holder_prefix,
    };
    look_for(request, &bind).await?;
    check(request, &connection, &bind)?;
    gateway.topology.bind(&bind).await?;
    if !method.no_wait {
        request.reply(queue::BindOk {});
    }
    Ok(())
}

/// Both may be new, and known to another gateway only.
pub(super) async fn look_for<C: Core>(request: &Request<'_, C>, bind: &BindRequest<'_>) -> Result<(), Refusal> {
    let topology = &request.gateway.topology;
    topology.look_for(Resource::Exchange(bind.vhost, bind.source)).await?;
    topology.look_for(match bind.kind {
        DestinationKind::Queue => Resource::Queue(bind.vhost, bind.destination),
        DestinationKind::Exchange => Resource::Exchange(bind.vhost, bind.destination),
    })
    .await
}

/// What an empty routing key means.
pub(super) fn routing_key<'k>(queue: &ShortStr, routing_key: &'k ShortStr, destination: &'k ShortStr) -> &'k str {
    if queue.is_empty() && routing_key.is_empty() { destination } else { routing_key }
}

/// Whether the client may bind and unbind these two, in the order in which RabbitMQ asks.
pub(super) fn check<C: Core>(request: &Request<'_, C>, connection: &Connection, bind: &BindRequest<'_>) -> Result<(), Refusal> {
    let access = &request.gateway.access;
    if bind.kind == DestinationKind::Queue && bind.destination.starts_with("amq.rabbitmq.reply-to") {
        return Err(Refusal::access_refused("cannot bind or unbind to a volatile (direct reply-to) queue"));
    }
    let destination = match bind.kind {
        DestinationKind::Queue => Resource::Queue(bind.vhost, bind.destination),
        DestinationKind::Exchange => Resource::Exchange(bind.vhost, bind.destination),
    };
    access.check(connection, Permission::Write, destination)?;
    if bind.source.is_empty() || (bind.kind == DestinationKind::Exchange && bind.destination.is_empty()) {
        return Err(Refusal::access_refused("operation not permitted on the default exchange"));
    }
    access.check(connection, Permission::Read, Resource::Exchange(bind.vhost, bind.source))?;
    match request.gateway.topology.exchange(bind.vhost, bind.source) {
        Some(exchange) => {
            access.check_topic(&connection.user.name, &connection.vhost, Permission::Read, &exchange, bind.routing_key)
        }
        None => Ok(()),
    }
}
