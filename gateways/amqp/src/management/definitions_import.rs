//! Importing definitions, as RabbitMQ exports them: users with their password hashes, vhosts, permissions, parameters,
//! policies, exchanges, queues, bindings; in this order, so that each finds what it needs. What is there stays, and must be
//! the same; the first that cannot be done ends the import.

use std::sync::Arc;

use core_rpc::{Core, MetaCondition};
use serde_json::{Map, Value};

use super::call::{Call, Failure, integer, needed};
use crate::state::topology::{DestinationKind, keys};

/// `into`: the vhost for which the definitions are; None: for all that they name.
pub(super) async fn import<C: Core>(
    call: &Call<C>,
    into: Option<&Arc<str>>,
    said: &Map<String, Value>,
) -> Result<(), Failure> {
    if into.is_none() {
        for user in list(said, "users")? {
            let name = needed(user, "name")?;
            super::users::put(call, name, user).await.map_err(|failure| failure.about("user", name))?;
            if let Some(Value::Object(limits)) = user.get("limits") {
                put_limits(call, "user-limit", name, limits).await?;
            }
        }
        for vhost in list(said, "vhosts")? {
            let name = needed(vhost, "name")?;
            super::vhosts::put(call, name, vhost).await.map_err(|failure| failure.about("vhost", name))?;
        }
        for permission in list(said, "permissions")? {
            let (vhost, user) = (needed(permission, "vhost")?, needed(permission, "user")?);
            let put = super::permissions::put(call, vhost, user, permission).await;
            put.map_err(|failure| failure.about("permission of", user))?;
        }
        for permission in list(said, "topic_permissions")? {
            let (vhost, user) = (needed(permission, "vhost")?, needed(permission, "user")?);
            let put = super::permissions::put_topic(call, vhost, user, permission).await;
            put.map_err(|failure| failure.about("topic permission of", user))?;
        }
        for parameter in list(said, "global_parameters")? {
            let value = parameter.get("value").cloned().unwrap_or_default();
            super::parameters::put_global(call, needed(parameter, "name")?, &value).await?;
        }
    }
    for parameter in list(said, "parameters")? {
        put_parameter(call, &vhost_of(call, into, parameter)?, parameter).await?;
    }
    for policy in list(said, "policies")? {
        let (vhost, name) = (vhost_of(call, into, policy)?, needed(policy, "name")?);
        let put = super::policies::put(call, &vhost, name, policy, false).await;
        put.map_err(|failure| failure.about("policy", name))?;
    }
    for exchange in list(said, "exchanges")? {
        let (vhost, name) = (vhost_of(call, into, exchange)?, needed(exchange, "name")?);
        // Those that every vhost has.
        if name.is_empty() || name.starts_with("amq.") {
            continue;
        }
        let declared = super::exchanges::declare(call, &vhost, name, exchange).await;
        declared.map_err(|failure| failure.about("exchange", name))?;
    }
    for queue in list(said, "queues")? {
        let (vhost, name) = (vhost_of(call, into, queue)?, needed(queue, "name")?);
        if name.starts_with("amq.") {
            continue;
        }
        super::queues::declare(call, &vhost, name, queue).await.map_err(|failure| failure.about("queue", name))?;
    }
    for binding in list(said, "bindings")? {
        let vhost = vhost_of(call, into, binding)?;
        let (source, destination) = (needed(binding, "source")?, needed(binding, "destination")?);
        if source.is_empty() {
            continue;
        }
        let kind = match needed(binding, "destination_type")? {
            "queue" => DestinationKind::Queue,
            "exchange" => DestinationKind::Exchange,
            other => return Err(Failure::bad_request(format!("unknown destination type {other}"))),
        };
        let bound = super::bindings::bind(call, &vhost, source, kind, destination, binding).await;
        bound.map_err(|failure| failure.about("binding to", destination))?;
    }
    Ok(())
}

/// The objects of a list; none where there is no such list.
fn list<'s>(said: &'s Map<String, Value>, name: &str) -> Result<Vec<&'s Map<String, Value>>, Failure> {
    match said.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => {
            let object = |item: &'s Value| {
                item.as_object().ok_or_else(|| Failure::bad_request(format!("{name} must be objects")))
            };
            items.iter().map(object).collect()
        }
        Some(_) => Err(Failure::bad_request(format!("{name} must be a list"))),
    }
}

fn vhost_of<C: Core>(call: &Call<C>, into: Option<&Arc<str>>, said: &Map<String, Value>) -> Result<Arc<str>, Failure> {
    match into {
        Some(vhost) => Ok(vhost.clone()),
        None => {
            let name = needed(said, "vhost")?;
            call.known_vhost(name).map_err(|_| Failure::bad_request(format!("vhost '{name}' does not exist")))
        }
    }
}

/// Some components' parameters are kept as what they are.
async fn put_parameter<C: Core>(call: &Call<C>, vhost: &Arc<str>, said: &Map<String, Value>) -> Result<(), Failure> {
    let (component, name) = (needed(said, "component")?, needed(said, "name")?);
    let value = said.get("value").cloned().unwrap_or_default();
    match (component, &value) {
        ("vhost-limits", Value::Object(limits)) => put_limits(call, "limit", vhost, limits).await,
        ("operator_policy", Value::Object(policy)) => super::policies::put(call, vhost, name, policy, true).await,
        ("policy", Value::Object(policy)) => super::policies::put(call, vhost, name, policy, false).await,
        _ => super::parameters::put(call, component, vhost, name, &value).await,
    }
}

async fn put_limits<C: Core>(call: &Call<C>, kind: &str, of: &str, limits: &Map<String, Value>) -> Result<(), Failure> {
    for (name, value) in limits {
        let Some(value) = integer(Some(value)) else { continue };
        call.gateway().topology.put(keys::key(kind, &[of, name]), &value, MetaCondition::Always).await?;
    }
    Ok(())
}
