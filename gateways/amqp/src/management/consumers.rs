//! `/api/consumers`: the consumers at all gateways, and how queues and channels show theirs.

use std::collections::BTreeMap;

use axum::http::Method;
use core_rpc::Core;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::{Call, Failure, Reply};
use super::connections::with_others;
use crate::Gateway;
use crate::state::queues::Consumer;
use crate::state::topology::{Arguments, Queue};

pub async fn handle<C: Core>(call: &Call<C>, path: &[&str]) -> Result<Reply, Failure> {
    if call.method != Method::GET {
        return Err(Failure::not_allowed());
    }
    let vhost = match path {
        [] => None,
        [vhost] => Some(*vhost),
        _ => return Err(Failure::not_found()),
    };
    let vhosts = call.vhosts(vhost)?;
    let own = list(call, |consumer| vhosts.contains(&consumer.queue.queue.vhost));
    let path: Vec<&str> = ["consumers"].into_iter().chain(vhost).collect();
    Ok(with_others(call, own, &path).await)
}

/// A queue's consumers.
pub(super) async fn of_queue<C: Core>(call: &Call<C>, queue: &Queue) -> Vec<Value> {
    let consumers = call.gateway().queues.consumers_of(queue.topic);
    let mut shown: Vec<Value> = consumers.iter().filter_map(|consumer| show(call, consumer)).collect();
    let others = call.listed_elsewhere(&["consumers", queue.vhost()]).await;
    shown.extend(others.into_iter().filter(|consumer| consumer["queue"]["name"] == *queue.name()));
    shown
}

/// What a queue's own page says of its consumers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Consumed {
    pub consumers: usize,
    pub exclusive_tag: Option<String>,
    /// Of the single active consumer.
    pub active_tag: Option<String>,
}

/// Of queues that have consumers, by their topics' numbers.
pub(super) type ConsumedQueues = BTreeMap<String, Consumed>;

/// Of the queues that have consumers at this gateway.
pub(super) fn consumed<C: Core>(gateway: &Gateway<C>) -> ConsumedQueues {
    let mut queues = ConsumedQueues::new();
    for consumer in gateway.queues.all_consumers() {
        let of = queues.entry(consumer.queue.topic.0.to_string()).or_default();
        of.consumers += 1;
        if consumer.exclusive {
            of.exclusive_tag = Some(consumer.tag.to_string());
        }
        if consumer.queue.queue.config().single_active_consumer && gateway.queues.is_active(&consumer) {
            of.active_tag = Some(consumer.tag.to_string());
        }
    }
    queues
}

/// The same of all gateways.
pub(super) async fn consumed_anywhere<C: Core>(call: &Call<C>) -> ConsumedQueues {
    let mut queues = consumed(call.gateway());
    for answer in call.elsewhere(Method::GET, &["consumed"]).await {
        let Ok(others) = serde_json::from_value::<ConsumedQueues>(answer.value) else { continue };
        for (topic, others) in others {
            let of = queues.entry(topic).or_default();
            of.consumers += others.consumers;
            of.exclusive_tag = of.exclusive_tag.take().or(others.exclusive_tag);
            of.active_tag = of.active_tag.take().or(others.active_tag);
        }
    }
    queues
}

/// A channel's consumers, by the number of its connection and its own.
pub(super) fn of_channel<C: Core>(call: &Call<C>, connection: u64, channel: u16) -> Vec<Value> {
    list(call, |consumer| (consumer.connection_id, consumer.channel) == (connection, channel))
}

fn list<C: Core>(call: &Call<C>, is_looked_for: impl Fn(&Consumer) -> bool) -> Vec<Value> {
    let mut consumers = call.gateway().queues.all_consumers();
    consumers.sort_by_key(|consumer| consumer.number);
    let found = consumers.iter().filter(|consumer| is_looked_for(consumer));
    found.filter_map(|consumer| show(call, consumer)).collect()
}

/// None: its connection has ended, or is one that the user does not see.
fn show<C: Core>(call: &Call<C>, consumer: &Consumer) -> Option<Value> {
    let gateway = call.gateway();
    let connection = gateway.registry.get(consumer.connection_id)?;
    if !call.is_monitor() && connection.user.name != call.user.name {
        return None;
    }
    let queue = &consumer.queue.queue;
    let active = gateway.queues.is_active(consumer);
    let status = match (queue.config().single_active_consumer, active) {
        (false, _) => "up",
        (true, true) => "single_active",
        (true, false) => "waiting",
    };
    Some(json!({
        "consumer_tag": consumer.tag.as_str(),
        "queue": {"name": &*queue.name, "vhost": &*queue.vhost},
        "ack_required": !consumer.no_ack,
        "exclusive": consumer.exclusive,
        "prefetch_count": consumer.window.limit(),
        "active": active,
        "activity_status": status,
        "consumer_timeout": timeout_ms(gateway, queue).map_or("undefined".into(), Value::from),
        "arguments": Arguments::from(&consumer.arguments).to_json(),
        "channel_details": {
            "name": format!("{} ({})", connection.name, consumer.channel),
            "number": consumer.channel,
            "connection_name": connection.name,
            "node": gateway.node_name(),
            "peer_host": connection.peer.ip().to_string(),
            "peer_port": connection.peer.port(),
            "user": connection.user.name,
        },
    }))
}

/// How long its client may keep a delivery, ms; None: for ever.
fn timeout_ms<C>(gateway: &Gateway<C>, queue: &Queue) -> Option<u64> {
    queue.config().consumer_timeout_ms.or(gateway.config.consumer_timeout_ms())
}
