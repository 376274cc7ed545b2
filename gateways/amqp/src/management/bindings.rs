//! `/api/bindings`.

use std::sync::Arc;

use axum::http::Method;
use core_rpc::Core;
use serde_json::{Map, Value, json};

use super::call::{Call, Failure, Reply, text};
use crate::state::access::Permission;
use crate::state::topology::{Arguments, BindRequest, Binding, DestinationKind, Resource};

pub async fn handle<C: Core>(call: &Call<C>, path: &[&str]) -> Result<Reply, Failure> {
    match (&call.method, path) {
        (&Method::GET, []) => Ok(Reply::List(all(call, None)?)),
        (&Method::GET, [vhost]) => Ok(Reply::List(all(call, Some(vhost))?)),
        (&Method::GET, [vhost, "e", source, letter, destination]) => {
            Ok(Reply::List(between(call, vhost, source, kind(letter)?, destination)?))
        }
        (&Method::POST, [vhost, "e", source, letter, destination]) => {
            let vhost = call.vhost_to_use(vhost)?;
            let properties_key = bind(call, &vhost, source, kind(letter)?, destination, &call.object()?).await?;
            Ok(Reply::Created(Some(properties_key)))
        }
        (&Method::GET, [vhost, "e", source, letter, destination, properties_key]) => {
            let found = between(call, vhost, source, kind(letter)?, destination)?.into_iter();
            let mut found = found.filter(|binding| binding["properties_key"] == *properties_key);
            found.next().map(Reply::Json).ok_or_else(Failure::not_found)
        }
        (&Method::DELETE, [vhost, "e", source, letter, destination, properties_key]) => {
            unbind(call, vhost, source, kind(letter)?, destination, properties_key).await
        }
        (_, [] | [_] | [_, "e", _, _, _] | [_, "e", _, _, _, _]) => Err(Failure::not_allowed()),
        _ => Err(Failure::not_found()),
    }
}

fn kind(letter: &str) -> Result<DestinationKind, Failure> {
    DestinationKind::of_letter(letter).ok_or_else(Failure::not_found)
}

/// A binding as definitions show it.
pub(super) fn definition(vhost: &str, binding: &Binding) -> Value {
    json!({
        "source": &*binding.source,
        "vhost": vhost,
        "destination": &*binding.destination,
        "destination_type": binding.kind.name(),
        "routing_key": binding.routing_key,
        "arguments": binding.arguments.to_json(),
    })
}

fn show(vhost: &str, binding: &Binding) -> Value {
    let mut object = definition(vhost, binding);
    object["properties_key"] = shown_key(binding).into();
    object
}

/// What is shown and written in paths: the key without its percent signs, which a path has its own of.
fn shown_key(binding: &Binding) -> String {
    binding.properties_key.clone()
}

/// The default exchange's binding of a queue.
fn default(vhost: &str, queue: &str) -> Value {
    json!({
        "source": "",
        "vhost": vhost,
        "destination": queue,
        "destination_type": "queue",
        "routing_key": queue,
        "arguments": {},
        "properties_key": queue,
    })
}

fn all<C: Core>(call: &Call<C>, vhost: Option<&str>) -> Result<Vec<Value>, Failure> {
    let vhosts = call.vhosts(vhost)?;
    let image = call.gateway().topology.image();
    let mut bindings = Vec::new();
    for vhost in vhosts.iter().filter_map(|vhost| image.vhost(vhost)) {
        bindings.extend(vhost.queues.values().map(|queue| default(&vhost.name, &queue.name)));
        bindings.extend(vhost.all_bindings().map(|binding| show(&vhost.name, binding)));
    }
    Ok(bindings)
}

fn between<C: Core>(
    call: &Call<C>,
    vhost: &str,
    source: &str,
    kind: DestinationKind,
    destination: &str,
) -> Result<Vec<Value>, Failure> {
    let vhost = call.vhost_to_see(vhost)?;
    let image = call.gateway().topology.image();
    let vhost = image.vhost(&vhost).ok_or_else(Failure::not_found)?;
    if source.is_empty() || source == "amq.default" {
        let queue = vhost.queues.get(destination).filter(|_| kind == DestinationKind::Queue);
        return Ok(queue.map(|queue| default(&vhost.name, &queue.name)).into_iter().collect());
    }
    let found = vhost.bindings_to(kind, destination).filter(|binding| &*binding.source == source);
    Ok(found.map(|binding| show(&vhost.name, binding)).collect())
}

/// Those that lead from an exchange; none from one that is not there, as RabbitMQ has it for all three lists.
pub(super) fn of_source<C: Core>(call: &Call<C>, vhost: &str, source: &str) -> Result<Reply, Failure> {
    let vhost = call.vhost_to_see(vhost)?;
    let image = call.gateway().topology.image();
    let vhost = image.vhost(&vhost).ok_or_else(Failure::not_found)?;
    let mut bindings: Vec<Value> = vhost.bindings_of(source).map(|binding| show(&vhost.name, binding)).collect();
    if source.is_empty() {
        bindings.extend(vhost.queues.values().map(|queue| default(&vhost.name, &queue.name)));
    }
    Ok(Reply::List(bindings))
}

