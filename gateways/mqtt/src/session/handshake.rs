//! CONNECT and its answer (3.1, 3.2): who the client is, what both sides allow, and which session it gets.

use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::num::{NonZeroU16, NonZeroU32};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use codec_mqtt::packet::connect;
use codec_mqtt::{
    Auth, Binary, Connack, Connect, Frame, Packet, Place, Properties, Property, Reason, Sender, Text, Version,
};
use tokio_util::sync::CancellationToken;

use super::wire::Wire;
use super::{Client, Done, End, Peer, Step};
use crate::Gateway;
use crate::errors::{Refusal, SHUTTING_DOWN, TAKEN_OVER};
use crate::handlers::{admission, subscribe};
use crate::state::access::{Enhanced, Origin, Step as Exchanged, Who};
use crate::state::exclusive;
use crate::state::sessions::{Closing, ConnectionId, Kicked, OpenRequest, Resend, Session, StoredWill};

/// A CONNECT that is larger is none: everything in it but the will's payload is short.
const CONNECT_BYTES_MAX: usize = 1 << 20;

/// A connection that was let in.
pub(super) struct Opened {
    pub session: Arc<Session>,
    pub id: ConnectionId,
    pub client: Box<Client>,
    pub resends: Vec<Resend>,
    pub keep_alive: Option<Duration>,
    pub signals: Pin<Box<dyn Future<Output = End> + Send>>,
    /// What is done before its first packet.
    pub first: Option<Step>,
}

/// Why a client is not let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it closed the connection without a CONNECT")]
    Gone,
    #[error("it took too long to connect")]
    Slow,
    #[error("the gateway stops")]
    Draining,
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl From<codec_mqtt::Error> for HandshakeError {
    fn from(error: codec_mqtt::Error) -> HandshakeError {
        HandshakeError::Refused(error.into())
    }
}

/// Lets a client in, or answers why not.
pub(super) async fn run(
    gateway: &Arc<Gateway>,
    wire: &mut Wire,
    peer: &Peer,
    draining: CancellationToken,
) -> Result<Opened, HandshakeError> {
    // From here on a session may be opened, which must not be left half open.
    let frame = tokio::select! {
        frame = tokio::time::timeout(gateway.config.handshake_max, first_frame(wire)) => {
            frame.map_err(|_| HandshakeError::Slow)??
        }
        () = draining.cancelled() => return Err(HandshakeError::Draining),
    };
    gateway.counts.packets_received.add(1);
    let connect = match read_connect(wire, frame) {
        Ok(connect) => connect,
        Err(error) => {
            // What it says of why is best effort.
            let _ = wire.send().await;
            return Err(error);
        }
    };
    gateway.counts.connects_received.add(1);
    let version = connect.version;
    let wants_reasons = connect.properties.request_problem_information().unwrap_or(true);
    let packet_bytes_max = packet_bytes_max(&connect);
    match open(gateway, wire, peer, connect, draining).await {
        Err(HandshakeError::Refused(refusal)) => {
            put_refusal(wire, version, refusal, wants_reasons, packet_bytes_max);
            let _ = wire.send().await;
            Err(HandshakeError::Refused(refusal))
        }
        other => other,
    }
}

async fn first_frame(wire: &mut Wire) -> Result<Frame, HandshakeError> {
    loop {
        if let Some(frame) = wire.frame(CONNECT_BYTES_MAX)? {
            return Ok(frame);
        }
        if !wire.receive().await? {
            return Err(HandshakeError::Gone);
        }
    }
}

fn read_connect(wire: &mut Wire, frame: Frame) -> Result<Connect, HandshakeError> {
    let version = match connect::version(&frame) {
        Ok(version) => version,
        Err(error) => {
            // Of another protocol nothing is known; of another version of this one that it may know version 3.1.1's answer
            // [3.1.1: MQTT-3.1.2-2].
            let is_connect = frame.first >> 4 == 1;
            if is_connect && error.reason == Reason::UnsupportedProtocolVersion && error.statement != "MQTT-3.1.2-1" {
                put_refusal(wire, Version::Mqtt311, error.into(), false, usize::MAX);
            }
            return Err(error.into());
        }
    };
    let is_connect = frame.first >> 4 == 1;
    Connect::decode(frame).map_err(|error| {
        if is_connect {
            put_refusal(wire, version, error.into(), true, usize::MAX);
        }
        error.into()
    })
}

