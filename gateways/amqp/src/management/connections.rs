//! `/api/connections`: the connections of all gateways; to be shown and to be closed.

use axum::http::Method;
use core_rpc::Core;
use serde_json::{Map, Value, json};

use super::call::{Call, Failure, Reply};
use crate::errors::{Refusal, ReplyCode};
use crate::state::registry::Connection;
use crate::state::topology::Arguments;

pub async fn handle<C: Core>(call: &Call<C>, path: &[&str]) -> Result<Reply, Failure> {
    match (&call.method, path) {
        (&Method::GET, []) => {
            let own = list(call, |connection| call.sees(&connection.vhost));
            Ok(with_others(call, own, &["connections"]).await)
        }
        (&Method::GET, ["username", user]) => {
            let own = list(call, |connection| connection.user.name == *user);
            Ok(with_others(call, own, &["connections", "username", user]).await)
        }
        (&Method::DELETE, ["username", user]) => {
            call.administrator()?;
            let connections = call.gateway().registry.all();
            connections.iter().filter(|connection| connection.user.name == *user).for_each(|own| close(call, own));
            call.elsewhere(Method::DELETE, &["connections", "username", user]).await;
            Ok(Reply::NoContent)
        }
        // Of another gateway.
        (_, [name] | [name, "channels" | "sessions"])
            if !call.is_asked && call.gateway().registry.by_name(name).is_none() =>
        {
            call.found_elsewhere(&[&["connections"][..], path].concat()).await
        }
        (&Method::GET, [name]) => Ok(Reply::Json(show(call, &*known(call, name)?))),
        (&Method::DELETE, [name]) => {
            let connection = known(call, name)?;
            if connection.user.name != call.user.name {
                call.administrator()?;
            }
            close(call, &connection);
            Ok(Reply::NoContent)
        }
        (&Method::GET, [name, "channels"]) => {
            let connection = known(call, name)?;
            Ok(Reply::List(super::channels::list(call, |other| other.id == connection.id)))
        }
        (&Method::GET, [name, "sessions"]) => {
            known(call, name)?;
            Err(Failure::bad_request("connection is not an AMQP 1.0 connection"))
        }
        (_, [] | [_]) => Err(Failure::not_allowed()),
        _ => Err(Failure::not_found()),
    }
}

pub(super) async fn of_vhost<C: Core>(call: &Call<C>, vhost: &str) -> Result<Reply, Failure> {
    let vhost = call.vhost_to_see(vhost)?;
    let own = list(call, |connection| connection.vhost == vhost);
    Ok(with_others(call, own, &["vhosts", &vhost, "connections"]).await)
}

/// A list of this gateway's own, and what the others have on theirs.
pub(super) async fn with_others<C: Core>(call: &Call<C>, own: Vec<Value>, path: &[&str]) -> Reply {
    let mut all = own;
    all.extend(call.listed_elsewhere(path).await);
    Reply::List(all)
}

fn list<C: Core>(call: &Call<C>, is_looked_for: impl Fn(&Connection) -> bool) -> Vec<Value> {
    let is_shown = |connection: &Connection| {
        (call.is_monitor() || connection.user.name == call.user.name) && is_looked_for(connection)
    };
    let connections = call.gateway().registry.all();
    connections.iter().filter(|connection| is_shown(connection)).map(|connection| show(call, connection)).collect()
}

fn known<C: Core>(call: &Call<C>, name: &str) -> Result<std::sync::Arc<Connection>, Failure> {
    let connection = call.gateway().registry.by_name(name).ok_or_else(Failure::not_found)?;
    if !call.is_monitor() && connection.user.name != call.user.name {
        return Err(Failure::not_authorised("User not authorised to access object"));
    }
    Ok(connection)
}

fn close<C: Core>(call: &Call<C>, connection: &Connection) {
    tracing::info!(connection = connection.name, by = call.user.name, "a connection is closed by request");
    connection.close(Refusal::new(ReplyCode::ConnectionForced, "Closed via management plugin"));
}

fn show<C: Core>(call: &Call<C>, connection: &Connection) -> Value {
    let mut object = Map::new();
    let mut say = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    say("name", connection.name.as_str().into());
    say("user_provided_name", json!(connection.given_name));
    say("node", call.gateway().node_name().into());
    say("vhost", (*connection.vhost).into());
    say("user", connection.user.name.as_str().into());
    say("user_who_performed_action", connection.user.name.as_str().into());
    say("state", if connection.is_blocked() { "blocked" } else { "running" }.into());
    say("protocol", "AMQP 0-9-1".into());
    say("type", "network".into());
    say("auth_mechanism", connection.mechanism.into());
    say("ssl", connection.is_tls.into());
    say("connected_at", connection.connected_ms.into());
    say("host", connection.local.ip().to_string().into());
    say("port", connection.local.port().into());
    say("peer_host", connection.peer.ip().to_string().into());
    say("peer_port", connection.peer.port().into());
    say("channels", connection.channels().len().into());
    say("channel_max", connection.negotiated.channel_max.into());
    say("frame_max", connection.negotiated.frame_max.into());
    say("timeout", connection.negotiated.heartbeat_seconds.into());
    say("client_properties", Arguments::from(&connection.client_properties).to_json());
    for none in [
        "peer_cert_issuer",
        "peer_cert_subject",
        "peer_cert_validity",
        "ssl_cipher",
        "ssl_hash",
        "ssl_key_exchange",
        "ssl_protocol",
    ] {
        say(none, Value::Null);
    }
    let of = format!("connection/{}", connection.id);
    call.rates().show(&mut object, &of, "recv_oct", connection.received_bytes.get());
    call.rates().show(&mut object, &of, "send_oct", connection.sent_bytes.get());
    Value::Object(object)
}
