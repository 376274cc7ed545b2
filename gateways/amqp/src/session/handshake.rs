//! From the protocol header to an open vhost.
//!
//! ```text
//! client  AMQP 0 0 9 1        start-ok (SASL)       tune-ok, open
//! server               start                  tune                open-ok
//! ```
//! What goes wrong is told as RabbitMQ tells it: a wrong protocol header with ours; a refused login with 403, if the client
//! said that it understands that, else with a closed socket; a vhost that is not there, or not the user's, with 530.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use codec_amqp::frame::{FrameKind, PROTOCOL_HEADER, protocol_header, split};
use codec_amqp::{FieldTable, Method, MethodError, ShortStr, connection};
use core_rpc::Core;

use super::mechanisms::{self, Credentials, Mechanism};
use super::wire::Wire;
use super::{Peer, SessionError, goodbye, server_properties};
use crate::errors::{Refusal, ReplyCode};
use crate::state::access::User;
use crate::state::registry::{Capabilities, Connection, ConnectionParts, Negotiated, OverLimit};
use crate::{Anonymous, Gateway, management, now_ms};

/// The largest frame before one is agreed. The specification has 4096; RabbitMQ 4.1 takes 8192, for long tokens.
const FRAME_BYTES_MAX: usize = 8192;

/// The least that a client may agree to (section 4.2.3 of the specification).
const FRAME_MAX_MIN: u32 = 4096;

/// How long a client whose login was refused waits for the socket to close: so that guessing is slow.
const REFUSED_LOGIN_DELAY: Duration = Duration::from_secs(1);

/// Shakes hands. None: it was told why not.
pub(super) async fn run<C: Core>(
    gateway: &Arc<Gateway<C>>,
    wire: &mut Wire,
    peer: Peer,
) -> Result<Option<Arc<Connection>>, SessionError> {
    if !greet(wire).await? {
        return Ok(None);
    }
    let mechanisms = Mechanism::offered(peer.subject.is_some(), gateway.config.anonymous.is_some());
    let start = connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties: server_properties(gateway.cluster_name()),
        mechanisms: Bytes::from_static(mechanisms.as_bytes()),
        locales: Bytes::from_static(b"en_US"),
    };
    wire.out.put_method(0, &start.into());
    let start_ok = match expect(wire, "connection.start-ok").await? {
        Ok(Method::ConnectionStartOk(start_ok)) => start_ok,
        other => return refuse(wire, unexpected(other)).await,
    };
    let capabilities = capabilities(&start_ok.client_properties);
    let (user, mechanism) = match authenticate(gateway, &peer, &start_ok).await {
        Ok(known) => known,
        Err(refusal) => {
            tracing::info!(peer = %peer.address, mechanism = %start_ok.mechanism, "a login was refused");
            if capabilities.authentication_failure_close || refusal.code != ReplyCode::AccessRefused {
                return refuse(wire, refusal).await;
            }
            tokio::time::sleep(REFUSED_LOGIN_DELAY).await;
            return Ok(None);
        }
    };
    let offered = Negotiated {
        channel_max: gateway.config.channel_max,
        frame_max: gateway.config.frame_max,
        heartbeat_seconds: gateway.config.heartbeat.as_secs().try_into().unwrap_or(u16::MAX),
    };
    let tune = connection::Tune {
        channel_max: offered.channel_max,
        frame_max: offered.frame_max,
        heartbeat: offered.heartbeat_seconds,
    };
    wire.out.put_method(0, &tune.into());
    let tune_ok = match expect(wire, "connection.tune-ok").await? {
        Ok(Method::ConnectionTuneOk(tune_ok)) => tune_ok,
        other => return refuse(wire, unexpected(other)).await,
    };
    let negotiated = match negotiate(offered, &tune_ok) {
        Ok(negotiated) => negotiated,
        Err(refusal) => return refuse(wire, refusal).await,
    };
    let open = match expect(wire, "connection.open").await? {
        Ok(Method::ConnectionOpen(open)) => open,
        other => return refuse(wire, unexpected(other)).await,
    };
    if let Err(refusal) = gateway.access.may_open(&user, &open.virtual_host).await {
        return refuse(wire, refusal).await;
    }
    let given_name = start_ok.client_properties.get_text("connection_name").map(str::to_owned);
    let id = gateway.registry.next_id();
    let parts = ConnectionParts {
        id,
        peer: peer.address,
        local: peer.local,
        is_tls: peer.is_tls,
        mechanism: mechanism.name(),
        user,
        vhost: open.virtual_host.as_str().into(),
        client_properties: start_ok.client_properties,
        capabilities,
        negotiated,
        holder_prefix: format!("{}/{id}", gateway.holder_prefix()),
        connected_ms: now_ms(),
    };
    let connection = Arc::new(Connection::new(parts, given_name));
    if let Err(over) = admit(gateway, &connection).await {
        return refuse(wire, over).await;
    }
    // From here on nothing is waited for: who is in the registry is served, and leaves it at its end.
    wire.out.put_method(0, &connection::OpenOk {}.into());
    Ok(Some(connection))
}

