//! `/api/definitions`: everything that is declared, whole or of one vhost, as RabbitMQ exports and imports it.

use axum::http::Method;
use core_rpc::Core;
use serde_json::{Map, Value, json};

use super::call::{Call, Failure, Reply};
use crate::session::RABBITMQ_VERSION;

pub async fn handle<C: Core>(call: &Call<C>, path: &[&str]) -> Result<Reply, Failure> {
    match (&call.method, path) {
        (&Method::GET, []) => {
            call.administrator()?;
            Ok(Reply::Json(whole(call).await?))
        }
        (&Method::GET, [vhost]) => {
            call.policymaker()?;
            let vhost = call.vhost_to_see(vhost)?;
            Ok(Reply::Json(of_vhost(call, &vhost)?))
        }
        (&Method::POST, []) => {
            call.administrator()?;
            super::definitions_import::import(call, None, &said(call)?).await?;
            Ok(Reply::NoContent)
        }
        (&Method::POST, [vhost]) => {
            call.policymaker()?;
            let vhost = call.vhost_to_use(vhost)?;
            super::definitions_import::import(call, Some(&vhost), &said(call)?).await?;
            Ok(Reply::NoContent)
        }
        (_, [] | [_]) => Err(Failure::not_allowed()),
        _ => Err(Failure::not_found()),
    }
}

/// The definitions of a request: its body, or, where a form was sent, the file in it.
fn said<C: Core>(call: &Call<C>) -> Result<Map<String, Value>, Failure> {
    let is_form = call.body.starts_with(b"--");
    if !is_form {
        return call.object();
    }
    let (Some(first), Some(last)) =
        (call.body.iter().position(|byte| *byte == b'{'), call.body.iter().rposition(|byte| *byte == b'}'))
    else {
        return Err(Failure::bad_request("no definitions in the form"));
    };
    serde_json::from_slice(&call.body[first..=last.max(first)]).map_err(|error| Failure::bad_request(error.to_string()))
}

async fn whole<C: Core>(call: &Call<C>) -> Result<Value, Failure> {
    let vhosts = call.gateway().topology.vhosts();
    let declared = declared(call, &vhosts);
    let mut parameters = super::parameters::all(call, |_| true);
    parameters.extend(vhost_limits(call, None));
    // As RabbitMQ keeps them, too.
    parameters.extend(super::policies::all(call, None, true)?.into_iter().map(|policy| operator_parameter(&policy)));
    let limits = super::limits::all(call, "user-limit");
    let users: Vec<Value> = super::users::all(call)
        .await?
        .into_iter()
        .map(|mut user| {
            let own = user["name"].as_str().and_then(|name| limits.get(name)).cloned().unwrap_or_default();
            user["limits"] = own.into();
            user
        })
        .collect();
    let vhost_definitions: Vec<Value> = {
        let image = call.gateway().topology.image();
        let records = vhosts.iter().filter_map(|name| Some((name, image.vhost(name)?.record.as_ref()?)));
        records.map(|(name, record)| Value::Object(super::vhosts::definition(name, record))).collect()
    };
    Ok(json!({
        "rabbit_version": RABBITMQ_VERSION,
        "rabbitmq_version": RABBITMQ_VERSION,
        "product_name": "RabbitMQ",
        "product_version": RABBITMQ_VERSION,
        "rabbitmq_definition_format": "cluster",
        "original_cluster_name": super::overview::cluster_name(call),
        "explanation": "Definitions of cluster exported by PolyMQ",
        "users": users,
        "vhosts": vhost_definitions,
        "permissions": super::permissions::all_plain(call),
        "topic_permissions": super::permissions::all_topics(call),
        "parameters": parameters,
        "global_parameters": super::parameters::all_global(call),
        "policies": super::policies::all(call, None, false)?,
        "queues": declared.queues,
        "exchanges": declared.exchanges,
        "bindings": declared.bindings,
    }))
}

