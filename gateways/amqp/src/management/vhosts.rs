//! `/api/vhosts`: vhosts, with what is in them in sum.

use axum::http::Method;
use core_rpc::Core;
use serde_json::{Map, Value, json};

use super::call::{Call, Failure, Reply, boolean};
use crate::Gateway;
use crate::errors::{Refusal, ReplyCode};
use crate::state::topology::QueueType;
use crate::state::topology::records::VhostRecord;

pub async fn handle<C: Core>(call: &Call<C>, path: &[&str]) -> Result<Reply, Failure> {
    match (&call.method, path) {
        (&Method::GET, []) => {
            let mut vhosts = Vec::new();
            for name in call.vhosts(None)? {
                vhosts.push(show(call, &name).await?);
            }
            Ok(Reply::List(vhosts))
        }
        (&Method::GET, [name]) => Ok(Reply::Json(show(call, &call.vhost_to_see(name)?).await?)),
        (&Method::PUT, [name]) => put(call, name, &call.object()?).await,
        (&Method::DELETE, [name]) => delete(call, name).await,
        (&Method::GET, [name, "permissions"]) => super::permissions::of_vhost(call, name),
        (&Method::GET, [name, "topic-permissions"]) => super::permissions::topics_of_vhost(call, name),
        (&Method::GET, [name, "connections"]) => super::connections::of_vhost(call, name).await,
        (&Method::GET, [name, "channels"]) => super::channels::of_vhost(call, name).await,
        (method @ (&Method::POST | &Method::DELETE), [name, "deletion", "protection"]) => {
            protect(call, name, *method == Method::POST).await
        }
        (_, [] | [_]) => Err(Failure::not_allowed()),
        _ => Err(Failure::not_found()),
    }
}

/// What definitions say of a vhost.
pub(super) fn definition(name: &str, record: &VhostRecord) -> Map<String, Value> {
    let metadata = json!({
        "description": record.description,
        "tags": record.tags,
        "default_queue_type": record.default_queue_type,
    });
    let mut object = Map::new();
    object.insert("name".into(), name.into());
    object.insert("description".into(), record.description.as_str().into());
    object.insert("tags".into(), json!(record.tags));
    object.insert("default_queue_type".into(), json!(record.default_queue_type));
    object.insert("tracing".into(), record.tracing.into());
    object.insert("metadata".into(), metadata);
    object
}

async fn show<C: Core>(call: &Call<C>, name: &str) -> Result<Value, Failure> {
    let gateway = call.gateway();
    let record = gateway.topology.image().vhost(name).and_then(|vhost| vhost.record.clone()).unwrap_or_default();
    let mut object = definition(name, &record);
    object.insert("protected_from_deletion".into(), record.protected_from_deletion.into());
    gateway.queues.settler().settled().await;
    let counts = gateway.topology.counts_of(&gateway.topology.queues(name)).await?;
    let (ready, unacknowledged) =
        counts.values().fold((0, 0), |(ready, out), of| (ready + of.ready, out + of.unacknowledged));
    let of = format!("vhost/{name}");
    call.rates().show(&mut object, &of, "messages", ready + unacknowledged);
    call.rates().show(&mut object, &of, "messages_ready", ready);
    call.rates().show(&mut object, &of, "messages_unacknowledged", unacknowledged);
    let running: Map<String, Value> = gateway
        .membership
        .live()
        .iter()
        .map(|member| (super::nodes::node_name(member), Value::from("running")))
        .collect();
    object.insert("cluster_state".into(), running.into());
    Ok(Value::Object(object))
}

/// Makes or changes a vhost, as a request or a definition says.
pub(super) async fn put<C: Core>(call: &Call<C>, name: &str, said: &Map<String, Value>) -> Result<Reply, Failure> {
    call.administrator()?;
    if name.is_empty() {
        return Err(Failure::bad_request("a vhost must have a name"));
    }
    let metadata = said.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    let find = |name: &str| said.get(name).or_else(|| metadata.get(name));
    let default_queue_type = find("default_queue_type").and_then(Value::as_str).filter(|name| *name != "undefined");
    if let Some(unknown) = default_queue_type.filter(|name| QueueType::of(name).is_none()) {
        return Err(Failure::bad_request(format!("Unsupported default queue type: {unknown}")));
    }
    let tags = match find("tags") {
        Some(Value::String(tags)) => {
            tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(Into::into).collect()
        }
        Some(Value::Array(tags)) => tags.iter().filter_map(Value::as_str).map(Into::into).collect(),
        _ => Vec::new(),
    };
    let old = call.gateway().topology.image().vhost(name).and_then(|vhost| vhost.record.clone()).unwrap_or_default();
    let record = VhostRecord {
        description: find("description").and_then(Value::as_str).map_or(old.description, Into::into),
        tags,
        default_queue_type: default_queue_type.map(Into::into),
        tracing: boolean(said.get("tracing"), false),
        protected_from_deletion: boolean(said.get("protected_from_deletion"), old.protected_from_deletion),
    };
    let is_new = call.gateway().topology.put_vhost(name, &record).await?;
    if is_new {
        // As RabbitMQ's API does: whoever makes a vhost may use it.
        super::permissions::give(call, name, &call.user.name, ".*", ".*", ".*").await?;
    }
    Ok(if is_new { Reply::Created(None) } else { Reply::NoContent })
}

async fn delete<C: Core>(call: &Call<C>, name: &str) -> Result<Reply, Failure> {
    call.administrator()?;
    call.known_vhost(name)?;
    let gateway = call.gateway();
    let is_protected = gateway
        .topology
        .image()
        .vhost(name)
        .and_then(|vhost| vhost.record.as_ref())
        .is_some_and(|record| record.protected_from_deletion);
    if is_protected {
        return Err(Failure::new(
            412,
            "precondition_failed",
            format!("Refusing to delete virtual host '{name}' because it is protected from deletion"),
        ));
    }
    gateway.topology.delete_vhost(name).await?;
    close_connections(gateway, name);
    call.elsewhere(Method::DELETE, &["vhosts", name]).await;
    Ok(Reply::NoContent)
}

/// Those of this gateway, of a vhost that is deleted.
pub(super) fn close_connections<C: Core>(gateway: &Gateway<C>, vhost: &str) {
    for connection in gateway.registry.all() {
        if *connection.vhost == *vhost {
            connection.close(Refusal::new(ReplyCode::ConnectionForced, format!("vhost '{vhost}' is deleted")));
        }
    }
}

async fn protect<C: Core>(call: &Call<C>, name: &str, is_protected: bool) -> Result<Reply, Failure> {
    call.administrator()?;
    call.known_vhost(name)?;
    let topology = &call.gateway().topology;
    let record = topology.image().vhost(name).and_then(|vhost| vhost.record.clone()).unwrap_or_default();
    topology.put_vhost(name, &VhostRecord { protected_from_deletion: is_protected, ..record }).await?;
    Ok(Reply::NoContent)
}
