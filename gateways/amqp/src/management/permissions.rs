//! `/api/permissions` and `/api/topic-permissions`.

use axum::http::Method;
use core_rpc::{Core, MetaCondition};
use serde_json::{Map, Value, json};

use super::call::{Call, Failure, Reply, needed};
use crate::state::topology::keys;

const PLAIN: &str = "permission";
const TOPIC: &str = "topic-permission";

pub async fn handle<C: Core>(call: &Call<C>, path: &[&str]) -> Result<Reply, Failure> {
    call.administrator()?;
    match (&call.method, path) {
        (&Method::GET, []) => Ok(Reply::List(all(call, PLAIN))),
        (&Method::GET, [vhost, user]) => {
            let found = call.gateway().topology.record(PLAIN, &[vhost, user]).ok_or_else(Failure::not_found)?;
            Ok(Reply::Json(show(&[(*vhost).to_owned(), (*user).to_owned()], &found)))
        }
        (&Method::PUT, [vhost, user]) => {
            let is_new = call.gateway().topology.record(PLAIN, &[vhost, user]).is_none();
            put(call, vhost, user, &call.object()?).await?;
            Ok(if is_new { Reply::Created(None) } else { Reply::NoContent })
        }
        (&Method::DELETE, [vhost, user]) => {
            call.gateway().topology.record(PLAIN, &[vhost, user]).ok_or_else(Failure::not_found)?;
            call.gateway().topology.remove(&keys::key(PLAIN, &[vhost, user])).await?;
            Ok(Reply::NoContent)
        }
        (_, [] | [_, _]) => Err(Failure::not_allowed()),
        _ => Err(Failure::not_found()),
    }
}

pub async fn handle_topic<C: Core>(call: &Call<C>, path: &[&str]) -> Result<Reply, Failure> {
    call.administrator()?;
    let of = |vhost: &str, user: &str| {
        let all = call.gateway().topology.records(TOPIC).into_iter();
        all.filter(|(parts, _)| parts[0] == vhost && parts.get(1).is_some_and(|own| own == user)).collect::<Vec<_>>()
    };
    match (&call.method, path) {
        (&Method::GET, []) => Ok(Reply::List(all(call, TOPIC))),
        (&Method::GET, [vhost, user]) => {
            let found: Vec<Value> = of(vhost, user).iter().map(|(parts, value)| show(parts, value)).collect();
            if found.is_empty() { Err(Failure::not_found()) } else { Ok(Reply::List(found)) }
        }
        (&Method::PUT, [vhost, user]) => {
            let is_new = of(vhost, user).is_empty();
            put_topic(call, vhost, user, &call.object()?).await?;
            Ok(if is_new { Reply::Created(None) } else { Reply::NoContent })
        }
        (&Method::DELETE, [vhost, user, exchange]) => {
            call.gateway().topology.record(TOPIC, &[vhost, user, exchange]).ok_or_else(Failure::not_found)?;
            call.gateway().topology.remove(&keys::key(TOPIC, &[vhost, user, exchange])).await?;
            Ok(Reply::NoContent)
        }
        (&Method::DELETE, [vhost, user]) => {
            let found = of(vhost, user);
            if found.is_empty() {
                return Err(Failure::not_found());
            }
            for (parts, _) in found {
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                call.gateway().topology.remove(&keys::key(TOPIC, &parts)).await?;
            }
            Ok(Reply::NoContent)
        }
        (_, [] | [_, _]) => Err(Failure::not_allowed()),
        _ => Err(Failure::not_found()),
    }
}

/// All permissions of a kind, as definitions show them.
pub(super) fn all<C: Core>(call: &Call<C>, kind: &str) -> Vec<Value> {
    call.gateway().topology.records(kind).iter().map(|(parts, value)| show(parts, value)).collect()
}

/// Those for topics.
pub(super) fn all_topics<C: Core>(call: &Call<C>) -> Vec<Value> {
    all(call, TOPIC)
}