/// Takes the connection into the registry, unless its vhost or its user has as many as it may, at all gateways: in RabbitMQ's words.
async fn admit<C: Core>(gateway: &Gateway<C>, connection: &Arc<Connection>) -> Result<(), Refusal> {
    let (vhost, user) = (&connection.vhost, &connection.user.name);
    let of_vhost = gateway.topology.vhost_limit(vhost, "max-connections");
    let of_user = gateway.topology.user_limit(user, "max-connections");
    if of_vhost.is_none() && of_user.is_none() {
        gateway.registry.add(connection.clone());
        return Ok(());
    }
    let place = gateway.registry.reserve(connection.clone());
    let mut checked = place.before.check(of_vhost, of_user);
    if checked.is_ok() {
        let elsewhere = management::load_elsewhere(gateway, vhost, user).await;
        checked = place.before.and(elsewhere).check(of_vhost, of_user);
    }
    match checked {
        Ok(()) => {
            place.take();
            Ok(())
        }
        Err(OverLimit::OfVhost(limit)) => Err(Refusal::not_allowed(format!(
            "access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached"
        ))),
        Err(OverLimit::OfUser(limit)) => Err(Refusal::not_allowed(format!(
            "connection refused for user '{user}': user connection limit ({limit}) is reached"
        ))),
    }
}

/// Waits for the protocol header. False: it was another, and the peer was told ours.
async fn greet(wire: &mut Wire) -> Result<bool, SessionError> {
    loop {
        match protocol_header(&mut wire.input) {
            Ok(Some([0, 0, 9, 1])) => return Ok(true),
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => {
                wire.out.put_raw(&PROTOCOL_HEADER);
                goodbye::linger(wire).await?;
                return Ok(false);
            }
        }
        if !wire.receive().await? {
            return Err(SessionError::Gone);
        }
    }
}

/// Sends what waits, and reads the next method. A client that closes instead is answered.
async fn expect(wire: &mut Wire, what: &str) -> Result<Result<Method, MethodError>, SessionError> {
    wire.send().await?;
    loop {
        let frame = split(&mut wire.input, FRAME_BYTES_MAX);
        match frame.map_err(|error| SessionError::Handshake(error.to_string()))? {
            Some(frame) if frame.kind == FrameKind::Heartbeat => {}
            Some(frame) if frame.kind == FrameKind::Method && frame.channel == 0 => {
                return match Method::decode(&frame.payload) {
                    Ok(Method::ConnectionClose(_)) => {
                        wire.out.put_method(0, &connection::CloseOk {}.into());
                        goodbye::linger(wire).await?;
                        Err(SessionError::Handshake(format!("the client closed instead of {what}")))
                    }
                    decoded => Ok(decoded),
                };
            }
            Some(frame) => {
                return Err(SessionError::Handshake(format!("a frame of kind {:?} instead of {what}", frame.kind)));
            }
            None if wire.receive().await? => {}
            None => return Err(SessionError::Gone),
        }
    }
}

fn unexpected(method: Result<Method, MethodError>) -> Refusal {
    match method {
        Ok(method) => Refusal::command_invalid(format!("unexpected method {} during the handshake", method.name())),
        Err(error @ MethodError::Unknown { .. }) => Refusal::not_implemented(error.to_string()),
        Err(error @ MethodError::Syntax { .. }) => Refusal::syntax_error(error.to_string()),
    }
}

/// Tells the client why not, and waits for it to close.
async fn refuse(wire: &mut Wire, refusal: Refusal) -> Result<Option<Arc<Connection>>, SessionError> {
    let close = connection::Close {
        reply_code: refusal.code.code(),
        reply_text: ShortStr::truncated(&refusal.text()),
        class_id: 0,
        method_id: 0,
    };
    wire.out.put_method(0, &close.into());
    goodbye::linger(wire).await?;
    Err(SessionError::Handshake(refusal.text()))
}

