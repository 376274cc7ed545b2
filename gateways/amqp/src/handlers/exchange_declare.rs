//! exchange.declare (40, 10): makes an exchange, or finds it as it is said to be; passive: only looks for it.
//!
//! - Needs configure on the exchange; one with an alternate exchange also read on it and write on the alternate one.
//! - An unknown type is 406, as in RabbitMQ 4 (503 before).

use codec_amqp::exchange;
use core_rpc::Core;

use super::Request;
use crate::errors::Refusal;
use crate::state::access::Permission;
use crate::state::topology::{Arguments, ExchangeDeclare, ExchangeKind, Resource};

pub async fn handle<C: Core>(request: &mut Request<'_, C>, method: exchange::Declare) -> Result<(), Refusal> {
    let (gateway, connection) = (request.gateway.clone(), request.connection.clone());
    let name = method.exchange.replace(['\r', '\n'], "");
    let resource = Resource::Exchange(&connection.vhost, &name);
    let kind = match method.passive {
        true => None,
        false => Some(ExchangeKind::of(&method.kind).ok_or_else(|| {
            Refusal::precondition_failed(format!("unknown exchange type '{}'", method.kind))
        })?),
    };
    if name.is_empty() {
        return Err(Refusal::access_refused("operation not permitted on the default exchange"));
    }
    match kind {
        None => {
            gateway.access.check_any(&connection, resource)?;
            gateway.topology.look_for(resource).await?;
            gateway.topology.known_exchange(&connection.vhost, &name)?;
        }
        Some(kind) => {
            gateway.access.check(&connection, Permission::Configure, resource)?;
            let arguments = Arguments::from(&method.arguments);
            if gateway.topology.exchange(&connection.vhost, &name).is_none()
                && let Some(alternate) = arguments.text("alternate-exchange")
            {
                gateway.access.check(&connection, Permission::Read, resource)?;
                let alternate = Resource::Exchange(&connection.vhost, alternate);
                gateway.access.check(&connection, Permission::Write, alternate)?;
            }
            let declare = ExchangeDeclare {
                vhost: &connection.vhost,
                name: &name,
                kind,
                durable: method.durable,
                auto_delete: method.auto_delete,
                internal: method.internal,
                arguments,
                user: &connection.user.name,
            };
            gateway.topology.declare_exchange(declare).await?;
        }
    }
    if !method.no_wait {
        request.reply(exchange::DeclareOk {});
    }
    Ok(())
}
