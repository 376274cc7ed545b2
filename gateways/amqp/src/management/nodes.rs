//! `/api/nodes`: the gateways that live, as RabbitMQ's nodes.

use axum::http::Method;
use core_rpc::Core;
use gateway_runtime::Member;
use serde_json::{Map, Value, json};

use super::call::{Call, Failure, Reply};
use crate::now_ms;
use crate::state::alarms::resident_bytes;
use crate::state::topology::ExchangeKind;

pub async fn handle<C: Core>(call: &Call<C>, path: &[&str]) -> Result<Reply, Failure> {
    if call.method != Method::GET {
        return Err(Failure::not_allowed());
    }
    call.monitor()?;
    let members = call.gateway().membership.live();
    let named = |name: &str| members.iter().find(|member| node_name(member) == name).ok_or_else(Failure::not_found);
    match path {
        [] => Ok(Reply::List(members.iter().map(|member| node(call, member)).collect())),
        [name] => Ok(Reply::Json(node(call, named(name)?))),
        [name, "memory"] => {
            named(name)?;
            // Of what RabbitMQ divides its memory into, nothing exists here.
            Ok(Reply::Json(json!({"memory": "not_available"})))
        }
        _ => Err(Failure::not_found()),
    }
}

/// A gateway's name, as that of a node.
pub(super) fn node_name(member: &Member) -> String {
    format!("polymq-{}@{}", member.node_id, member.host)
}

/// Everything that this gateway listens on.
pub(super) fn listeners<C: Core>(call: &Call<C>) -> Vec<Value> {
    let config = &call.gateway().config;
    let node = call.gateway().node_name();
    let listener = |protocol: &str, address: std::net::SocketAddr| {
        json!({
            "node": node,
            "protocol": protocol,
            "ip_address": address.ip().to_string(),
            "port": address.port(),
            "interface": address.ip().to_string(),
            "socket_opts": {},
        })
    };
    let mut listeners = vec![listener("amqp", config.listen)];
    listeners.extend(config.tls.as_ref().map(|tls| listener("amqp/ssl", tls.listen)));
    listeners.extend(config.management_listen.map(|address| listener("http", address)));
    listeners
}

fn node<C: Core>(call: &Call<C>, member: &Member) -> Value {
    let gateway = call.gateway();
    let is_own = *member == *gateway.membership.own();
    let alarms = gateway.alarms.now();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let exchange_types: Vec<Value> =
        ExchangeKind::ALL.iter().map(|kind| json!({"name": kind.name(), "description": "", "enabled": true})).collect();
    let mut node = Map::new();
    let mut say = |name: &str, value: Value| drop(node.insert(name.to_owned(), value));
    say("name", node_name(member).into());
    say("type", "disc".into());
    say("running", true.into());
    say("being_drained", false.into());
    say("uptime", (now_ms() - member.started_ms).max(0).into());
    say("processors", processors.into());
    say("os_pid", if is_own { std::process::id().to_string() } else { "0".into() }.into());
    say("rates_mode", "basic".into());
    say("mem_used", if is_own { resident_bytes().unwrap_or(0) } else { 0 }.into());
    say("mem_limit", gateway.config.memory_bytes_max.unwrap_or(u64::MAX >> 1).into());
    say("mem_alarm", (is_own && alarms.memory).into());
    // The disk is the core's: it says only that it is full.
    say("disk_free", 0.into());
    say("disk_free_limit", 0.into());
    say("disk_free_alarm", (is_own && alarms.disk).into());
    say("sockets_used", if is_own { gateway.registry.len() } else { 0 }.into());
    say("sockets_total", gateway.config.connections_max.into());
    say("fd_used", if is_own { gateway.registry.len() } else { 0 }.into());
    say("fd_total", gateway.config.connections_max.into());
    // RabbitMQ's default; tasks have no limit here, but monitors divide by it.
    say("proc_total", 1_048_576.into());
    say("proc_used", tokio::runtime::Handle::current().metrics().num_alive_tasks().into());
    for none in ["run_queue", "net_ticktime", "context_switches", "gc_num"] {
        say(none, 0.into());
    }
    for none in ["partitions", "applications", "contexts", "log_files", "config_files", "cluster_links"] {
        say(none, json!([]));
    }
    say("db_dir", "".into());
    say("exchange_types", exchange_types.into());
    let mechanism = |name, enabled| json!({"name": name, "enabled": enabled});
    let anonymous = mechanism("ANONYMOUS", gateway.config.anonymous.is_some());
    say("auth_mechanisms", json!([mechanism("PLAIN", true), mechanism("AMQPLAIN", true), anonymous]));
    say(
        "enabled_plugins",
        json!(["rabbitmq_management", "rabbitmq_consistent_hash_exchange", "rabbitmq_delayed_message_exchange"]),
    );
    Value::Object(node)
}
