//! `/api/vhost-limits` and `/api/user-limits`. The one kind is kept under the vhost's name, the other under the user's.

use std::collections::BTreeMap;

use axum::http::Method;
use core_rpc::{Core, MetaCondition};
use serde_json::{Map, Value, json};

use super::call::{Call, Failure, Reply, integer};
use crate::state::topology::keys;

/// `kind`: `limit` of vhosts, `user-limit` of users.
pub async fn handle<C: Core>(call: &Call<C>, path: &[&str], kind: &str) -> Result<Reply, Failure> {
    match (&call.method, path) {
        (&Method::GET, []) => {
            let shown = all(call, kind).into_iter().filter(|(of, _)| is_shown(call, kind, of));
            Ok(Reply::List(shown.map(|(of, values)| show(kind, &of, values)).collect()))
        }
        (&Method::GET, [of]) => {
            if !is_shown(call, kind, of) {
                return Err(Failure::not_authorised("User not authorised to access object"));
            }
            let is_there = match kind {
                "limit" => call.gateway().topology.has_vhost(of),
                _ => call.gateway().access.users().get(of).await?.is_some(),
            };
            if !is_there {
                return Err(Failure::not_found());
            }
            let found = all(call, kind).remove(*of);
            Ok(Reply::List(found.map(|values| show(kind, of, values)).into_iter().collect()))
        }
        (&Method::PUT, [of, name]) => {
            call.administrator()?;
            let names: &[&str] = match kind {
                "limit" => &["max-connections", "max-queues"],
                _ => &["max-connections", "max-channels"],
            };
            if !names.contains(name) {
                return Err(Failure::bad_request(format!("Unrecognised limit: {name}")));
            }
            let value = integer(call.object()?.get("value"))
                .ok_or_else(|| Failure::bad_request("the value of a limit is an integer"))?;
            call.gateway().topology.put(keys::key(kind, &[of, name]), &value, MetaCondition::Always).await?;
            Ok(Reply::NoContent)
        }
        (&Method::DELETE, [of, name]) => {
            call.administrator()?;
            call.gateway().topology.remove(&keys::key(kind, &[of, name])).await?;
            Ok(Reply::NoContent)
        }
        (_, [] | [_] | [_, _]) => Err(Failure::not_allowed()),
        _ => Err(Failure::not_found()),
    }
}

fn is_shown<C: Core>(call: &Call<C>, kind: &str, of: &str) -> bool {
    if kind == "limit" { call.sees(of) } else { call.is_administrator() || call.user.name == of }
}

/// All limits of a kind, by the vhost or user that they limit.
pub(super) fn all<C: Core>(call: &Call<C>, kind: &str) -> BTreeMap<String, Map<String, Value>> {
    let mut limits: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (parts, value) in call.gateway().topology.records(kind) {
        if let [of, name] = parts.as_slice() {
            limits.entry(of.clone()).or_default().insert(name.clone(), Value::clone(&value));
        }
    }
    limits
}

fn show(kind: &str, of: &str, values: Map<String, Value>) -> Value {
    if kind == "limit" { json!({"vhost": of, "value": values}) } else { json!({"user": of, "value": values}) }
}
