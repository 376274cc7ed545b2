//! The MQTT gateway: speaks MQTT 3.1, 3.1.1 and 5.0 to clients, and the core's contract to a log core.
//!
//! ```text
//! socket → session (packets, order, flow) → handlers (one file per packet) → Core
//!                                             ├ state      what connections share: sessions, router, retained, shares …
//!                                             ├ translate  packets ↔ what is stored of them
//!                                             └ errors     the only place that knows reason codes
//! ```
//! Nothing here must survive the process: messages, retained messages and sessions are the core's.

pub mod check;
pub mod cli;
pub mod errors;
mod handlers;
pub mod import;
pub mod session;
pub mod state;
pub mod translate;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use core_rpc::{AnyCore, BATCH_BYTES_MAX, Durability};
use gateway_runtime::address::advertised;
use gateway_runtime::listener::{self, Server};
pub(crate) use gateway_runtime::now_ms;
use gateway_runtime::tls::{Tls, TlsFiles, client_subject};
use gateway_runtime::{
    CoreSession, Identity, Membership, NodeId, Purpose, Registration, Stream, TopicCache, admin, workers,
};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::session::Peer;
use crate::session::websocket::WebSocket;
use crate::state::access::{Access, AccessConfig, Who};
use crate::state::auto_subscribe::AutoSubscribe;
use crate::state::delayed::Mover;
use crate::state::rewrite::{Rewrite, RewriteRule};
use crate::state::sessions::store::{Parts, Settings};
use crate::state::sessions::{ConnectionId, Limits, Places};
use crate::state::sys::SysMessage;
use crate::state::{Counts, Publishing, RetainedStore, Router, Sessions, Shares, Sys, TopicRules, Topics, shares};

/// Where WebSockets are listened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebSocketListen {
    Nowhere,
    At(SocketAddr),
    /// What nobody asked for does not keep the gateway from starting.
    IfFree(SocketAddr),
}

/// How the gateway is set up.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    /// Where WebSockets are listened for.
    pub websocket_listen: WebSocketListen,
    /// The path that they have to ask for. None: any.
    pub websocket_path: Option<String>,
    /// The host and port that other gateways tell of this one. None: what is listened on.
    pub advertised: Option<(String, u16)>,
    pub node_id: NodeId,
    /// After what time without a sign of life the other gateways take over (at most half as long again).
    pub session_timeout: Duration,
    pub connections_max: usize,
    /// How long a client may take until it has sent its CONNECT.
    pub handshake_max: Duration,
    /// How long connections may take to say goodbye when the gateway is stopped.
    pub drain: Duration,
    /// A second listener, with TLS.
    pub tls: Option<TlsConfig>,
    /// Which topics of the core messages go to.
    pub topics: TopicRules,
    /// The largest packet, bytes; at most what a batch of the core may have, less a mebibyte.
    pub packet_bytes_max: u32,
    /// How many messages of QoS 1 and 2 a client may send that are not acknowledged.
    pub receive_maximum: u16,
    /// How many a client is sent at most that it has not acknowledged, however much more it takes.
    pub in_flight_max: u16,
    /// How many aliases a client may set.
    pub topic_alias_maximum: u16,
    /// The longest keep alive, seconds; a client that asks for none, or longer, is told this one. 0: as the client wishes.
    pub keep_alive_max_s: u16,
    /// The longest that a session outlives its connection, seconds; `u32::MAX`: for ever.
    pub session_expiry_max_s: u32,
    /// How long sessions without clean session outlive their connection that cannot say so (before version 5), seconds.
    pub session_expiry_default_s: u32,
    /// What bounds each session.
    pub limits: Limits,
    /// How often sessions are recorded that have changed, but for what must be recorded at once: so much QoS 1 is sent again after a crash.
    pub checkpoint_interval: Duration,
    /// Retained messages are kept in memory up to so many bytes; of what is more only where it is.
    pub retained_cache_bytes: usize,
    /// How long a shared subscription stays without members.
    pub share_expiry: Duration,
    /// Who is let in, and what it may do.
    pub access: AccessConfig,
    /// Topics that clients name become others.
    pub rewrite: Vec<RewriteRule>,
    /// What every client is subscribed to when it connects.
    pub auto_subscribe: Vec<AutoSubscribe>,
    /// How often the values under `$SYS` are made. None: never.
    pub sys_interval: Option<Duration>,
}

