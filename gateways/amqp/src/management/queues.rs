//! `/api/queues`: queues with what is in them; declaring, deleting and emptying them; taking messages out.

use std::collections::HashMap;
use std::sync::Arc;

use axum::http::Method;
use core_rpc::{Core, TopicId};
use serde_json::{Map, Value, json};

use super::call::{Call, Failure, Reply, boolean, text};
use super::consumers::{ConsumedQueues, consumed_anywhere};
use crate::state::access::Permission;
use crate::state::topology::{Arguments, Counts, Queue, QueueDeclare, QueueDelete, QueueSize, QueueType, Resource};

pub async fn handle<C: Core>(call: &Call<C>, path: &[&str]) -> Result<Reply, Failure> {
    match (&call.method, path) {
        (&Method::GET, [] | ["detailed"]) => list(call, None).await,
        (&Method::GET, ["quorum", vhost, name, "status"]) => {
            let queue = known(call, vhost, name)?;
            match queue.queue_type() {
                QueueType::Quorum => Ok(Reply::List(Vec::new())),
                _ => Err(Failure::bad_request("not_quorum_queue")),
            }
        }
        (&Method::GET, [vhost]) => list(call, Some(vhost)).await,
        (&Method::GET, [vhost, name]) => {
            let queue = known(call, vhost, name)?;
            let mut shown = show_all(call, std::slice::from_ref(&queue)).await?.pop().unwrap_or_default();
            shown["consumer_details"] = super::consumers::of_queue(call, &queue).await.into();
            Ok(Reply::Json(shown))
        }
        (&Method::PUT, [vhost, name]) => {
            let vhost = call.vhost_to_use(vhost)?;
            let is_new = declare(call, &vhost, name, &call.object()?).await?;
            Ok(if is_new { Reply::Created(None) } else { Reply::NoContent })
        }
        (&Method::DELETE, [vhost, name]) => delete(call, vhost, name).await,
        (&Method::DELETE, [vhost, name, "contents"]) => {
            let vhost = call.vhost_to_use(vhost)?;
            let queue = known(call, &vhost, name)?;
            call.check(&vhost, Permission::Read, queue.resource())?;
            queue.check_owner("")?;
            call.gateway().topology.purge_queue(&queue).await?;
            Ok(Reply::NoContent)
        }
        (&Method::POST, [vhost, name, "get"]) => super::messages::get(call, vhost, name).await,
        (&Method::GET, [vhost, name, "bindings"]) => super::bindings::to_queue(call, vhost, name),
        (&Method::POST, [vhost, name, "actions"]) => {
            known(call, vhost, name)?;
            // What can be asked for (sync, cancel_sync) is about mirrors, of which there are none.
            Err(Failure::bad_request("not supported: there are no mirrored queues"))
        }
        (_, [] | [_] | [_, _]) => Err(Failure::not_allowed()),
        _ => Err(Failure::not_found()),
    }
}

pub(super) fn known<C: Core>(call: &Call<C>, vhost: &str, name: &str) -> Result<Arc<Queue>, Failure> {
    let vhost = call.vhost_to_see(vhost)?;
    call.gateway().topology.queue(&vhost, name).ok_or_else(Failure::not_found)
}

async fn list<C: Core>(call: &Call<C>, vhost: Option<&str>) -> Result<Reply, Failure> {
    let vhosts = call.vhosts(vhost)?;
    let queues: Vec<_> = vhosts.iter().flat_map(|vhost| call.gateway().topology.queues(vhost)).collect();
    Ok(Reply::List(show_all(call, &queues).await?))
}

async fn show_all<C: Core>(call: &Call<C>, queues: &[Arc<Queue>]) -> Result<Vec<Value>, Failure> {
    let topology = &call.gateway().topology;
    call.gateway().queues.settler().settled().await;
    let counts = topology.counts_of(queues).await?;
    let sizes = topology.sizes_of(queues).await;
    let consumed = consumed_anywhere(call).await;
    Ok(queues.iter().map(|queue| show(call, queue, &counts, &sizes, &consumed)).collect())
}

/// What definitions say of a queue.
pub(super) fn definition(queue: &Queue) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("name".into(), queue.name().into());
    object.insert("vhost".into(), queue.vhost().into());
    object.insert("durable".into(), queue.record.durable.into());
    object.insert("auto_delete".into(), queue.record.auto_delete.into());
    object.insert("arguments".into(), queue.record.arguments.to_json());
    object
}

