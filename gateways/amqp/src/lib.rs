//! The AMQP 0-9-1 gateway: speaks RabbitMQ's wire protocol to clients, and the core's contract to a log core.
//!
//! ```text
//! socket → session (frames, order, flow) → handlers (one file per method) → Core
//!                                             ├ state      what connections share: topology, queues, access …
//!                                             ├ translate  names and messages ↔ the core's
//!                                             ├ management RabbitMQ's HTTP API
//!                                             └ errors     the only place that knows reply codes
//! ```
//! Nothing here must survive the process: queues, messages, exchanges and users are the core's.

pub mod check;
pub mod cli;
pub mod errors;
pub mod handlers;
pub mod management;
pub mod session;
pub mod state;
pub mod translate;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use core_rpc::{AnyCore, Core};
use gateway_runtime::address::advertised;
use gateway_runtime::listener::{self, Server};
pub(crate) use gateway_runtime::now_ms;
use gateway_runtime::tls::{Tls, TlsFiles, client_subject};
use gateway_runtime::{Identity, Membership, NodeId, Registration, Stream, admin};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::session::Peer;
use crate::state::queues::ReplyInboxes;
use crate::state::{Access, Alarms, CoreSession, Lifecycle, Purpose, Queues, Registry, Topology};

/// How the gateway is set up.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    /// Where the management HTTP API listens. None: it does not.
    pub management_listen: Option<SocketAddr>,
    /// The host and port that other gateways and the management API tell of this one. None: what is listened on.
    pub advertised: Option<(String, u16)>,
    pub node_id: NodeId,
    /// After what time without a sign of life the other gateways take over (at most half as long again).
    pub session_timeout: Duration,
    pub connections_max: usize,
    /// The greatest channel number that a connection may use.
    pub channel_max: u16,
    /// The largest frame, bytes.
    pub frame_max: u32,
    /// What is proposed to clients; zero: none.
    pub heartbeat: Duration,
    /// The largest body of a message, bytes.
    pub message_bytes_max: u64,
    /// Publishers wait while this process has more memory. None: no limit.
    pub memory_bytes_max: Option<u64>,
    /// How long a client may keep a delivery without settling it, where the queue says nothing. None: for ever.
    pub consumer_timeout: Option<Duration>,
    /// How long a client may take until it has opened its vhost.
    pub handshake_max: Duration,
    /// How long connections may take to say goodbye when the gateway is stopped.
    pub drain: Duration,
    /// A second listener, with TLS.
    pub tls: Option<TlsConfig>,
    /// The administrator that a store gets which no gateway used before.
    pub first_user: FirstUser,
    /// Users of these names may come from this machine only, if they are made while it is so.
    pub loopback_users: Vec<String>,
    /// Who clients are that log in without saying who they are (SASL ANONYMOUS). None: nobody may.
    pub anonymous: Option<Anonymous>,
}

/// As whom anonymous clients log in; the password is asked for as any other.
#[derive(Clone)]
pub struct Anonymous {
    pub name: String,
    pub password: String,
}

/// Not its password.
impl std::fmt::Debug for Anonymous {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Anonymous").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Default for Anonymous {
    fn default() -> Self {
        Anonymous { name: "guest".into(), password: "guest".into() }
    }
}

/// The first user.
#[derive(Clone, Debug)]
pub struct FirstUser {
    pub name: String,
    pub password: String,
}

impl Default for FirstUser {
    fn default() -> Self {
        FirstUser { name: "guest".into(), password: "guest".into() }
    }
}

/// The listener with TLS.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    pub listen: SocketAddr,
    pub files: TlsFiles,
}

impl Config {
    /// [`Config::consumer_timeout`] in ms.
    pub fn consumer_timeout_ms(&self) -> Option<u64> {
        self.consumer_timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 5672)),
            management_listen: None,
            advertised: None,
            node_id: NodeId::Lowest,
            session_timeout: Duration::from_secs(6),
            connections_max: 100_000,
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: Duration::from_secs(60),
            message_bytes_max: 16 << 20,
            memory_bytes_max: None,
            consumer_timeout: Some(Duration::from_secs(30 * 60)),
            handshake_max: Duration::from_secs(10),
            drain: Duration::from_secs(5),
            tls: None,
            first_user: FirstUser::default(),
            loopback_users: vec!["guest".into()],
            anonymous: Some(Anonymous::default()),
        }
    }
}

/// What all connections share.
pub struct Gateway<C> {
    pub core: C,
    pub config: Config,
    pub identity: Identity,
    /// The live gateways, and who of them is responsible for what.
    pub membership: Membership,
    /// Its keys' session.
    pub core_session: CoreSession,
    /// Under which this gateway holds messages.
    pub lease_session: CoreSession,
    pub topology: Topology<C>,
    pub access: Access<C>,
    pub queues: Queues<C>,
    /// Where other gateways get direct replies.
    pub reply_inboxes: ReplyInboxes<C>,
    pub lifecycle: Lifecycle<C>,
    pub registry: Registry,
    pub alarms: Alarms,
    /// Ends the tasks of this gateway.
    pub stop: CancellationToken,
}

