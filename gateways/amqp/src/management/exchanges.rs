//! `/api/exchanges`: exchanges; what leads to and from them; publishing.

use std::sync::Arc;

use axum::http::Method;
use core_rpc::Core;
use serde_json::{Map, Value};

use super::call::{Call, Failure, Reply, boolean, text};
use crate::state::access::Permission;
use crate::state::topology::{Arguments, Exchange, ExchangeDeclare, ExchangeKind, Resource};

/// What the default exchange is called in paths.
const DEFAULT: &str = "amq.default";

pub async fn handle<C: Core>(call: &Call<C>, path: &[&str]) -> Result<Reply, Failure> {
    match (&call.method, path) {
        (&Method::GET, []) => list(call, None),
        (&Method::GET, [vhost]) => list(call, Some(vhost)),
        (&Method::GET, [vhost, name]) => {
            let vhost = call.vhost_to_see(vhost)?;
            let exchange = call.gateway().topology.exchange(&vhost, real(name)).ok_or_else(Failure::not_found)?;
            Ok(Reply::Json(show(&exchange)))
        }
        (&Method::PUT, [vhost, name]) => {
            let vhost = call.vhost_to_use(vhost)?;
            let is_new = declare(call, &vhost, name, &call.object()?).await?;
            Ok(if is_new { Reply::Created(None) } else { Reply::NoContent })
        }
        (&Method::DELETE, [vhost, name]) => delete(call, vhost, real(name)).await,
        (&Method::POST, [vhost, name, "publish"]) => super::messages::publish(call, vhost, real(name)).await,
        (&Method::GET, [vhost, name, "bindings", "source"]) => super::bindings::of_source(call, vhost, real(name)),
        (&Method::GET, [vhost, name, "bindings", "destination"]) => {
            super::bindings::to_exchange(call, vhost, real(name))
        }
        (_, [] | [_] | [_, _]) => Err(Failure::not_allowed()),
        _ => Err(Failure::not_found()),
    }
}

fn real(name: &str) -> &str {
    if name == DEFAULT { "" } else { name }
}

fn list<C: Core>(call: &Call<C>, vhost: Option<&str>) -> Result<Reply, Failure> {
    let vhosts = call.vhosts(vhost)?;
    let image = call.gateway().topology.image();
    let mut exchanges: Vec<&Arc<Exchange>> =
        vhosts.iter().filter_map(|vhost| image.vhost(vhost)).flat_map(|vhost| vhost.exchanges()).collect();
    exchanges.sort_by(|one, other| (&one.vhost, &one.name).cmp(&(&other.vhost, &other.name)));
    Ok(Reply::List(exchanges.into_iter().map(|exchange| show(exchange)).collect()))
}

/// What definitions say of an exchange.
pub(super) fn definition(exchange: &Exchange) -> Map<String, Value> {
    let record = &exchange.record;
    let mut object = Map::new();
    object.insert("name".into(), (*exchange.name).into());
    object.insert("vhost".into(), (*exchange.vhost).into());
    object.insert("type".into(), record.kind.name().into());
    object.insert("durable".into(), record.durable.into());
    object.insert("auto_delete".into(), record.auto_delete.into());
    object.insert("internal".into(), record.internal.into());
    object.insert("arguments".into(), record.arguments.to_json());
    object
}

fn show(exchange: &Exchange) -> Value {
    let mut object = definition(exchange);
    object.insert("user_who_performed_action".into(), exchange.record.user.as_str().into());
    if let Some(policy) = &exchange.policy {
        object.insert("policy".into(), policy.as_str().into());
    }
    Value::Object(object)
}

/// Declares an exchange, as a request or a definition says. True: it is new.
pub(super) async fn declare<C: Core>(
    call: &Call<C>,
    vhost: &Arc<str>,
    name: &str,
    said: &Map<String, Value>,
) -> Result<bool, Failure> {
    let kind = text(said, "type").unwrap_or(ExchangeKind::Direct.name());
    let kind = ExchangeKind::of(kind).ok_or_else(|| Failure::bad_request(format!("unknown exchange type '{kind}'")))?;
    let arguments = arguments(said)?;
    call.check(vhost, Permission::Configure, Resource::Exchange(vhost, name))?;
    if let Some(alternate) = arguments.text("alternate-exchange") {
        call.check(vhost, Permission::Read, Resource::Exchange(vhost, name))?;
        call.check(vhost, Permission::Write, Resource::Exchange(vhost, alternate))?;
    }
    let declare = ExchangeDeclare {
        vhost,
        name,
        kind,
        durable: boolean(said.get("durable"), true),
        auto_delete: boolean(said.get("auto_delete"), false),
        internal: boolean(said.get("internal"), false),
        arguments,
        user: &call.user.name,
    };
    let (_, is_new) = call.gateway().topology.declare_exchange(declare).await?;
    Ok(is_new)
}

/// The arguments that are said; none if they are not.
pub(super) fn arguments(said: &Map<String, Value>) -> Result<Arguments, Failure> {
    match said.get("arguments") {
        None | Some(Value::Null) => Ok(Arguments::default()),
        // As PHP writes an empty object.
        Some(Value::Array(none)) if none.is_empty() => Ok(Arguments::default()),
        Some(arguments) => Arguments::from_json(arguments)
            .ok_or_else(|| Failure::bad_request("arguments must be an object without nulls")),
    }
}

async fn delete<C: Core>(call: &Call<C>, vhost: &str, name: &str) -> Result<Reply, Failure> {
    let vhost = call.vhost_to_use(vhost)?;
    call.gateway().topology.exchange(&vhost, name).ok_or_else(Failure::not_found)?;
    call.check(&vhost, Permission::Configure, Resource::Exchange(&vhost, name))?;
    let if_unused = call.query.get("if-unused").map(String::as_str) == Some("true");
    call.gateway().topology.delete_exchange(&vhost, name, if_unused).await?;
    Ok(Reply::NoContent)
}
