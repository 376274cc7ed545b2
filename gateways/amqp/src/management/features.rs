//! `/api/feature-flags` and `/api/deprecated-features`: which of RabbitMQ's there are here. Flags cannot be switched: what a flag stands for
//! is done, or the flag is not told of.

use axum::http::Method;
use core_rpc::Core;
use serde_json::{Value, json};

use super::call::{Call, Failure, Reply};

/// (name, what it means here, whether RabbitMQ 4 no longer runs without it)
const FLAGS: [(&str, &str, bool); 14] = [
    ("detailed_queues_endpoint", "GET /api/queues/detailed", false),
    ("direct_exchange_routing_v2", "Direct exchanges look bindings up by their key", true),
    ("drop_unroutable_metric", "Messages that no queue took are counted", true),
    ("implicit_default_bindings", "Bindings of the default exchange are not stored", true),
    ("message_containers", "Messages are stored in a form that all protocols read", true),
    ("message_containers_deaths_v2", "Cycles of dead letters are found by x-death as RabbitMQ 4 counts", false),
    ("quorum_queue", "Queues of type quorum", true),
    ("rabbit_exchange_type_local_random", "Exchanges of type x-local-random", false),
    ("rabbitmq_4.0.0", "What RabbitMQ 4.0 does over AMQP 0-9-1", false),
    ("rabbitmq_4.1.0", "What RabbitMQ 4.1 does over AMQP 0-9-1", false),
    ("stream_filtering", "Streams give consumers what their filter asks for", true),
    ("stream_queue", "Queues of type stream", true),
    ("user_limits", "Limits of users' connections and channels", true),
    ("virtual_host_metadata", "Descriptions and tags of virtual hosts", true),
];

/// What non-exclusive transient queues are called among what RabbitMQ is going to do without.
const TRANSIENT_QUEUES: &str = "transient_nonexcl_queues";

/// (name, what it means here, phase)
const DEPRECATED: [(&str, &str, &str); 4] = [
    ("classic_queue_mirroring", "Policies that ask for mirrors have no effect", "removed"),
    ("global_qos", "A prefetch for all consumers of a channel together", "permitted_by_default"),
    ("ram_node_type", "Nodes that keep definitions in memory only", "removed"),
    (TRANSIENT_QUEUES, "Queues that are neither durable nor exclusive", "permitted_by_default"),
];

pub async fn handle<C: Core>(call: &Call<C>, path: &[&str]) -> Result<Reply, Failure> {
    call.administrator()?;
    match (&call.method, path) {
        (&Method::GET, ["feature-flags"]) => Ok(Reply::List(FLAGS.iter().map(flag).collect())),
        (&Method::PUT, ["feature-flags", name, "enable"]) => match FLAGS.iter().any(|(known, _, _)| known == name) {
            true => Ok(Reply::NoContent),
            false => Err(Failure::bad_request("unsupported")),
        },
        (&Method::GET, ["deprecated-features"]) => Ok(Reply::List(DEPRECATED.iter().map(deprecated).collect())),
        (&Method::GET, ["deprecated-features", "used"]) => {
            let is_used = uses_transient_queues(call)?;
            let used = DEPRECATED.iter().filter(|(name, _, _)| *name == TRANSIENT_QUEUES && is_used);
            Ok(Reply::List(used.map(deprecated).collect()))
        }
        (_, ["feature-flags"] | ["feature-flags", _, "enable"] | ["deprecated-features", ..]) => {
            Err(Failure::not_allowed())
        }
        _ => Err(Failure::not_found()),
    }
}

fn flag((name, meaning, is_required): &(&str, &str, bool)) -> Value {
    json!({
        "name": name,
        "desc": meaning,
        "doc_url": "",
        "state": "enabled",
        "stability": if *is_required { "required" } else { "stable" },
        "provided_by": "polymq",
    })
}

fn deprecated((name, meaning, phase): &(&str, &str, &str)) -> Value {
    json!({"name": name, "desc": meaning, "doc_url": "", "deprecation_phase": phase, "provided_by": "polymq"})
}

/// Whether there is such a queue. Of the deprecated features it alone leaves something behind by which one can tell.
fn uses_transient_queues<C: Core>(call: &Call<C>) -> Result<bool, Failure> {
    let topology = &call.gateway().topology;
    let is_one = |vhost: &std::sync::Arc<str>| {
        topology.queues(vhost).iter().any(|queue| !queue.record.durable && queue.record.exclusive.is_none())
    };
    Ok(call.vhosts(None)?.iter().any(is_one))
}