/// The largest packet that the client takes [MQTT-3.1.2-24].
fn packet_bytes_max(connect: &Connect) -> usize {
    connect.properties.maximum_packet_size_bytes().map_or(usize::MAX, |bytes| bytes.get() as usize)
}

/// CONNACK with a refusal, where the version has one for it.
fn put_refusal(wire: &mut Wire, version: Version, refusal: Refusal, wants_reasons: bool, packet_bytes_max: usize) {
    let reason = match version {
        Version::Mqtt5 if !refusal.reason.may_stand_in(Place::Connack, Sender::Server) => Reason::Unspecified,
        _ => refusal.reason,
    };
    let told =
        Text::new(refusal.what).filter(|_| wants_reasons && version == Version::Mqtt5).map(Property::ReasonString);
    let connack = |properties| Packet::Connack(Connack { session_present: false, reason, properties });
    let with_reason = connack(Properties::new(told).unwrap_or_default());
    if wire.out.put(&with_reason, version, packet_bytes_max).is_err() {
        // Without the string it may be small enough. What has no return code, or is still too large, is answered with the end of
        // the connection alone.
        let _ = wire.out.put(&connack(Properties::default()), version, packet_bytes_max);
    }
}

async fn open(
    gateway: &Arc<Gateway>,
    wire: &mut Wire,
    peer: &Peer,
    connect: Connect,
    draining: CancellationToken,
) -> Result<Opened, HandshakeError> {
    let (config, version, asked) = (&gateway.config, connect.version, &connect.properties);
    let origin = Origin { address: peer.address.ip(), is_tls: peer.is_tls, subject: peer.subject.clone() };
    // Boxed: an exchange is large, and most clients have none.
    let authenticating = Box::pin(authenticate(gateway, wire, &connect, &origin));
    let (user, mut told) =
        tokio::time::timeout(config.handshake_max, authenticating).await.map_err(|_| HandshakeError::Slow)??;
    let is_assigned = connect.client_id.is_empty();
    // A copy: the packet's memory must not stay for it.
    let client_id = if is_assigned { assign_id(gateway) } else { copy(&connect.client_id) };
    let who = Arc::new(Who::new(client_id.as_str(), user));
    if let Some(will) = &connect.will {
        check_will(gateway, &who, &will.topic)?;
    }
    let id = gateway.next_connection();

    let wanted_s = match version {
        Version::Mqtt5 => asked.session_expiry_interval_s().unwrap_or(0),
        _ if connect.clean_start => 0,
        _ => config.session_expiry_default_s,
    };
    let expiry_s = wanted_s.min(config.session_expiry_max_s);
    if expiry_s != wanted_s {
        told.push(Property::SessionExpiryInterval(expiry_s));
    }
    let window = asked.receive_maximum().map_or(u16::MAX, NonZeroU16::get).min(config.in_flight_max).max(1);
    let mut keep_alive_s = connect.keep_alive_s;
    // Older versions cannot be told of another keep alive than theirs.
    let is_longer = keep_alive_s == 0 || keep_alive_s > config.keep_alive_max_s;
    if version == Version::Mqtt5 && config.keep_alive_max_s > 0 && is_longer {
        keep_alive_s = config.keep_alive_max_s;
        told.push(Property::ServerKeepAlive(keep_alive_s));
    }
    let client = Client {
        version,
        packet_bytes_max: packet_bytes_max(&connect),
        topic_alias_max: asked.topic_alias_maximum().unwrap_or(0).min(config.topic_alias_maximum),
        window,
        wants_reasons: asked.request_problem_information().unwrap_or(true),
        is_bridge: connect.bridge,
        expiry_s,
        who: who.clone(),
        origin,
        method: asked.authentication_method().as_ref().map(copy),
        exchange: None,
    };

    let kick = Kicked::default();
    let kicked = kick.clone();
    let request = OpenRequest {
        client_id: client_id.clone(),
        clean_start: connect.clean_start,
        expiry_s,
        version,
        connection: id,
        kick,
        will: connect.will.as_ref().and_then(|will| StoredWill::of(will, who.user.as_deref())),
        window,
    };
    let opened = gateway.sessions.open(request).await.map_err(Refusal::from)?;
    if let Err(error) = gateway.shares.attached(&opened.session, window).await {
        tracing::warn!(client = %opened.session.client_id, %error, "a client gets nothing of some shared subscription");
    }

    let told = told.into_iter().chain(limits(gateway));
    let told = told.chain(is_assigned.then(|| Property::AssignedClientIdentifier(client_id)));
    let properties = match version {
        Version::Mqtt5 => Properties::new(told).unwrap_or_default(),
        _ => Properties::default(),
    };
    let connack = Connack { session_present: opened.session_present, reason: Reason::Success, properties };
    let packet_bytes_max = client.packet_bytes_max;
    if wire.out.put(&Packet::Connack(connack), version, packet_bytes_max).is_err() {
        // The client takes less than it has to be told.
        let closing = Closing { expiry_s: Some(0), send_will: false };
        let shares = gateway.sessions.close(&opened.session, id, closing).await;
        gateway.shares.detached(&opened.session, &shares);
        return Err(Refusal::new(Reason::PacketTooLarge, "the answer is larger than the client takes").into());
    }
    tracing::debug!(client = %opened.session.client_id, peer = %peer.address, ?version, "a client is let in");
    let signals = Box::pin(async move {
        tokio::select! {
            () = kicked.kicked() => End::Refused(TAKEN_OVER),
            () = draining.cancelled() => End::Refused(SHUTTING_DOWN),
        }
    });
    let first = first(gateway, who, &opened.session, opened.session_present, window);
    let keep_alive = (keep_alive_s > 0).then(|| Duration::from_secs(keep_alive_s.into()));
    Ok(Opened {
        session: opened.session,
        id,
        client: Box::new(client),
        resends: opened.resends,
        keep_alive,
        signals,
        first,
    })
}