/// The listener with TLS.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// None: for WebSockets only.
    pub listen: Option<SocketAddr>,
    /// Where WebSockets over TLS are listened for. None: nowhere.
    pub websocket_listen: Option<SocketAddr>,
    pub files: TlsFiles,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 1883)),
            websocket_listen: WebSocketListen::Nowhere,
            websocket_path: Some("/mqtt".into()),
            advertised: None,
            node_id: NodeId::Lowest,
            session_timeout: Duration::from_secs(6),
            connections_max: 1_000_000,
            handshake_max: Duration::from_secs(10),
            drain: Duration::from_secs(5),
            tls: None,
            topics: TopicRules {
                namespace: "default".into(),
                rules: Vec::new(),
                partitions: 1,
                durability: Durability::Fsync,
                retention: Some(Duration::from_secs(7 * 24 * 3600)),
                topics_max: 1000,
            },
            packet_bytes_max: 16 << 20,
            receive_maximum: 1000,
            in_flight_max: 1000,
            topic_alias_maximum: 100,
            keep_alive_max_s: 0,
            session_expiry_max_s: u32::MAX,
            session_expiry_default_s: u32::MAX,
            limits: Limits { here_messages_max: 20_000, here_bytes_max: 16 << 20, there_messages_max: 1_000_000 },
            checkpoint_interval: Duration::from_secs(2),
            retained_cache_bytes: 64 << 20,
            share_expiry: Duration::from_secs(3600),
            access: AccessConfig::default(),
            rewrite: Vec::new(),
            auto_subscribe: Vec::new(),
            sys_interval: Some(Duration::from_secs(10)),
        }
    }
}

/// What all connections share.
pub struct Gateway {
    pub core: AnyCore,
    pub config: Config,
    pub identity: Identity,
    /// The live gateways.
    pub membership: Membership,
    /// Its keys' session.
    pub core_session: CoreSession,
    /// Under which this gateway holds messages.
    pub lease_session: CoreSession,
    pub topics: Arc<Topics>,
    pub publishing: Publishing,
    pub router: Router,
    pub places: Arc<Places>,
    pub sessions: Sessions,
    pub retained: Arc<RetainedStore>,
    pub shares: Arc<Shares>,
    pub access: Arc<Access<AnyCore>>,
    pub rewrite: Rewrite,
    pub counts: Arc<Counts>,
    pub sys: Sys,
    next_connection: AtomicU64,
    /// Connections take turns on one thread.
    pub takes_turns: bool,
    /// Ends the tasks of this gateway.
    pub stop: CancellationToken,
}

impl Gateway {
    /// A name for a connection that no other has.
    pub fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed))
    }
}

/// A running gateway.
pub struct Handle {
    server: Server,
    /// The other listeners, by their names.
    servers: Vec<(&'static str, Server)>,
    membership: Membership,
    core_session: CoreSession,
    lease_session: CoreSession,
    sessions: Sessions,
    shares: Arc<Shares>,
    counts: Arc<Counts>,
    /// Counts what is counted by looking.
    look: Look,
    stop: CancellationToken,
    drain: Duration,
}

/// Brings those numbers up to date that nobody keeps.
type Look = Arc<dyn Fn(&Counts) + Send + Sync>;

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Everything that listens, by its name.
    pub fn addresses(&self) -> BTreeMap<String, String> {
        let others = self.servers.iter().map(|(name, server)| (*name, server.address()));
        let all = others.chain([("mqtt", self.address())]);
        all.map(|(name, address)| (name.to_owned(), address.to_string())).collect()
    }

    /// Writes what the gateway has counted.
    pub fn metrics(&self) -> admin::Source {
        let (counts, look) = (self.counts.clone(), self.look.clone());
        let listeners = self.servers.iter().map(|(name, server)| (*name, server.seats()));
        let listeners: Vec<_> = listeners.chain([("mqtt", self.server.seats())]).collect();
        Arc::new(move |metrics| {
            const NAME: &str = "polymq_mqtt_connections";
            metrics.begin(NAME, "gauge", "Open connections, whether or not they became clients.");
            for (name, seats) in &listeners {
                metrics.value(NAME, &[("listener", name)], seats.open() as f64);
            }
            look(&counts);
            counts.write(metrics);
        })
    }

    /// Tells all clients goodbye, and ends.
    pub async fn stop(self) {
        self.sessions.begin_stop();
        let servers = self.servers.into_iter().map(|(_, server)| server).chain([self.server]);
        let mut stopping: JoinSet<()> = servers.map(|server| server.stop(self.drain)).collect();
        while stopping.join_next().await.is_some() {}
        self.sessions.finish_stop().await;
        self.membership.leave().await;
        // What was acknowledged must not be delivered again.
        if tokio::time::timeout(FAREWELL, self.shares.settled()).await.is_err() {
            tracing::warn!("the core was not told which shared messages are done with");
        }
        let left = async { tokio::join!(self.lease_session.leave(), self.core_session.leave()) };
        if tokio::time::timeout(FAREWELL, left).await.is_err() {
            tracing::warn!("the core was not told that this gateway leaves");
        }
        self.stop.cancel();
    }
}