impl<C: Core> Gateway<C> {
    /// What clients and the management API call this gateway, as RabbitMQ's node.
    pub fn node_name(&self) -> String {
        let own = self.membership.own();
        format!("polymq-{}@{}", own.node_id, own.host)
    }

    /// Begins the names under which this gateway holds messages: no other gateway, and not this one after a restart, has
    /// the same.
    pub fn holder_prefix(&self) -> String {
        let own = self.membership.own();
        let incarnation = u128::from_be_bytes(own.incarnation);
        format!("{}-{:08x}", own.node_id, incarnation as u32)
    }

    /// The name of the cluster; `cluster_name` of the server's properties.
    pub fn cluster_name(&self) -> &str {
        &self.identity.cluster_id
    }
}

/// A running gateway.
pub struct Handle {
    server: Server,
    tls_server: Option<Server>,
    management: Option<SocketAddr>,
    membership: Membership,
    core_session: CoreSession,
    lease_session: CoreSession,
    metrics: admin::Source,
    stop: CancellationToken,
    drain: Duration,
}

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

    /// Where it listens with TLS.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls_server.as_ref().map(Server::address)
    }

    /// Where the management API listens.
    pub fn management_address(&self) -> Option<SocketAddr> {
        self.management
    }

    /// Writes what the gateway has counted.
    pub fn metrics(&self) -> admin::Source {
        let (counts, plain) = (self.metrics.clone(), self.server.seats());
        let tls = self.tls_server.as_ref().map(Server::seats);
        Arc::new(move |metrics| {
            const NAME: &str = "polymq_amqp_connections";
            metrics.begin(NAME, "gauge", "Open connections.");
            metrics.value(NAME, &[("listener", "plain")], plain.open() as f64);
            if let Some(tls) = &tls {
                metrics.value(NAME, &[("listener", "tls")], tls.open() as f64);
            }
            counts(metrics);
        })
    }

    /// Everything that listens, by its name.
    pub fn addresses(&self) -> BTreeMap<String, String> {
        let mut addresses = BTreeMap::from([("amqp".to_owned(), self.address().to_string())]);
        addresses.extend(self.tls_address().map(|address| ("amqp-tls".to_owned(), address.to_string())));
        addresses.extend(self.management_address().map(|address| ("management".to_owned(), address.to_string())));
        addresses
    }

    /// Tells all clients goodbye, gives back what it holds, and ends.
    pub async fn stop(self) {
        let tls_stops = async {
            if let Some(server) = self.tls_server {
                server.stop(self.drain).await;
            }
        };
        tokio::join!(self.server.stop(self.drain), tls_stops);
        self.membership.leave().await;
        // What no connection gave back.
        let left = async { tokio::join!(self.lease_session.leave(), self.core_session.leave()) };
        if tokio::time::timeout(FAREWELL, left).await.is_err() {
            tracing::warn!("the core was not told that this gateway leaves");
        }
        self.stop.cancel();
    }
}

/// How long to wait for the core's farewell.
const FAREWELL: Duration = Duration::from_secs(1);

/// A gateway that is starting.
pub type Starting = Pin<Box<dyn Future<Output = anyhow::Result<Handle>> + Send>>;

/// Starts a gateway. Returns once it listens.
pub fn start(core: impl Into<AnyCore>, config: Config) -> Starting {
    start_boxed(core.into(), config)
}

/// Not generic, and no future of a type of its own: the whole gateway is compiled here, not again where it is started.
fn start_boxed(core: AnyCore, config: Config) -> Starting {
    Box::pin(start_on(core, config))
}