fn show<C: Core>(
    call: &Call<C>,
    queue: &Queue,
    counts: &HashMap<TopicId, Counts>,
    sizes: &HashMap<TopicId, QueueSize>,
    consumed: &ConsumedQueues,
) -> Value {
    let gateway = call.gateway();
    let counts = counts.get(&queue.topic).copied().unwrap_or_default();
    let bytes = sizes.get(&queue.topic).copied().unwrap_or_default().bytes;
    let config = queue.config();
    let node = gateway.node_name();
    let mut object = definition(queue);
    let mut say = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    say("type", config.queue_type.name().into());
    say("exclusive", queue.record.exclusive.is_some().into());
    say("node", node.clone().into());
    say("state", "running".into());
    say("consumer_capacity", 0.into());
    say("consumer_utilisation", 0.into());
    say("policy", json!(config.policy));
    say("operator_policy", json!(config.operator_policy));
    say("effective_policy_definition", config.definition.clone().into());
    let consumed = consumed.get(&queue.topic.0.to_string()).cloned().unwrap_or_default();
    say("consumers", consumed.consumers.into());
    say("exclusive_consumer_tag", json!(consumed.exclusive_tag));
    say("single_active_consumer_tag", json!(consumed.active_tag));
    say("user_who_performed_action", queue.record.user.as_str().into());
    say("memory", 0.into());
    say("message_bytes", bytes.into());
    say("message_bytes_ready", bytes.into());
    say("message_bytes_persistent", if queue.record.durable { bytes } else { 0 }.into());
    say("message_bytes_unacknowledged", 0.into());
    say("message_bytes_ram", 0.into());
    say("message_bytes_paged_out", 0.into());
    say("messages_persistent", if queue.record.durable { counts.total() } else { 0 }.into());
    say("messages_ram", 0.into());
    say("storage_version", 2.into());
    // There is none; clients want to be told, so they are told what RabbitMQ says of an idle queue.
    say(
        "garbage_collection",
        json!({
            "fullsweep_after": 65535, "max_heap_size": 0, "min_bin_vheap_size": 0, "min_heap_size": 0, "minor_gcs": 0,
        }),
    );
    if config.queue_type != QueueType::Classic {
        say("leader", node.clone().into());
        say("members", json!([node]));
        say("online", json!([node]));
    }
    let of = format!("queue/{}/{}", queue.vhost(), queue.name());
    call.rates().show(&mut object, &of, "messages", counts.total());
    call.rates().show(&mut object, &of, "messages_ready", counts.ready);
    call.rates().show(&mut object, &of, "messages_unacknowledged", counts.unacknowledged);
    let mut message_stats = Map::new();
    call.rates().show(&mut message_stats, &of, "publish", counts.published_total);
    call.rates().show(&mut message_stats, &of, "ack", counts.acknowledged_total);
    object.insert("message_stats".into(), message_stats.into());
    Value::Object(object)
}

/// Declares a queue, as a request or a definition says. True: it is new.
pub(super) async fn declare<C: Core>(
    call: &Call<C>,
    vhost: &Arc<str>,
    name: &str,
    said: &Map<String, Value>,
) -> Result<bool, Failure> {
    let mut arguments: Arguments = super::exchanges::arguments(said)?;
    // Definitions of RabbitMQ name the type beside the arguments, too.
    if let Some(kind) = text(said, "type").filter(|kind| QueueType::of(kind).is_some())
        && arguments.get("x-queue-type").is_none()
    {
        arguments.insert("x-queue-type", crate::state::topology::Argument::Text(kind.to_owned()));
    }
    let topology = &call.gateway().topology;
    let name = topology.queue_name(vhost, name, &arguments)?;
    let resource = Resource::Queue(vhost, &name);
    call.check(vhost, Permission::Configure, resource)?;
    if let Some(exchange) = arguments.text("x-dead-letter-exchange") {
        call.check(vhost, Permission::Read, resource)?;
        call.check(vhost, Permission::Write, Resource::Exchange(vhost, exchange))?;
    }
    let declare = QueueDeclare {
        vhost,
        name: &name,
        durable: boolean(said.get("durable"), true),
        exclusive: false,
        auto_delete: boolean(said.get("auto_delete"), false),
        arguments,
        connection: "",
        user: &call.user.name,
    };
    let (_, is_new) = topology.declare_queue(declare).await?;
    Ok(is_new)
}

async fn delete<C: Core>(call: &Call<C>, vhost: &str, name: &str) -> Result<Reply, Failure> {
    let vhost = call.vhost_to_use(vhost)?;
    let queue = known(call, &vhost, name)?;
    call.check(&vhost, Permission::Configure, queue.resource())?;
    let flag = |name: &str| call.query.get(name).map(String::as_str) == Some("true");
    let consumed = if flag("if-unused") { consumed_anywhere(call).await } else { ConsumedQueues::new() };
    let delete = QueueDelete {
        vhost: &vhost,
        name,
        if_unused: flag("if-unused"),
        consumers: consumed.get(&queue.topic.0.to_string()).map_or(0, |of| of.consumers),
        if_empty: flag("if-empty"),
        // As in RabbitMQ an operator may delete what is another's.
        connection: queue.record.exclusive.as_deref().unwrap_or_default(),
    };
    call.gateway().topology.delete_queue(delete).await?;
    Ok(Reply::NoContent)
}