async fn authenticate<C: Core>(
    gateway: &Gateway<C>,
    peer: &Peer,
    start_ok: &connection::StartOk,
) -> Result<(Arc<User>, Mechanism), Refusal> {
    let refused = || {
        Refusal::access_refused(format!(
            "Login was refused using authentication mechanism {}. For details see the broker logfile.",
            start_ok.mechanism
        ))
    };
    let mechanism = Mechanism::of(&start_ok.mechanism).ok_or_else(|| {
        Refusal::command_invalid(format!("unknown authentication mechanism '{}'", start_ok.mechanism))
    })?;
    let not_offered = || Refusal::command_invalid(format!("invalid authentication mechanism '{}'", mechanism.name()));
    let credentials = match mechanism {
        Mechanism::External => {
            let subject = peer.subject.as_ref().ok_or_else(not_offered)?;
            let known = gateway.access.of_certificate(&mechanisms::external(subject)).await;
            return known.map(|user| (user, mechanism)).map_err(|_| refused());
        }
        Mechanism::Anonymous => {
            let Anonymous { name, password } = gateway.config.anonymous.clone().ok_or_else(not_offered)?;
            Some(Credentials { name, password: password.into() })
        }
        Mechanism::AmqPlain => {
            mechanisms::amqplain(&start_ok.response).map_err(|error| Refusal::syntax_error(error.to_string()))?
        }
        Mechanism::Plain => mechanisms::plain(&start_ok.response),
    };
    let Credentials { name, password } = credentials.ok_or_else(refused)?;
    let known = gateway.access.authenticate(&name, &password, peer.address.ip()).await;
    known.map(|user| (user, mechanism)).map_err(|_| refused())
}

/// What holds: the client may lower what was offered. 0 means no limit, and so what was offered.
fn negotiate(offered: Negotiated, tune_ok: &connection::TuneOk) -> Result<Negotiated, Refusal> {
    let channel_max = if tune_ok.channel_max == 0 { offered.channel_max } else { tune_ok.channel_max };
    if channel_max > offered.channel_max {
        return Err(Refusal::not_allowed(format!(
            "negotiated channel_max = {channel_max} is higher than the maximum allowed value ({})",
            offered.channel_max
        )));
    }
    let frame_max = if tune_ok.frame_max == 0 { offered.frame_max } else { tune_ok.frame_max };
    if frame_max < FRAME_MAX_MIN {
        return Err(Refusal::not_allowed(format!(
            "negotiated frame_max = {frame_max} is lower than the minimum allowed value ({FRAME_MAX_MIN})"
        )));
    }
    if frame_max > offered.frame_max {
        return Err(Refusal::not_allowed(format!(
            "negotiated frame_max = {frame_max} is higher than the maximum allowed value ({})",
            offered.frame_max
        )));
    }
    Ok(Negotiated { channel_max, frame_max, heartbeat_seconds: tune_ok.heartbeat })
}

fn capabilities(client_properties: &FieldTable) -> Capabilities {
    let Some(table) = client_properties.get_table("capabilities") else { return Capabilities::default() };
    let has = |name| table.get_bool(name).unwrap_or(false);
    Capabilities {
        publisher_confirms: has("publisher_confirms"),
        exchange_exchange_bindings: has("exchange_exchange_bindings"),
        basic_nack: has("basic.nack"),
        consumer_cancel_notify: has("consumer_cancel_notify"),
        connection_blocked: has("connection.blocked"),
        authentication_failure_close: has("authentication_failure_close"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_lower_but_not_raise() {
        let offered = Negotiated { channel_max: 2047, frame_max: 131_072, heartbeat_seconds: 60 };
        let ask =
            |channel_max, frame_max| negotiate(offered, &connection::TuneOk { channel_max, frame_max, heartbeat: 5 });
        assert_eq!(ask(0, 0), Ok(Negotiated { heartbeat_seconds: 5, ..offered }));
        assert_eq!(ask(10, 8192).map(|agreed| (agreed.channel_max, agreed.frame_max)), Ok((10, 8192)));
        assert_eq!(ask(2048, 0).unwrap_err().code, ReplyCode::NotAllowed);
        assert_eq!(ask(0, 4095).unwrap_err().code, ReplyCode::NotAllowed);
        assert_eq!(ask(0, 131_073).unwrap_err().code, ReplyCode::NotAllowed);
    }
}
