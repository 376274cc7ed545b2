//! `/api/channels`: the channels of all gateways.

use std::sync::atomic::Ordering;

use axum::http::Method;
use core_rpc::Core;
use serde_json::{Map, Value, json};

use super::call::{Call, Failure, Reply};
use super::connections::with_others;
use crate::state::registry::{ChannelCounters, ChannelInfo, Connection};

pub async fn handle<C: Core>(call: &Call<C>, path: &[&str]) -> Result<Reply, Failure> {
    if call.method != Method::GET {
        return Err(Failure::not_allowed());
    }
    match path {
        [] => {
            let own = list(call, |connection| call.sees(&connection.vhost));
            Ok(with_others(call, own, &["channels"]).await)
        }
        [name] => {
            let found = list(call, |connection| call.sees(&connection.vhost)).into_iter();
            let Some(mut found) = found.into_iter().find(|channel| channel["name"] == *name) else {
                return call.found_elsewhere(&["channels", name]).await;
            };
            let connection = found["connection_details"]["name"].as_str().unwrap_or_default();
            if let Some(connection) = call.gateway().registry.by_name(connection) {
                let number = found["number"].as_u64().and_then(|number| u16::try_from(number).ok()).unwrap_or_default();
                found["consumer_details"] = super::consumers::of_channel(call, connection.id, number).into();
            }
            Ok(Reply::Json(found))
        }
        _ => Err(Failure::not_found()),
    }
}

pub(super) async fn of_vhost<C: Core>(call: &Call<C>, vhost: &str) -> Result<Reply, Failure> {
    let vhost = call.vhost_to_see(vhost)?;
    let own = list(call, |connection| connection.vhost == vhost);
    Ok(with_others(call, own, &["vhosts", &vhost, "channels"]).await)
}

/// The channels of the connections that are looked for.
pub(super) fn list<C: Core>(call: &Call<C>, is_looked_for: impl Fn(&Connection) -> bool) -> Vec<Value> {
    // Who is no monitor sees only its own.
    let is_shown = |connection: &Connection| {
        (call.is_monitor() || connection.user.name == call.user.name) && is_looked_for(connection)
    };
    let connections = call.gateway().registry.all();
    let of = |connection: &Connection| {
        connection.channels().iter().map(|channel| show(call, connection, channel)).collect::<Vec<_>>()
    };
    connections.iter().filter(|connection| is_shown(connection)).flat_map(|connection| of(connection)).collect()
}

/// What channels counted, in sum, by RabbitMQ's names.
pub(super) fn totals<'c>(counters: impl Iterator<Item = &'c ChannelCounters>) -> Vec<(&'static str, u64)> {
    let mut totals: Vec<(&str, u64)> = Vec::new();
    for of in counters {
        let deliver_get = of.deliver.get() + of.deliver_no_ack.get() + of.get.get() + of.get_no_ack.get();
        let own = [
            ("publish", of.publish.get()),
            ("confirm", of.confirm.get()),
            ("return_unroutable", of.return_unroutable.get()),
            ("drop_unroutable", of.drop_unroutable.get()),
            ("deliver", of.deliver.get()),
            ("deliver_no_ack", of.deliver_no_ack.get()),
            ("deliver_get", deliver_get),
            ("get", of.get.get()),
            ("get_no_ack", of.get_no_ack.get()),
            ("get_empty", of.get_empty.get()),
            ("redeliver", of.redeliver.get()),
            ("ack", of.ack.get()),
        ];
        match totals.is_empty() {
            true => totals.extend(own),
            false => totals.iter_mut().zip(own).for_each(|(total, own)| total.1 += own.1),
        }
    }
    totals
}

fn show<C: Core>(call: &Call<C>, connection: &Connection, channel: &ChannelInfo) -> Value {
    let name = format!("{} ({})", connection.name, channel.number);
    let mut message_stats = Map::new();
    for (counter, value) in totals(std::iter::once(&channel.counters)) {
        call.rates().show(&mut message_stats, &name, counter, value);
    }
    json!({
        "name": name,
        "number": channel.number,
        "node": call.gateway().node_name(),
        "vhost": &*connection.vhost,
        "user": connection.user.name,
        "user_who_performed_action": connection.user.name,
        "state": "running",
        "confirm": channel.is_confirming.load(Ordering::Relaxed),
        "transactional": channel.is_transactional.load(Ordering::Relaxed),
        "consumer_count": channel.consumers.load(Ordering::Relaxed),
        "messages_unacknowledged": channel.unacknowledged.load(Ordering::Relaxed),
        "messages_unconfirmed": channel.unconfirmed.load(Ordering::Relaxed),
        "messages_uncommitted": 0,
        "acks_uncommitted": 0,
        "pending_raft_commands": 0,
        "prefetch_count": channel.prefetch_count.load(Ordering::Relaxed),
        "global_prefetch_count": channel.global_prefetch_count.load(Ordering::Relaxed),
        "connection_details": {
            "name": connection.name,
            "peer_host": connection.peer.ip().to_string(),
            "peer_port": connection.peer.port(),
        },
        "message_stats": message_stats,
    })
}