/// The largest packet of which a message can be kept, whatever is set: one that is kept fits a batch.
const STORABLE_BYTES_MAX: u32 = BATCH_BYTES_MAX - (1 << 20);

/// How long to wait for the core's farewell.
const FAREWELL: Duration = Duration::from_secs(1);

/// A gateway that is starting.
pub type Starting = Pin<Box<dyn Future<Output = anyhow::Result<Handle>> + Send>>;

/// Starts a gateway. Returns once it listens.
pub fn start(core: impl Into<AnyCore>, config: Config) -> Starting {
    Box::pin(start_on(core.into(), config))
}

async fn start_on(core: AnyCore, mut config: Config) -> anyhow::Result<Handle> {
    let stop = CancellationToken::new();
    // Bound before it is registered: whoever was registered at this address lives no more.
    let listener = listener::bind(config.listen).with_context(|| format!("cannot listen on {}", config.listen))?;
    config.listen = listener.local_addr()?;
    config.packet_bytes_max = config.packet_bytes_max.min(STORABLE_BYTES_MAX);
    let bound = bind_others(&config)?;
    let membership = Membership::start(core.clone(), registration(&config), stop.clone()).await?;
    let identity =
        Identity::establish(&core, membership.own().node_id).await.context("cannot learn the cluster's id")?;
    let session = |purpose| CoreSession::start(core.clone(), config.session_timeout, purpose, stop.clone());
    let (core_session, lease_session) = tokio::try_join!(session(Purpose::Keys), session(Purpose::Leases))?;
    let cache = TopicCache::start(core.clone(), stop.clone()).await.context("cannot read the topics")?;
    let topics = Topics::start(cache, config.topics.clone()).await.context("cannot make the gateway's own topics")?;
    let topics = Arc::new(topics);
    let router = Router::start(core.clone(), topics.clone(), stop.clone());
    let retained = RetainedStore::start(core.clone(), topics.clone(), config.retained_cache_bytes, stop.clone());
    let shares = Shares::start(shares::Setup {
        core: core.clone(),
        topics: topics.clone(),
        keys: core_session.clone(),
        leases: lease_session.clone(),
        holder_prefix: holder_prefix(&membership),
        node_id: membership.own().node_id,
        expiry: config.share_expiry,
        stop: stop.clone(),
    });
    let access = Arc::new(Access::start(core.clone(), config.access.clone(), stop.clone()).await?);
    let asked = access.clone();
    let rewrite = Rewrite::new(&config.rewrite).context("cannot read the rewrite rules")?;
    let counts = Arc::new(Counts::default());
    let sys = Sys::default();
    let (connections_max, drain) = (config.connections_max, config.drain);
    let publishing = Publishing::new(core.clone(), topics.clone());
    let mover = Mover {
        core: core.clone(),
        topics: topics.clone(),
        publishing: publishing.clone(),
        membership: membership.clone(),
        lease_session: lease_session.clone(),
        stop: stop.clone(),
    };
    tokio::spawn(mover.run());
    let places: Arc<Places> = Arc::default();
    let sessions = Sessions::start(Parts {
        core: core.clone(),
        topics: topics.clone(),
        router: router.clone(),
        shares: shares.clone(),
        publishing: publishing.clone(),
        membership: membership.clone(),
        places: places.clone(),
        sys: sys.clone(),
        may_publish: Arc::new(move |client_id: &str, user: Option<&str>, topic: &str| {
            asked.may_publish(&Who::new(client_id, user.map(Into::into)), topic)
        }),
        settings: Settings {
            limits: config.limits,
            session_timeout: config.session_timeout,
            checkpoint_interval: config.checkpoint_interval,
        },
        stop: stop.clone(),
    })
    .await;
    let told = router.clone();
    let tell = move |messages: Vec<SysMessage>| {
        messages.iter().filter_map(SysMessage::to_message).for_each(|message| told.push_local(message));
    };
    let (sized, stored, kept) = (router.clone(), retained.clone(), sessions.clone());
    let look: Look = Arc::new(move |counts: &Counts| {
        counts.subscriptions.set(sized.subscription_count() as u64);
        let (names, _, retained_bytes) = stored.size();
        let (tally, expired) = kept.tally();
        counts.retained_messages.set(names as u64);
        counts.stored_messages.set(names as u64 + tally.messages);
        counts.stored_bytes.set(retained_bytes + tally.bytes);
        counts.sessions.set(tally.sessions);
        counts.sessions_expired.set(expired);
        counts.shared_subscriptions.set(tally.shared_subscriptions);
        counts.publishes_dropped.add(tally.dropped);
    });
    if let Some(interval) = config.sys_interval {
        let look = look.clone();
        sys.start(counts.clone(), interval, move |counts| look(counts), tell, stop.clone());
    }
    let gateway = Arc::new(Gateway {
        publishing,
        core,
        config,
        identity,
        membership: membership.clone(),
        core_session: core_session.clone(),
        lease_session: lease_session.clone(),
        topics,
        router,
        places,
        sessions: sessions.clone(),
        retained,
        shares: shares.clone(),
        access,
        rewrite,
        counts: counts.clone(),
        sys,
        next_connection: AtomicU64::new(1),
        takes_turns: workers::is_one(),
        stop: stop.clone(),
    });
    let served = bound.into_iter().map(|bound| Ok((bound.name, serve_bound(gateway.clone(), bound)?)));
    let servers = served.collect::<std::io::Result<_>>()?;
    let serving = gateway.clone();
    let server = listener::serve(listener, connections_max, move |stream, address, draining| {
        let gateway = serving.clone();
        let peer = Peer { address, is_tls: false, subject: None };
        async move { session::run(gateway, Stream::Plain(stream), peer, draining).await }
    })?;
    tracing::info!(address = %server.address(), "the MQTT gateway listens");
    Ok(Handle { server, servers, membership, core_session, lease_session, sessions, shares, counts, look, stop, drain })
}

