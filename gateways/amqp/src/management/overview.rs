//! What tells of the whole: `/api/overview`, `/whoami`, `/cluster-name`, and small answers that tools ask for first.

use std::sync::atomic::Ordering;

use axum::http::Method;
use core_rpc::Core;
use gateway_runtime::users::SaltedHash;
use serde_json::{Map, Value, json};

use super::call::{Call, Failure, Reply, needed};
use crate::session::RABBITMQ_VERSION;
use crate::state::topology::{ExchangeKind, keys};

/// The runtime that clients expect a version of; nothing here is written in it.
const ERLANG_VERSION: &str = "27.0";

/// Where the cluster's name is kept, if somebody has given it one.
const CLUSTER_NAME: &str = "cluster_name";

pub async fn handle<C: Core>(call: &Call<C>, path: &[&str]) -> Result<Reply, Failure> {
    match (&call.method, path) {
        (&Method::GET, ["overview"]) => overview(call).await,
        (&Method::GET, ["whoami"]) => {
            Ok(Reply::Json(json!({"name": call.user.name, "tags": call.user.tags, "is_internal_user": true})))
        }
        (&Method::GET, ["cluster-name"]) => Ok(Reply::Json(json!({"name": cluster_name(call)}))),
        (&Method::PUT, ["cluster-name"]) => {
            call.administrator()?;
            let name = needed(&call.object()?, "name")?.to_owned();
            let key = keys::key("global-parameter", &[CLUSTER_NAME]);
            call.gateway().topology.put(key, &name, core_rpc::MetaCondition::Always).await?;
            Ok(Reply::NoContent)
        }
        (&Method::GET, ["version"]) => Ok(Reply::Json(json!(RABBITMQ_VERSION))),
        (&Method::GET, ["extensions"]) => Ok(Reply::List(vec![json!({"javascript": "dispatcher.js"})])),
        (&Method::GET, ["auth"]) => Ok(Reply::Json(json!({"oauth_enabled": false}))),
        (&Method::GET, ["auth", "attempts", _] | ["auth", "attempts", _, "source"]) => {
            call.monitor()?;
            Ok(Reply::List(Vec::new()))
        }
        (&Method::GET, ["auth", "hash_password", password]) => {
            let hashed = SaltedHash::of_password(password).map_err(|error| Failure::bad_request(error.to_string()))?;
            Ok(Reply::Json(json!({"ok": hashed.hash})))
        }
        // There is nothing that could be moved.
        (&Method::POST, ["rebalance", "queues"]) => {
            call.administrator()?;
            Ok(Reply::NoContent)
        }
        (_, ["overview"] | ["whoami"] | ["cluster-name"]) => Err(Failure::not_allowed()),
        _ => Err(Failure::not_found()),
    }
}

/// The name that somebody gave the cluster, or its id.
pub(super) fn cluster_name<C: Core>(call: &Call<C>) -> String {
    let given = call.gateway().topology.record("global-parameter", &[CLUSTER_NAME]);
    let given = given.and_then(|name| name.as_str().map(str::to_owned));
    given.unwrap_or_else(|| call.gateway().cluster_name().to_owned())
}

async fn overview<C: Core>(call: &Call<C>) -> Result<Reply, Failure> {
    let gateway = call.gateway();
    let vhosts = call.vhosts(None)?;
    let queues: Vec<_> = vhosts.iter().flat_map(|vhost| gateway.topology.queues(vhost)).collect();
    gateway.queues.settler().settled().await;
    let counts = gateway.topology.counts_of(&queues).await?;
    let (ready, unacknowledged) =
        counts.values().fold((0, 0), |(ready, out), of| (ready + of.ready, out + of.unacknowledged));
    let mut queue_totals = Map::new();
    call.rates().show(&mut queue_totals, "overview", "messages", ready + unacknowledged);
    call.rates().show(&mut queue_totals, "overview", "messages_ready", ready);
    call.rates().show(&mut queue_totals, "overview", "messages_unacknowledged", unacknowledged);
    let connections: Vec<_> =
        gateway.registry.all().into_iter().filter(|connection| call.sees(&connection.vhost)).collect();
    let channels: Vec<_> = connections.iter().flat_map(|connection| connection.channels()).collect();
    let own: u64 = channels.iter().map(|channel| u64::from(channel.consumers.load(Ordering::Relaxed))).sum();
    let (other_connections, other_channels) =
        tokio::join!(call.listed_elsewhere(&["connections"]), call.listed_elsewhere(&["channels"]));
    let consumers = own + other_channels.iter().filter_map(|channel| channel["consumer_count"].as_u64()).sum::<u64>();
    let mut message_stats = Map::new();
    for (name, own) in super::channels::totals(channels.iter().map(|channel| &channel.counters)) {
        let others = other_channels.iter().filter_map(|channel| channel["message_stats"][name].as_u64());
        call.rates().show(&mut message_stats, "overview", name, own + others.sum::<u64>());
    }
    let exchanges: usize = {
        let image = gateway.topology.image();
        vhosts.iter().filter_map(|vhost| image.vhost(vhost)).map(|vhost| vhost.exchanges().count()).sum()
    };
    let exchange_types: Vec<Value> = ExchangeKind::ALL
        .iter()
        .map(|kind| json!({"name": kind.name(), "description": format!("{kind} exchange"), "enabled": true}))
        .collect();
    let none = json!({"rate": 0.0});
    Ok(Reply::Json(json!({
        "management_version": RABBITMQ_VERSION,
        "rates_mode": "basic",
        "sample_retention_policies": {"global": [600], "basic": [600], "detailed": [600]},
        "exchange_types": exchange_types,
        "product_version": RABBITMQ_VERSION,
        "product_name": "RabbitMQ",
        "rabbitmq_version": RABBITMQ_VERSION,
        "cluster_name": cluster_name(call),
        "cluster_tags": {},
        "node_tags": {},
        "default_queue_type": "classic",
        "erlang_version": ERLANG_VERSION,
        "erlang_full_version": format!("none: PolyMQ {}", env!("CARGO_PKG_VERSION")),
        "release_series_support_status": "supported",
        "disable_stats": false,
        "is_op_policy_updating_enabled": true,
        "enable_queue_totals": false,
        "message_stats": message_stats,
        "churn_rates": {
            "channel_closed": 0, "channel_closed_details": none,
            "channel_created": 0, "channel_created_details": none,
            "connection_closed": 0, "connection_closed_details": none,
            "connection_created": 0, "connection_created_details": none,
            "queue_created": 0, "queue_created_details": none,
            "queue_declared": 0, "queue_declared_details": none,
            "queue_deleted": 0, "queue_deleted_details": none,
        },
        "queue_totals": queue_totals,
        "object_totals": {
            "channels": channels.len() + other_channels.len(),
            "connections": connections.len() + other_connections.len(),
            "consumers": consumers,
            "exchanges": exchanges,
            "queues": queues.len(),
        },
        "statistics_db_event_queue": 0,
        "node": gateway.node_name(),
        "listeners": super::nodes::listeners(call),
        "contexts": [],
    })))
}