/// Those for everything else.
pub(super) fn all_plain<C: Core>(call: &Call<C>) -> Vec<Value> {
    all(call, PLAIN)
}

fn show(parts: &[String], value: &Value) -> Value {
    let mut object = value.as_object().cloned().unwrap_or_default();
    for (name, part) in ["vhost", "user", "exchange"].into_iter().zip(parts) {
        object.insert(name.into(), part.as_str().into());
    }
    Value::Object(object)
}

fn of<C: Core>(call: &Call<C>, kind: &str, member: &str, value: &str) -> Result<Reply, Failure> {
    Ok(Reply::List(all(call, kind).into_iter().filter(|permission| permission[member] == value).collect()))
}

pub(super) fn of_vhost<C: Core>(call: &Call<C>, vhost: &str) -> Result<Reply, Failure> {
    call.administrator()?;
    call.known_vhost(vhost)?;
    of(call, PLAIN, "vhost", vhost)
}

pub(super) fn topics_of_vhost<C: Core>(call: &Call<C>, vhost: &str) -> Result<Reply, Failure> {
    call.administrator()?;
    call.known_vhost(vhost)?;
    of(call, TOPIC, "vhost", vhost)
}

pub(super) async fn of_user<C: Core>(call: &Call<C>, user: &str) -> Result<Reply, Failure> {
    call.administrator()?;
    call.gateway().access.users().get(user).await?.ok_or_else(Failure::not_found)?;
    of(call, PLAIN, "user", user)
}

pub(super) async fn topics_of_user<C: Core>(call: &Call<C>, user: &str) -> Result<Reply, Failure> {
    call.administrator()?;
    call.gateway().access.users().get(user).await?.ok_or_else(Failure::not_found)?;
    of(call, TOPIC, "user", user)
}

async fn known<C: Core>(call: &Call<C>, vhost: &str, user: &str) -> Result<(), Failure> {
    if !call.gateway().topology.has_vhost(vhost) {
        return Err(Failure::bad_request("vhost_or_user_not_found"));
    }
    match call.gateway().access.users().get(user).await? {
        Some(_) => Ok(()),
        None => Err(Failure::bad_request("vhost_or_user_not_found")),
    }
}

fn pattern<'v>(said: &'v Map<String, Value>, name: &str) -> Result<&'v str, Failure> {
    let pattern = needed(said, name)?;
    match fancy_regex::Regex::new(pattern) {
        Ok(_) => Ok(pattern),
        Err(error) => Err(Failure::bad_request(format!("invalid_regexp: {pattern}: {error}"))),
    }
}

/// Gives a user permissions, as a request or a definition says.
pub(super) async fn put<C: Core>(
    call: &Call<C>,
    vhost: &str,
    user: &str,
    said: &Map<String, Value>,
) -> Result<(), Failure> {
    let (configure, write, read) = (pattern(said, "configure")?, pattern(said, "write")?, pattern(said, "read")?);
    known(call, vhost, user).await?;
    give(call, vhost, user, configure, write, read).await
}

pub(super) async fn give<C: Core>(
    call: &Call<C>,
    vhost: &str,
    user: &str,
    configure: &str,
    write: &str,
    read: &str,
) -> Result<(), Failure> {
    let value = json!({"configure": configure, "write": write, "read": read});
    call.gateway().topology.put(keys::key(PLAIN, &[vhost, user]), &value, MetaCondition::Always).await?;
    Ok(())
}

/// The same for the topics of an exchange.
pub(super) async fn put_topic<C: Core>(
    call: &Call<C>,
    vhost: &str,
    user: &str,
    said: &Map<String, Value>,
) -> Result<(), Failure> {
    let exchange = needed(said, "exchange")?;
    let value = json!({"write": pattern(said, "write")?, "read": pattern(said, "read")?});
    known(call, vhost, user).await?;
    call.gateway().topology.put(keys::key(TOPIC, &[vhost, user, exchange]), &value, MetaCondition::Always).await?;
    Ok(())
}