/// Who the client is, and what CONNACK has to say of that.
async fn authenticate(
    gateway: &Gateway,
    wire: &mut Wire,
    connect: &Connect,
    origin: &Origin,
) -> Result<(Option<Arc<str>>, Vec<Property>), HandshakeError> {
    let asked = &connect.properties;
    let Some(method) = asked.authentication_method() else {
        let (name, password) = (connect.user_name.as_deref(), connect.password.as_deref());
        let user = gateway.access.authenticate(name, password, origin).await.map_err(Refusal::from)?;
        return Ok((user, Vec::new()));
    };
    let mut exchange = Enhanced::begin(&method).map_err(Refusal::from)?;
    let mut data = asked.authentication_data();
    loop {
        let step = gateway.access.step(&mut exchange, data.as_deref(), origin).await.map_err(Refusal::from)?;
        match step {
            Exchanged::Done { user, data } => {
                let told = [Property::AuthenticationMethod(copy(&method))].into_iter();
                let told = told.chain(Binary::new(data).map(Property::AuthenticationData));
                return Ok((Some(user), told.collect()));
            }
            Exchanged::Continue(answer) => {
                let auth = auth_packet(Reason::ContinueAuthentication, &method, answer);
                if wire.out.put(&auth, connect.version, packet_bytes_max(connect)).is_err() {
                    return Err(Refusal::new(Reason::PacketTooLarge, "an AUTH is larger than the client takes").into());
                }
                data = next_data(wire, &method).await?;
                gateway.counts.packets_received.add(1);
            }
        }
    }
}