/// Those that lead to an exchange.
pub(super) fn to_exchange<C: Core>(call: &Call<C>, vhost: &str, name: &str) -> Result<Reply, Failure> {
    let vhost = call.vhost_to_see(vhost)?;
    let image = call.gateway().topology.image();
    let vhost = image.vhost(&vhost).ok_or_else(Failure::not_found)?;
    let bindings = vhost.bindings_to(DestinationKind::Exchange, name).map(|binding| show(&vhost.name, binding));
    Ok(Reply::List(bindings.collect()))
}

/// Those that lead to a queue.
pub(super) fn to_queue<C: Core>(call: &Call<C>, vhost: &str, name: &str) -> Result<Reply, Failure> {
    let vhost = call.vhost_to_see(vhost)?;
    let image = call.gateway().topology.image();
    let vhost = image.vhost(&vhost).ok_or_else(Failure::not_found)?;
    let queue = vhost.queues.get(name);
    let own = vhost.bindings_to(DestinationKind::Queue, name).map(|binding| show(&vhost.name, binding));
    Ok(Reply::List(queue.map(|queue| default(&vhost.name, &queue.name)).into_iter().chain(own).collect()))
}

fn check<C: Core>(
    call: &Call<C>,
    vhost: &Arc<str>,
    source: &str,
    kind: DestinationKind,
    destination: &str,
) -> Result<(), Failure> {
    let resource = match kind {
        DestinationKind::Queue => Resource::Queue(vhost, destination),
        DestinationKind::Exchange => Resource::Exchange(vhost, destination),
    };
    call.check(vhost, Permission::Write, resource)?;
    if source.is_empty() {
        return Err(Failure::bad_request("operation not permitted on the default exchange"));
    }
    call.check(vhost, Permission::Read, Resource::Exchange(vhost, source))
}

/// Whether who asks may bind, and unbind, this routing key, if the source is a topic exchange.
fn check_topic<C: Core>(call: &Call<C>, vhost: &Arc<str>, source: &str, routing_key: &str) -> Result<(), Failure> {
    let (gateway, user) = (call.gateway(), &call.user.name);
    match gateway.topology.exchange(vhost, source) {
        Some(exchange) => Ok(gateway.access.check_topic(user, vhost, Permission::Read, &exchange, routing_key)?),
        None => Ok(()),
    }
}

/// Binds, as a request or a definition says. Returns the binding's properties key.
pub(super) async fn bind<C: Core>(
    call: &Call<C>,
    vhost: &Arc<str>,
    source: &str,
    kind: DestinationKind,
    destination: &str,
    said: &Map<String, Value>,
) -> Result<String, Failure> {
    let routing_key = text(said, "routing_key").unwrap_or_default();
    check(call, vhost, source, kind, destination)?;
    check_topic(call, vhost, source, routing_key)?;
    let bind = BindRequest {
        vhost,
        source,
        kind,
        destination,
        routing_key,
        arguments: super::exchanges::arguments(said)?,
        connection: "",
    };
    Ok(call.gateway().topology.bind(&bind).await?)
}

async fn unbind<C: Core>(
    call: &Call<C>,
    vhost: &str,
    source: &str,
    kind: DestinationKind,
    destination: &str,
    properties_key: &str,
) -> Result<Reply, Failure> {
    let vhost = call.vhost_to_use(vhost)?;
    check(call, &vhost, source, kind, destination)?;
    let found: Option<(String, Arguments)> = {
        let image = call.gateway().topology.image();
        let vhost = image.vhost(&vhost).ok_or_else(Failure::not_found)?;
        let mut bindings = vhost.bindings_to(kind, destination).filter(|binding| &*binding.source == source);
        // The path was decoded: a key may come as it is shown, or once more decoded.
        let is_it = |binding: &Binding| {
            shown_key(binding) == properties_key
                || (binding.arguments.is_empty()
                    && !binding.routing_key.is_empty()
                    && binding.routing_key == properties_key)
        };
        bindings.find(|binding| is_it(binding)).map(|binding| (binding.routing_key.clone(), binding.arguments.clone()))
    };
    let (routing_key, arguments) = found.ok_or_else(Failure::not_found)?;
    check_topic(call, &vhost, source, &routing_key)?;
    let unbind =
        BindRequest { vhost: &vhost, source, kind, destination, routing_key: &routing_key, arguments, connection: "" };
    call.gateway().topology.unbind(&unbind).await?;
    Ok(Reply::NoContent)
}
