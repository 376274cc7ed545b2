//! `/api/users`: users with their tags and the hashes of their passwords.

use axum::http::Method;
use core_rpc::Core;
use gateway_runtime::users::{HashAlgorithm, SaltedHash, User};
use serde_json::{Map, Value, json};

use super::call::{Call, Failure, Reply, boolean, text};
use crate::Gateway;
use crate::errors::{Refusal, ReplyCode};

pub async fn handle<C: Core>(call: &Call<C>, path: &[&str]) -> Result<Reply, Failure> {
    match (&call.method, path) {
        (&Method::GET, []) => {
            call.administrator()?;
            Ok(Reply::List(all(call).await?))
        }
        (&Method::GET, ["without-permissions"]) => {
            call.administrator()?;
            let permissions = call.gateway().topology.records("permission");
            let has = |name: &str| permissions.iter().any(|(parts, _)| parts.get(1).is_some_and(|user| user == name));
            let users = all(call).await?.into_iter();
            Ok(Reply::List(users.filter(|user| !has(user["name"].as_str().unwrap_or_default())).collect()))
        }
        (&Method::POST, ["bulk-delete"]) => {
            call.administrator()?;
            let names = call.object()?;
            for name in names.get("users").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
                delete(call, name).await?;
            }
            Ok(Reply::NoContent)
        }
        (&Method::GET, [name]) => {
            if call.user.name != *name {
                call.administrator()?;
            }
            let user = call.gateway().access.users().get(name).await?.ok_or_else(Failure::not_found)?;
            Ok(Reply::Json(Value::Object(show(name, &user))))
        }
        (&Method::PUT, [name]) => {
            call.administrator()?;
            let is_new = call.gateway().access.users().get(name).await?.is_none();
            put(call, name, &call.object()?).await?;
            Ok(if is_new { Reply::Created(None) } else { Reply::NoContent })
        }
        (&Method::DELETE, [name]) => {
            call.administrator()?;
            call.gateway().access.users().get(name).await?.ok_or_else(Failure::not_found)?;
            delete(call, name).await?;
            Ok(Reply::NoContent)
        }
        (&Method::GET, [name, "permissions"]) => super::permissions::of_user(call, name).await,
        (&Method::GET, [name, "topic-permissions"]) => super::permissions::topics_of_user(call, name).await,
        (_, [] | [_]) => Err(Failure::not_allowed()),
        _ => Err(Failure::not_found()),
    }
}

/// All users, as definitions show them.
pub(super) async fn all<C: Core>(call: &Call<C>) -> Result<Vec<Value>, Failure> {
    let users = call.gateway().access.users().all().await?;
    Ok(users.iter().map(|(name, user)| Value::Object(show(name, user))).collect())
}

fn algorithm_name(algorithm: HashAlgorithm) -> &'static str {
    match algorithm {
        HashAlgorithm::Sha256 => "rabbit_password_hashing_sha256",
        HashAlgorithm::Sha512 => "rabbit_password_hashing_sha512",
        HashAlgorithm::Md5 => "rabbit_password_hashing_md5",
    }
}

fn show(name: &str, user: &User) -> Map<String, Value> {
    let hash = user.salted.as_ref().map_or("", |salted| salted.hash.as_str());
    let algorithm = user.salted.as_ref().map_or(HashAlgorithm::Sha256, |salted| salted.algorithm);
    let mut object = Map::new();
    object.insert("name".into(), name.into());
    object.insert("password_hash".into(), hash.into());
    object.insert("hashing_algorithm".into(), algorithm_name(algorithm).into());
    object.insert("tags".into(), json!(user.tags));
    object.insert("limits".into(), json!({}));
    object
}

/// The algorithm of a hash that comes without or with its name. Definitions of servers before 3.6 name none.
fn algorithm(named: Option<&str>, default: HashAlgorithm) -> Result<HashAlgorithm, Failure> {
    match named {
        None => Ok(default),
        Some("rabbit_password_hashing_sha256") => Ok(HashAlgorithm::Sha256),
        Some("rabbit_password_hashing_sha512") => Ok(HashAlgorithm::Sha512),
        Some("rabbit_password_hashing_md5") => Ok(HashAlgorithm::Md5),
        Some(other) => Err(Failure::bad_request(format!("unknown hashing algorithm {other}"))),
    }
}

/// Makes or changes a user, as a request or a definition says: with a password, its hash, or none.
pub(super) async fn put<C: Core>(call: &Call<C>, name: &str, said: &Map<String, Value>) -> Result<(), Failure> {
    let tags: Vec<String> = match said.get("tags").or_else(|| said.get("administrator")) {
        Some(Value::String(tags)) => {
            tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(Into::into).collect()
        }
        Some(Value::Array(tags)) => tags.iter().filter_map(Value::as_str).map(Into::into).collect(),
        Some(Value::Bool(true)) => vec!["administrator".into()],
        Some(_) => Vec::new(),
        None => return Err(Failure::bad_request("[\"tags not specified\"]")),
    };
    let hash = text(said, "password_hash").filter(|hash| !hash.is_empty());
    let changed = match (text(said, "password").filter(|password| !password.is_empty()), hash) {
        (Some(password), _) => {
            let password = password.to_owned();
            let hashed = tokio::task::spawn_blocking(move || User::of_password(&password)).await;
            hashed
                .map_err(|error| Failure::bad_request(error.to_string()))?
                .map_err(|error| Failure::bad_request(error.to_string()))?
        }
        (None, Some(hash)) => {
            let algorithm = algorithm(text(said, "hashing_algorithm"), HashAlgorithm::Sha256)?;
            User { salted: Some(SaltedHash { algorithm, hash: hash.to_owned() }), ..User::default() }
        }
        // Nobody logs in with a password as this user.
        (None, None) => {
            let none = SaltedHash { algorithm: HashAlgorithm::Sha256, hash: String::new() };
            User { salted: Some(none), ..User::default() }
        }
    };
    let changed = User { tags, loopback_only: boolean(said.get("loopback_only"), false), ..changed };
    // Definitions say nothing of it: RabbitMQ keeps it in its settings.
    let keeps_loopback = !said.contains_key("loopback_only");
    let loopback_name = call.gateway().config.loopback_users.iter().any(|user| user == name);
    call.gateway()
        .access
        .users()
        .change(name, |user| {
            let loopback_only =
                if keeps_loopback { user.loopback_only || loopback_name } else { changed.loopback_only };
            *user = User { loopback_only, ..changed.clone() };
        })
        .await?;
    Ok(())
}

async fn delete<C: Core>(call: &Call<C>, name: &str) -> Result<(), Failure> {
    let gateway = call.gateway();
    gateway.access.users().change(name, |user| *user = User::default()).await?;
    for kind in ["permission", "topic-permission"] {
        for (parts, _) in gateway.topology.records(kind) {
            if parts.get(1).is_some_and(|user| user == name) {
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                gateway.topology.remove(&crate::state::topology::keys::key(kind, &parts)).await?;
            }
        }
    }
    close_connections(gateway, name);
    call.elsewhere(Method::DELETE, &["users", name]).await;
    Ok(())
}

/// Those of this gateway, of a user that is deleted.
pub(super) fn close_connections<C: Core>(gateway: &Gateway<C>, user: &str) {
    for connection in gateway.registry.all() {
        if connection.user.name == user {
            connection.close(Refusal::new(ReplyCode::ConnectionForced, format!("user '{user}' is deleted")));
        }
    }
}
