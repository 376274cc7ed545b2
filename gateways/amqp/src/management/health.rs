//! `/api/health/checks`, the older `/api/healthchecks/node`, and `/api/aliveness-test`.

use axum::http::Method;
use core_rpc::Core;
use serde_json::{Value, json};

use super::call::{Call, Failure, Reply};
use crate::state::topology::{QueueDeclare, keys};

/// The queue that the aliveness test declares.
const ALIVENESS_QUEUE: &str = "aliveness-test";

pub async fn handle<C: Core>(call: &Call<C>, path: &[&str]) -> Result<Reply, Failure> {
    if call.method != Method::GET {
        return Err(Failure::not_allowed());
    }
    match path {
        ["alarms"] | ["local-alarms"] => Ok(alarms(call)),
        ["virtual-hosts"]
        | ["node-is-quorum-critical"]
        | ["node-is-mirror-sync-critical"]
        | ["is-in-service"]
        | ["quorum-queues-without-elected-leaders", ..] => Ok(fine()),
        ["below-node-connection-limit"] => {
            let (current, limit) = (call.gateway().registry.len(), call.gateway().config.connections_max);
            match current < limit {
                true => Ok(Reply::Json(json!({"status": "ok", "current": current, "limit": limit}))),
                false => Ok(failed("node connection limit is reached", json!({"current": current, "limit": limit}))),
            }
        }
        ["ready-to-serve-clients"]
        | ["metadata-store", "initialized"]
        | ["metadata-store", "initialized", "with-data"]
        | ["reached-target-cluster-size"] => {
            // Whoever can read meta can do the rest.
            match call.gateway().core.meta_get(keys::READY.into()).await {
                Ok(_) => Ok(fine()),
                Err(error) => Ok(failed(&format!("the core does not answer: {error}"), json!({}))),
            }
        }
        ["port-listener", port] => {
            let port: u16 = port.parse().map_err(|_| Failure::bad_request("Invalid port number"))?;
            let ports: Vec<Value> =
                super::nodes::listeners(call).iter().map(|listener| listener["port"].clone()).collect();
            match ports.iter().any(|listens| *listens == port) {
                true => Ok(Reply::Json(json!({"status": "ok", "port": port}))),
                false => Ok(failed("No active listener", json!({"missing": port, "ports": ports}))),
            }
        }
        ["protocol-listener", named] => {
            let active: Vec<String> = super::nodes::listeners(call)
                .iter()
                .filter_map(|listener| listener["protocol"].as_str().map(str::to_owned))
                .collect();
            let canonical = |name: &str| match name {
                "amqp091" | "amqp0.9.1" | "amqp0-9-1" => "amqp".to_owned(),
                "amqps" | "amqp-tls" => "amqp/ssl".to_owned(),
                other => other.to_owned(),
            };
            let missing: Vec<&str> = named.split(',').filter(|name| !active.contains(&canonical(name))).collect();
            match missing.is_empty() {
                true => Ok(Reply::Json(json!({"status": "ok", "protocol": named}))),
                false => Ok(failed("No active listener", json!({"missing": missing, "protocols": active}))),
            }
        }
        // Certificates are looked at when they are loaded; one that has ended ends no listener.
        ["certificate-expiration", _, _] => Ok(fine()),
        _ => Err(Failure::not_found()),
    }
}

fn fine() -> Reply {
    Reply::Json(json!({"status": "ok"}))
}

/// As RabbitMQ says it: 503, with the status in the body.
fn failed(reason: &str, details: Value) -> Reply {
    Reply::Failing(reason.to_owned(), details)
}

fn alarms<C: Core>(call: &Call<C>) -> Reply {
    let now = call.gateway().alarms.now();
    if !now.any() {
        return fine();
    }
    let node = call.gateway().node_name();
    let named = [("memory", now.memory), ("disk", now.disk)].into_iter().filter(|(_, is_short)| *is_short);
    let alarms: Vec<Value> = named.map(|(resource, _)| json!({"node": node, "resource": resource})).collect();
    failed("There are alarms in effect in the cluster", json!({"alarms": alarms}))
}

/// The older check: one for all.
pub async fn handle_node<C: Core>(call: &Call<C>) -> Result<Reply, Failure> {
    call.monitor()?;
    Ok(if call.gateway().alarms.now().any() { failed("resource alarm(s) in effect", json!({})) } else { fine() })
}

/// Declares a queue, puts a message into it and takes it out.
pub async fn handle_aliveness<C: Core>(call: &Call<C>, vhost: &str) -> Result<Reply, Failure> {
    let vhost = call.vhost_to_use(vhost)?;
    let declare = QueueDeclare {
        vhost: &vhost,
        name: ALIVENESS_QUEUE,
        durable: false,
        exclusive: false,
        auto_delete: false,
        arguments: Default::default(),
        connection: "",
        user: &call.user.name,
    };
    let (queue, _) = call.gateway().topology.declare_queue(declare).await?;
    super::messages::round_trip(call, &queue).await?;
    Ok(fine())
}