async fn start_on(core: AnyCore, mut config: Config) -> anyhow::Result<Handle> {
    let stop = CancellationToken::new();
    // Bound before it is registered: whoever was registered at this address lives no more.
    let listener = listener::bind(config.listen).with_context(|| format!("cannot listen on {}", config.listen))?;
    config.listen = listener.local_addr()?;
    let tls = config.tls.as_mut().map(bind_tls).transpose()?;
    let management = config.management_listen.as_mut().map(bind_management).transpose()?;
    let membership = Membership::start(core.clone(), registration(&config), stop.clone()).await?;
    let identity =
        Identity::establish(&core, membership.own().node_id).await.context("cannot learn the cluster's id")?;
    let session = |purpose| CoreSession::start(core.clone(), config.session_timeout, purpose, stop.clone());
    let (core_session, lease_session) = tokio::try_join!(session(Purpose::Keys), session(Purpose::Leases))?;
    let topology =
        Topology::start(core.clone(), core_session.clone(), stop.clone()).await.context("cannot read the topology")?;
    let first_user = topology.first_start(&config.first_user, &config.loopback_users).await;
    first_user.context("cannot make the first vhost and user")?;
    let access = Access::start(topology.clone()).context("cannot read the users")?;
    let sessions = (core_session.clone(), lease_session.clone());
    let lifecycle = Lifecycle::start(core.clone(), sessions, membership.clone(), topology.clone(), stop.clone())
        .await
        .context("cannot look after the queues")?;
    let (node_id, returns) = (membership.own().node_id, lifecycle.returns());
    let queues = Queues::start(core.clone(), lease_session.clone(), node_id, returns, stop.clone());
    let (reply_inboxes, questions) =
        ReplyInboxes::start(core.clone(), membership.clone(), queues.replies.clone(), stop.clone()).await?;
    lifecycle.set_consumers(Arc::new(queues.clone()));
    let (connections_max, drain) = (config.connections_max, config.drain);
    let gateway = Arc::new(Gateway {
        queues,
        reply_inboxes,
        alarms: Alarms::start(core.clone(), config.memory_bytes_max, stop.clone()),
        core,
        config,
        identity,
        membership: membership.clone(),
        core_session: core_session.clone(),
        lease_session: lease_session.clone(),
        topology,
        access,
        lifecycle,
        registry: Registry::default(),
        stop: stop.clone(),
    });
    tokio::spawn(gateway.queues.clone().follow(gateway.topology.queue_events()));
    tokio::spawn(state::queues::watch_timeouts(gateway.clone()));
    tokio::spawn(state::queues::follow_session(gateway.clone()));
    let tls_server = tls.map(|tls| serve_tls(gateway.clone(), tls)).transpose()?;
    let serving = gateway.clone();
    let server = listener::serve(listener, connections_max, move |stream, address, draining| {
        let gateway = serving.clone();
        async move {
            if let Ok(local) = stream.local_addr() {
                let peer = Peer { address, local, is_tls: false, subject: None };
                session::run(gateway, Stream::Plain(stream), peer, draining).await;
            }
        }
    })?;
    let management_address = gateway.config.management_listen;
    management::start(gateway.clone(), management, questions);
    tracing::info!(address = %server.address(), node = gateway.node_name(), "the AMQP gateway listens");
    let counting = Arc::downgrade(&gateway);
    let metrics: admin::Source = Arc::new(move |metrics| {
        let Some(gateway) = counting.upgrade() else { return };
        gateway.registry.write(metrics);
        const ALARM: &str = "polymq_amqp_alarm";
        let short = gateway.alarms.now();
        metrics.begin(ALARM, "gauge", "1: it runs short, and publishers are blocked.");
        metrics.value(ALARM, &[("of", "memory")], f64::from(u8::from(short.memory)));
        metrics.value(ALARM, &[("of", "disk")], f64::from(u8::from(short.disk)));
    });
    Ok(Handle {
        metrics,
        server,
        tls_server,
        management: management_address,
        membership,
        core_session,
        lease_session,
        stop,
        drain,
    })
}

/// A port that is picked is written back.
fn bind_management(address: &mut SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = listener::bind(*address).with_context(|| format!("cannot listen on {address}"))?;
    *address = listener.local_addr()?;
    Ok(listener)
}

/// How this gateway makes itself known to the others.
fn registration(config: &Config) -> Registration {
    let (host, port) = advertised(config.listen, config.advertised.as_ref());
    Registration {
        prefix: "gateway/amqp/".into(),
        node_id: config.node_id,
        host,
        port,
        tls: None,
        rack: None,
        started_ms: now_ms(),
        time_to_live: config.session_timeout,
    }
}

/// The listener with TLS before it is served.
struct BoundTls {
    listener: TcpListener,
    tls: Tls,
}

fn bind_tls(config: &mut TlsConfig) -> anyhow::Result<BoundTls> {
    let tls = Tls::load(&config.files)?;
    let listener = listener::bind(config.listen).with_context(|| format!("cannot listen on {}", config.listen))?;
    config.listen = listener.local_addr()?;
    Ok(BoundTls { listener, tls })
}

fn serve_tls<C: Core>(gateway: Arc<Gateway<C>>, bound: BoundTls) -> std::io::Result<Server> {
    let connections_max = gateway.config.connections_max;
    listener::serve(bound.listener, connections_max, move |stream, address, draining| {
        let (gateway, tls) = (gateway.clone(), bound.tls.clone());
        async move {
            let Ok(local) = stream.local_addr() else { return };
            match tls.accept(stream).await {
                Ok(stream) => {
                    let peer = Peer { address, local, is_tls: true, subject: client_subject(&stream) };
                    session::run(gateway, Stream::Tls(stream), peer, draining).await;
                }
                Err(error) => tracing::info!(peer = %address, reason = %error, "no TLS with a client"),
            }
        }
    })
}