/// What the client says next in its exchange.
async fn next_data(wire: &mut Wire, method: &Text) -> Result<Option<Binary>, HandshakeError> {
    let frame = first_frame(wire).await?;
    match Packet::decode(frame, Version::Mqtt5, Sender::Client)? {
        Packet::Auth(auth) if auth.reason != Reason::ContinueAuthentication => {
            Err(Refusal::protocol("an AUTH that does not continue the exchange").into())
        }
        Packet::Auth(auth) if auth.properties.authentication_method().as_ref() != Some(method) => {
            Err(Refusal::protocol("an AUTH with another method than CONNECT's").into())
        }
        Packet::Auth(auth) => Ok(auth.properties.authentication_data()),
        Packet::Disconnect(_) => Err(HandshakeError::Gone),
        // [MQTT-3.1.2-30]
        _ => Err(Refusal::protocol("a packet other than AUTH or DISCONNECT before CONNACK").into()),
    }
}

/// A step of ours in an exchange.
pub(crate) fn auth_packet(reason: Reason, method: &Text, data: Vec<u8>) -> Packet {
    let method = Property::AuthenticationMethod(method.clone());
    let data = Binary::new(data).filter(|data| !data.is_empty()).map(Property::AuthenticationData);
    let properties = Properties::new([method].into_iter().chain(data)).unwrap_or_default();
    Packet::Auth(Auth { reason, properties })
}

/// A will goes where its client may publish; names that begin with `$` are the server's, but for delays
/// and what bridges say of themselves.
fn check_will(gateway: &Gateway, who: &Who, topic: &str) -> Result<(), Refusal> {
    let is_known = |prefix: &&str| topic.starts_with(prefix);
    let is_servers = topic.starts_with('$') && !["$SYS/", "$delayed/"].iter().any(is_known);
    if is_servers || !gateway.access.may_publish(who, topic) {
        return Err(Refusal::new(Reason::NotAuthorized, "the client may not publish to the topic of its will"));
    }
    Ok(())
}

/// What is done before the first packet: exclusive subscriptions of a session that was there before, and those that every
/// client gets.
fn first(gateway: &Arc<Gateway>, who: Arc<Who>, session: &Arc<Session>, is_resumed: bool, window: u16) -> Option<Step> {
    let resumes = is_resumed && session.subscriptions().iter().any(|(filter, _)| exclusive::filter(filter).is_some());
    if !resumes && gateway.config.auto_subscribe.is_empty() {
        return None;
    }
    let (gateway, session) = (gateway.clone(), session.clone());
    Some(Step::Runs(Box::pin(async move {
        if resumes {
            admission::resumed(&gateway, &who, &session).await;
        }
        subscribe::automatically(&gateway, &session, &who, window).await;
        Done::Began
    })))
}

/// What this gateway allows, for CONNACK.
fn limits(gateway: &Gateway) -> impl Iterator<Item = Property> {
    let config = &gateway.config;
    let receive = NonZeroU16::new(config.receive_maximum).filter(|receive| receive.get() < u16::MAX);
    let packet = NonZeroU32::new(config.packet_bytes_max).map(Property::MaximumPacketSize);
    let alias = Some(config.topic_alias_maximum).filter(|alias| *alias > 0);
    let receive = receive.map(Property::ReceiveMaximum);
    receive.into_iter().chain(packet).chain(alias.map(Property::TopicAliasMaximum))
}

/// An identifier that no other client has [MQTT-3.1.3-6]: `auto-` and 128 bits of chance in hexadecimal.
fn assign_id(gateway: &Gateway) -> Text {
    let bytes = gateway_runtime::identity::random_16_bytes().unwrap_or_else(|_| {
        // No chance on this machine: a number that this gateway gives once.
        let own = u128::from_be_bytes(gateway.membership.own().incarnation);
        own.wrapping_add(gateway.next_connection().0.into()).to_be_bytes()
    });
    let mut id = String::from("auto-");
    for byte in bytes {
        // A string takes everything.
        let _ = write!(id, "{byte:02x}");
    }
    Text::new(id).unwrap_or_default()
}

/// The same text in memory of its own.
pub(crate) fn copy(text: &Text) -> Text {
    Text::new(text.as_str()).unwrap_or_default()
}
