//! `/api/policies` and `/api/operator-policies`.

use axum::http::Method;
use core_rpc::Core;
use serde_json::{Map, Value, json};

use super::call::{Call, Failure, Reply, integer, needed, text};
use crate::state::topology::records::PolicyRecord;

pub async fn handle<C: Core>(call: &Call<C>, path: &[&str], operator: bool) -> Result<Reply, Failure> {
    match (&call.method, path) {
        (&Method::GET, []) => Ok(Reply::List(all(call, None, operator)?)),
        (&Method::GET, [vhost]) => Ok(Reply::List(all(call, Some(vhost), operator)?)),
        (&Method::GET, [vhost, name]) => {
            let found = all(call, Some(vhost), operator)?.into_iter().find(|policy| policy["name"] == *name);
            found.map(Reply::Json).ok_or_else(Failure::not_found)
        }
        (&Method::PUT, [vhost, name]) => {
            may_change(call, vhost, operator)?;
            put(call, vhost, name, &call.object()?, operator).await?;
            Ok(Reply::Created(None))
        }
        (&Method::DELETE, [vhost, name]) => {
            may_change(call, vhost, operator)?;
            match call.gateway().topology.clear_policy(vhost, name, operator).await? {
                true => Ok(Reply::NoContent),
                false => Err(Failure::not_found()),
            }
        }
        (_, [] | [_] | [_, _]) => Err(Failure::not_allowed()),
        _ => Err(Failure::not_found()),
    }
}

fn may_change<C: Core>(call: &Call<C>, vhost: &str, operator: bool) -> Result<(), Failure> {
    match operator {
        true => call.administrator()?,
        false => call.policymaker()?,
    }
    call.vhost_to_use(vhost)?;
    Ok(())
}

/// The policies of a vhost, or of all that the user sees, as definitions show them.
pub(super) fn all<C: Core>(call: &Call<C>, vhost: Option<&str>, operator: bool) -> Result<Vec<Value>, Failure> {
    let vhosts = call.vhosts(vhost)?;
    let image = call.gateway().topology.image();
    let mut policies = Vec::new();
    for vhost in vhosts.iter().filter_map(|vhost| image.vhost(vhost)) {
        let own = if operator { &vhost.operator_policies } else { &vhost.policies };
        policies.extend(own.iter().map(|(name, policy)| {
            json!({
                "vhost": &*vhost.name,
                "name": name,
                "pattern": policy.record.pattern,
                "apply-to": policy.record.apply_to,
                "definition": policy.record.definition,
                "priority": policy.record.priority,
            })
        }));
    }
    Ok(policies)
}

/// Sets a policy, as a request or a definition says.
pub(super) async fn put<C: Core>(
    call: &Call<C>,
    vhost: &str,
    name: &str,
    said: &Map<String, Value>,
    operator: bool,
) -> Result<(), Failure> {
    call.known_vhost(vhost)?;
    let definition = match said.get("definition") {
        Some(Value::Object(definition)) => definition.clone(),
        // Of servers before 3.0, where it was written as text.
        Some(Value::String(text)) => {
            serde_json::from_str(text).map_err(|error| Failure::bad_request(error.to_string()))?
        }
        _ => return Err(Failure::bad_request("[\"definition not specified\"]")),
    };
    let record = PolicyRecord {
        pattern: needed(said, "pattern")?.to_owned(),
        apply_to: text(said, "apply-to").unwrap_or(if operator { "queues" } else { "all" }).to_owned(),
        definition,
        priority: integer(said.get("priority")).unwrap_or(0),
    };
    Ok(call.gateway().topology.set_policy(vhost, name, &record, operator).await?)
}
