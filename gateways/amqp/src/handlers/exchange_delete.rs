//! exchange.delete (40, 20): deletes an exchange with its bindings; one that is not there is no error, as in RabbitMQ. Needs
//! configure on the exchange.

use codec_amqp::exchange;
use core_rpc::Core;

use super::Request;
use crate::errors::Refusal;
use crate::state::access::Permission;
use crate::state::topology::Resource;

pub async fn handle<C: Core>(request: &mut Request<'_, C>, method: exchange::Delete) -> Result<(), Refusal> {
    let (gateway, connection) = (request.gateway.clone(), request.connection.clone());
    let (vhost, name) = (&connection.vhost, &method.exchange);
    let resource = Resource::Exchange(vhost, name);
    // The names that nobody may delete are refused before anybody is asked for permissions.
    if name.is_empty() || name.starts_with("amq.") {
        return gateway.topology.delete_exchange(vhost, name, method.if_unused).await;
    }
    gateway.access.check(&connection, Permission::Configure, resource)?;
    gateway.topology.look_for(resource).await?;
    gateway.topology.delete_exchange(vhost, name, method.if_unused).await?;
    if !method.no_wait {
        request.reply(exchange::DeleteOk {});
    }
    Ok(())
}