/// Begins the names under which this gateway holds messages: no other gateway, and not this one after a restart, has the same.
fn holder_prefix(membership: &Membership) -> String {
    let own = membership.own();
    format!("mqtt-{}-{:08x}", own.node_id, u128::from_be_bytes(own.incarnation) as u32)
}

/// How this gateway makes itself known to the others.
fn registration(config: &Config) -> Registration {
    let (host, port) = advertised(config.listen, config.advertised.as_ref());
    Registration {
        prefix: "gateway/mqtt/".into(),
        node_id: config.node_id,
        host,
        port,
        tls: None,
        rack: None,
        started_ms: now_ms(),
        time_to_live: config.session_timeout,
    }
}

/// A listener before it is served.
struct Bound {
    name: &'static str,
    listener: TcpListener,
    tls: Option<Tls>,
    is_websocket: bool,
}

/// All but the plain one.
fn bind_others(config: &Config) -> anyhow::Result<Vec<Bound>> {
    let tls = config.tls.as_ref().map(|tls| Tls::load(&tls.files)).transpose()?;
    let of_tls = |listen: fn(&TlsConfig) -> Option<SocketAddr>| config.tls.as_ref().and_then(listen);
    let websocket = match config.websocket_listen {
        WebSocketListen::Nowhere => None,
        WebSocketListen::At(address) => Some(bind(address)?),
        WebSocketListen::IfFree(address) => {
            bind(address).inspect_err(|error| tracing::warn!(%error, "there are no WebSockets")).ok()
        }
    };
    let listeners = [
        ("mqtt-tls", of_tls(|tls| tls.listen).map(bind).transpose()?, tls.clone(), false),
        ("mqtt-ws", websocket, None, true),
        ("mqtt-wss", of_tls(|tls| tls.websocket_listen).map(bind).transpose()?, tls, true),
    ];
    let bound = listeners.into_iter().filter_map(|(name, listener, tls, is_websocket)| {
        let listener = listener?;
        Some(Bound { name, listener, tls, is_websocket })
    });
    Ok(bound.collect())
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    listener::bind(address).with_context(|| format!("cannot listen on {address}"))
}

fn serve_bound(gateway: Arc<Gateway>, bound: Bound) -> std::io::Result<Server> {
    let Bound { listener, tls, is_websocket, .. } = bound;
    let connections_max = gateway.config.connections_max;
    listener::serve(listener, connections_max, move |stream, address, draining| {
        let (gateway, tls) = (gateway.clone(), tls.clone());
        async move {
            let mut peer = Peer { address, is_tls: tls.is_some(), subject: None };
            let mut stream = match tls {
                None => Stream::Plain(stream),
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => {
                        peer.subject = client_subject(&stream);
                        Stream::Tls(stream)
                    }
                    Err(error) => return tracing::info!(peer = %address, reason = %error, "no TLS with a client"),
                },
            };
            if is_websocket {
                match Box::pin(upgraded(&gateway, stream)).await {
                    Ok(carried) => stream = carried,
                    Err(error) => return tracing::info!(peer = %address, reason = %error, "no WebSocket with a client"),
                }
            }
            session::run(gateway, stream, peer, draining).await;
        }
    })
}

async fn upgraded(gateway: &Gateway, stream: Stream) -> std::io::Result<Stream> {
    let accepting = WebSocket::accept(stream, gateway.config.websocket_path.as_deref());
    let accepted = tokio::time::timeout(gateway.config.handshake_max, accepting).await;
    Ok(Stream::Carried(Box::new(accepted.map_err(std::io::Error::from)??)))
}