fn of_vhost<C: Core>(call: &Call<C>, vhost: &std::sync::Arc<str>) -> Result<Value, Failure> {
    // So that it can be imported into another vhost.
    let without_vhost = |mut items: Vec<Value>| {
        for item in &mut items {
            if let Value::Object(object) = item {
                object.remove("vhost");
            }
        }
        items
    };
    let declared = declared(call, std::slice::from_ref(vhost));
    let mut parameters = super::parameters::all(call, |parameter| parameter["vhost"] == **vhost);
    parameters.extend(vhost_limits(call, Some(vhost)));
    let record =
        call.gateway().topology.image().vhost(vhost).and_then(|vhost| vhost.record.clone()).unwrap_or_default();
    let said = super::vhosts::definition(vhost, &record);
    Ok(json!({
        "rabbit_version": RABBITMQ_VERSION,
        "rabbitmq_version": RABBITMQ_VERSION,
        "product_name": "RabbitMQ",
        "product_version": RABBITMQ_VERSION,
        "rabbitmq_definition_format": "single_virtual_host",
        "original_vhost_name": &**vhost,
        "explanation": format!("Definitions of virtual host '{vhost}' exported by PolyMQ"),
        "metadata": said.get("metadata"),
        "description": record.description,
        "default_queue_type": record.default_queue_type,
        "limits": [],
        "parameters": without_vhost(parameters),
        "policies": without_vhost(super::policies::all(call, Some(vhost), false)?),
        "queues": without_vhost(declared.queues),
        "exchanges": without_vhost(declared.exchanges),
        "bindings": without_vhost(declared.bindings),
    }))
}

struct Declared {
    queues: Vec<Value>,
    exchanges: Vec<Value>,
    bindings: Vec<Value>,
}

/// What survives in these vhosts: durable queues that are nobody's, durable exchanges, and bindings between them.
fn declared<C: Core>(call: &Call<C>, vhosts: &[std::sync::Arc<str>]) -> Declared {
    let image = call.gateway().topology.image();
    let mut all = Declared { queues: Vec::new(), exchanges: Vec::new(), bindings: Vec::new() };
    for vhost in vhosts.iter().filter_map(|vhost| image.vhost(vhost)) {
        let lasts = |name: &str| {
            vhost.queues.get(name).is_some_and(|queue| queue.record.durable && queue.record.exclusive.is_none())
        };
        let mut queues: Vec<_> = vhost.queues.values().filter(|queue| lasts(queue.name())).collect();
        queues.sort_by(|one, other| one.name.cmp(&other.name));
        all.queues.extend(queues.into_iter().map(|queue| {
            let mut definition = super::queues::definition(queue);
            definition.insert("type".into(), queue.queue_type().name().into());
            Value::Object(definition)
        }));
        let is_exported =
            |exchange: &crate::state::topology::Exchange| exchange.record.durable && exchange.record.id != 0;
        let mut exchanges: Vec<_> = vhost.exchanges().filter(|exchange| is_exported(exchange)).collect();
        exchanges.sort_by(|one, other| one.name.cmp(&other.name));
        all.exchanges
            .extend(exchanges.into_iter().map(|exchange| Value::Object(super::exchanges::definition(exchange))));
        let durable_exchange = |name: &str| vhost.exchange(name).is_some_and(|exchange| exchange.record.durable);
        let is_kept = |binding: &crate::state::topology::Binding| {
            durable_exchange(&binding.source)
                && match binding.kind {
                    crate::state::topology::DestinationKind::Queue => lasts(&binding.destination),
                    crate::state::topology::DestinationKind::Exchange => durable_exchange(&binding.destination),
                }
        };
        let mut bindings: Vec<_> = vhost.all_bindings().filter(|binding| is_kept(binding)).collect();
        // The same definitions are always exported alike.
        bindings.sort_by_cached_key(|binding| {
            (binding.source.clone(), binding.kind, binding.destination.clone(), binding.properties_key.clone())
        });
        all.bindings.extend(bindings.into_iter().map(|binding| super::bindings::definition(&vhost.name, binding)));
    }
    all
}

/// Limits of vhosts are a component's parameters in definitions.
fn vhost_limits<C: Core>(call: &Call<C>, vhost: Option<&str>) -> Vec<Value> {
    let limits = super::limits::all(call, "limit").into_iter();
    limits
        .filter(|(of, _)| vhost.is_none_or(|vhost| vhost == of))
        .map(|(of, values)| json!({"component": "vhost-limits", "vhost": of, "name": "limits", "value": values}))
        .collect()
}

fn operator_parameter(policy: &Value) -> Value {
    json!({
        "component": "operator_policy",
        "vhost": policy["vhost"],
        "name": policy["name"],
        "value": {
            "pattern": policy["pattern"],
            "apply-to": policy["apply-to"],
            "definition": policy["definition"],
            "priority": policy["priority"],
        },
    })
}
