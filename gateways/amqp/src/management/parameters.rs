//! `/api/parameters` and `/api/global-parameters`: kept and shown for tools; no component here obeys any.

use axum::http::Method;
use core_rpc::{Core, MetaCondition};
use serde_json::{Value, json};

use super::call::{Call, Failure, Reply};
use crate::state::topology::keys;

const KIND: &str = "parameter";
const GLOBAL: &str = "global-parameter";

pub async fn handle<C: Core>(call: &Call<C>, path: &[&str]) -> Result<Reply, Failure> {
    call.policymaker()?;
    match (&call.method, path) {
        (&Method::GET, []) => Ok(Reply::List(all(call, |_| true))),
        (&Method::GET, [component]) => Ok(Reply::List(all(call, |of| of["component"] == *component))),
        (&Method::GET, [component, vhost]) => {
            let vhost = call.vhost_to_see(vhost)?;
            Ok(Reply::List(all(call, |of| of["component"] == *component && of["vhost"] == *vhost)))
        }
        (&Method::GET, [component, vhost, name]) => {
            let found =
                call.gateway().topology.record(KIND, &[vhost, component, name]).ok_or_else(Failure::not_found)?;
            Ok(Reply::Json(json!({"component": component, "vhost": vhost, "name": name, "value": &*found})))
        }
        (&Method::PUT, [component, vhost, name]) => {
            let vhost = call.vhost_to_use(vhost)?;
            put(call, component, &vhost, name, &value(call)?).await?;
            Ok(Reply::Created(None))
        }
        (&Method::DELETE, [component, vhost, name]) => {
            call.vhost_to_use(vhost)?;
            call.gateway().topology.record(KIND, &[vhost, component, name]).ok_or_else(Failure::not_found)?;
            call.gateway().topology.remove(&keys::key(KIND, &[vhost, component, name])).await?;
            Ok(Reply::NoContent)
        }
        (_, [] | [_] | [_, _] | [_, _, _]) => Err(Failure::not_allowed()),
        _ => Err(Failure::not_found()),
    }
}

pub async fn handle_global<C: Core>(call: &Call<C>, path: &[&str]) -> Result<Reply, Failure> {
    call.policymaker()?;
    match (&call.method, path) {
        (&Method::GET, []) => Ok(Reply::List(all_global(call))),
        (&Method::GET, [name]) => {
            let found = call.gateway().topology.record(GLOBAL, &[name]).ok_or_else(Failure::not_found)?;
            Ok(Reply::Json(json!({"name": name, "value": &*found})))
        }
        (&Method::PUT, [name]) => {
            call.administrator()?;
            put_global(call, name, &value(call)?).await?;
            Ok(Reply::Created(None))
        }
        (&Method::DELETE, [name]) => {
            call.administrator()?;
            call.gateway().topology.record(GLOBAL, &[name]).ok_or_else(Failure::not_found)?;
            call.gateway().topology.remove(&keys::key(GLOBAL, &[name])).await?;
            Ok(Reply::NoContent)
        }
        (_, [] | [_]) => Err(Failure::not_allowed()),
        _ => Err(Failure::not_found()),
    }
}

fn value<C: Core>(call: &Call<C>) -> Result<Value, Failure> {
    call.object()?.remove("value").ok_or_else(|| Failure::bad_request("[\"value not specified\"]"))
}

/// The parameters that are looked for, as definitions show them.
pub(super) fn all<C: Core>(call: &Call<C>, is_looked_for: impl Fn(&Value) -> bool) -> Vec<Value> {
    let show = |(parts, value): &(Vec<String>, std::sync::Arc<Value>)| match parts.as_slice() {
        [vhost, component, name] if call.sees(vhost) => {
            Some(json!({"vhost": vhost, "component": component, "name": name, "value": &**value}))
        }
        _ => None,
    };
    let all = call.gateway().topology.records(KIND);
    all.iter().filter_map(show).filter(|parameter| is_looked_for(parameter)).collect()
}

/// All that belong to no vhost.
pub(super) fn all_global<C: Core>(call: &Call<C>) -> Vec<Value> {
    let all = call.gateway().topology.records(GLOBAL);
    all.iter().map(|(parts, value)| json!({"name": parts.first(), "value": &**value})).collect()
}

pub(super) async fn put<C: Core>(
    call: &Call<C>,
    component: &str,
    vhost: &str,
    name: &str,
    value: &Value,
) -> Result<(), Failure> {
    call.gateway().topology.put(keys::key(KIND, &[vhost, component, name]), value, MetaCondition::Always).await?;
    Ok(())
}

pub(super) async fn put_global<C: Core>(call: &Call<C>, name: &str, value: &Value) -> Result<(), Failure> {
    call.gateway().topology.put(keys::key(GLOBAL, &[name]), value, MetaCondition::Always).await?;
    Ok(())
}
