//! The Kafka gateway: speaks Kafka's wire protocol to clients, and the core's contract to a log core.
//!
//! ```text
//! socket → session (frames, order, flow) → handlers (one file per request) → Core
//!                                             ├ state      what connections share: brokers, groups, transactions …
//!                                             ├ translate  names, batches and topics ↔ the core's
//!                                             ├ configs    the configurations that topics and brokers have
//!                                             └ errors     the only place that knows error codes
//! ```
//! Nothing here must survive the process: topics, cursors and counters are the core's.

pub mod check;
pub mod cli;
pub mod configs;
pub mod errors;
pub mod handlers;
pub mod session;
pub mod state;
pub mod translate;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use core_rpc::{AnyCore, Core, Durability, TopicId, key_part};
use gateway_runtime::address;
use gateway_runtime::listener::{self, Server};
pub(crate) use gateway_runtime::now_ms;
use gateway_runtime::tls::{Tls, TlsFiles, client_subject};
use gateway_runtime::{CachedTopic, Identity, Membership, NodeId, Registration, Stream, TopicCache, admin};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::configs::dynamic::BrokerConfigs;
use crate::configs::group::GroupConfigs;
use crate::configs::{StoredConfigs, TopicConfig};
use crate::errors::{ErrorCode, Refusal};
use crate::state::security::{Acls, Listener, Operation, Peer, Resource, Security, SecurityConfig};
use crate::state::{
    AnswerMemory, Brokers, CoordinatorKey, Counts, FetchSessions, GroupConfig, Groups, Journal, NamespaceTopics,
    ProducerIds, Quotas, ShareGroups, ShareSessions, TransactionConfig, Transactions, internal_topics,
};

/// How the gateway is set up.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    /// The host and port that clients are told to connect to. None: the address that is listened on.
    pub advertised: Option<(String, u16)>,
    pub node_id: NodeId,
    /// Where the gateway stands, for clients that prefer what is near.
    pub rack: Option<String>,
    /// After what time without a sign of life the other gateways take over (at most half as long again).
    pub session_timeout: Duration,
    /// The core's namespace whose topics these clients see.
    pub namespace: String,
    /// Partitions of a topic that is created without saying how many.
    pub num_partitions: u32,
    /// Whether asking for an unknown topic's metadata creates it.
    pub auto_create_topics: bool,
    /// The durability of topics that are created without one.
    pub durability: Durability,
    pub connections_max: usize,
    /// Memory of answers with records that are not sent yet, of all connections; bytes.
    pub queued_response_bytes_max: u64,
    /// A connection over which nothing comes for so long is closed.
    pub connections_max_idle: Duration,
    /// How long open requests may take when the gateway is stopped.
    pub drain: Duration,
    pub groups: GroupConfig,
    pub transactions: TransactionConfig,
    pub security: SecurityConfig,
    /// A second listener, with TLS.
    pub tls: Option<TlsConfig>,
}

/// The listener with TLS.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    pub listen: SocketAddr,
    /// The host and port that its clients are told to connect to. None: the address that is listened on.
    pub advertised: Option<(String, u16)>,
    pub files: TlsFiles,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 9092)),
            advertised: None,
            node_id: NodeId::Lowest,
            rack: None,
            session_timeout: Duration::from_secs(6),
            namespace: "default".into(),
            num_partitions: 1,
            auto_create_topics: true,
            durability: Durability::Fsync,
            connections_max: 100_000,
            queued_response_bytes_max: 256 << 20,
            connections_max_idle: Duration::from_secs(600),
            drain: Duration::from_secs(5),
            groups: GroupConfig::default(),
            transactions: TransactionConfig::default(),
            security: SecurityConfig::default(),
            tls: None,
        }
    }
}

/// The topics as this gateway sees them: each with its parsed configuration.
pub type Topics<C> = TopicCache<C, TopicConfig>;
/// A topic with its parsed configuration.
pub type Topic = CachedTopic<TopicConfig>;

/// What all connections share.
pub struct Gateway<C> {
    pub core: C,
    pub config: Config,
    pub identity: Identity,
    /// The host and port that clients are told to connect to.
    pub advertised: (String, u16),
    pub topics: Arc<Topics<C>>,
    pub producer_ids: Arc<ProducerIds<C>>,
    pub groups: Groups<C>,
    /// Of answers with records.
    pub answer_memory: Arc<AnswerMemory>,
    pub fetch_sessions: FetchSessions,
    pub share_groups: ShareGroups,
    pub share_sessions: ShareSessions,
    pub group_configs: GroupConfigs<C>,
    /// What was set for the brokers while they run.
    pub broker_configs: BrokerConfigs<C>,
    /// The subscriptions of clients' metrics.
    pub client_metrics: StoredConfigs<C>,
    pub transactions: Transactions<C>,
    pub quotas: Quotas<C>,
    /// The live gateways, and who of them is responsible for what.
    pub brokers: Brokers,
    /// What is to be appended to the internal topics.
    pub journal: Journal,
    pub security: Security<C>,
    /// For who watches the gateway.
    pub counts: Arc<Counts>,
}

impl<C: Core> Gateway<C> {
    /// The topic of this name in the namespace that this gateway shows.
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.by_name(&self.config.namespace, name)
    }

    /// Whether the client may do this; if not, the resource's error.
    pub fn check(
        &self,
        context: &handlers::Context,
        operation: Operation,
        resource: Resource<'_>,
    ) -> Result<(), ErrorCode> {
        if self.security.allows(&context.peer, operation, resource) { Ok(()) } else { Err(resource.refusal()) }
    }

    /// The access rules, if there are any to speak of and the client may do this with them.
    pub fn acls_for(&self, context: &handlers::Context, operation: Operation) -> Result<&Acls<C>, Refusal> {
        let Some(acls) = &self.security.acls else {
            return Err(Refusal::new(ErrorCode::SecurityDisabled, "No Authorizer is configured."));
        };
        self.check(context, operation, Resource::Cluster)?;
        Ok(acls)
    }

    /// The topic of this name, if there is one and the client may do this with it. Who may not does not learn whether
    /// there is one.
    pub fn topic_for(
        &self,
        context: &handlers::Context,
        operation: Operation,
        name: &str,
    ) -> Result<Arc<Topic>, ErrorCode> {
        self.check(context, operation, Resource::Topic(name))?;
        self.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition)
    }

    /// The topic of this id, if there is one and the client may do this with it.
    pub fn topic_by_id_for(
        &self,
        context: &handlers::Context,
        operation: Operation,
        id: TopicId,
    ) -> Result<Arc<Topic>, ErrorCode> {
        let topic = self.topic_by_id(id).ok_or(ErrorCode::UnknownTopicId)?;
        self.check(context, operation, Resource::Topic(&topic.topic.name))?;
        Ok(topic)
    }

    /// The topic of this id, if it is in the namespace that this gateway shows.
    pub fn topic_by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.topics.by_id(id).filter(|topic| topic.topic.namespace == self.config.namespace)
    }
}

/// How long to wait for the internal topics at the end.
const JOURNAL_WAIT: Duration = Duration::from_secs(1);

/// A running gateway.
pub struct Handle {
    server: Server,
    brokers: Brokers,
    journal: Journal,
    tls_server: Option<Server>,
    counts: Arc<Counts>,
    answer_memory: Arc<AnswerMemory>,
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

    /// Everything that listens, by its name.
    pub fn addresses(&self) -> BTreeMap<String, String> {
        let mut addresses = BTreeMap::from([("kafka".to_owned(), self.address().to_string())]);
        addresses.extend(self.tls_address().map(|address| ("kafka-tls".to_owned(), address.to_string())));
        addresses
    }

    /// Writes what the gateway has counted.
    pub fn metrics(&self) -> admin::Source {
        let (counts, plain, memory) = (self.counts.clone(), self.server.seats(), self.answer_memory.clone());
        let tls = self.tls_server.as_ref().map(Server::seats);
        Arc::new(move |metrics| {
            const NAME: &str = "polymq_kafka_connections";
            metrics.begin(NAME, "gauge", "Open connections.");
            metrics.value(NAME, &[("listener", "plain")], plain.open() as f64);
            if let Some(tls) = &tls {
                metrics.value(NAME, &[("listener", "tls")], tls.open() as f64);
            }
            const QUEUED: &str = "polymq_kafka_queued_response_bytes";
            metrics.begin(QUEUED, "gauge", "Bytes of responses with records that are not sent yet.");
            metrics.value(QUEUED, &[], memory.used_bytes() as f64);
            counts.write(metrics);
        })
    }

    /// Answers what has been asked, closes all connections, and ends.
    pub async fn stop(self) {
        // First, so that others take the groups over while requests are still answered.
        self.brokers.leave().await;
        let tls_stops = async {
            if let Some(server) = self.tls_server {
                server.stop(self.drain).await;
            }
        };
        tokio::join!(self.server.stop(self.drain), tls_stops);
        if tokio::time::timeout(JOURNAL_WAIT, self.journal.flushed()).await.is_err() {
            tracing::warn!("the internal topics miss the last changes");
        }
        self.stop.cancel();
    }
}

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
    let topics = Topics::start(core.clone(), stop.clone()).await.context("cannot read the topics")?;
    // Bound before it is registered: whoever was registered at this address lives no more.
    let listener = listener::bind(config.listen).with_context(|| format!("cannot listen on {}", config.listen))?;
    config.listen = listener.local_addr()?;
    let advertised = advertised(config.listen, config.advertised.as_ref())?;
    let tls = config.tls.as_mut().map(bind_tls).transpose()?;
    let registration = registration(&config, &advertised, tls.as_ref().map(|tls| &tls.advertised));
    let membership = Membership::start(core.clone(), registration, stop.clone()).await?;
    let brokers = Brokers::new(membership);
    let identity = Identity::establish(&core, brokers.own_id()).await.context("cannot learn the cluster's id")?;
    let journal = start_journal(&core, &topics, &config, &stop);
    let image = Arc::new(NamespaceTopics::new(topics.clone(), config.namespace.clone()));
    let groups = Groups::start(
        core.clone(),
        config.namespace.clone(),
        config.groups,
        brokers.clone(),
        image,
        journal.clone(),
        stop.clone(),
    );
    let groups = groups.await.context("cannot read the groups")?;
    let group_configs = GroupConfigs::start(core.clone(), &config.namespace, stop.clone()).await;
    let group_configs = group_configs.context("cannot read the groups' configurations")?;
    let broker_configs = BrokerConfigs::start(core.clone(), &config.namespace, stop.clone()).await;
    let broker_configs = broker_configs.context("cannot read the brokers' configurations")?;
    let client_metrics = StoredConfigs::start(core.clone(), "client-metrics", &config.namespace, stop.clone()).await;
    let client_metrics = client_metrics.context("cannot read the subscriptions of metrics")?;
    let (connections_max, drain) = (config.connections_max, config.drain);
    let security = Security::start(core.clone(), &config.namespace, config.security.clone(), stop.clone()).await?;
    let producer_ids = Arc::new(ProducerIds::new(core.clone()));
    let coordinates = {
        let brokers = brokers.clone();
        Arc::new(move |id: &str| brokers.coordinates(CoordinatorKey::Transaction(id)))
    };
    let transactions = Transactions::start(
        core.clone(),
        &config.namespace,
        config.transactions,
        producer_ids.clone(),
        coordinates,
        journal.clone(),
        stop.clone(),
    )
    .await
    .context("cannot read the transactional ids")?;
    let quotas =
        Quotas::start(core.clone(), &config.namespace, stop.clone()).await.context("cannot read the quotas")?;
    let answer_memory = AnswerMemory::new(config.queued_response_bytes_max);
    let gateway = Arc::new(Gateway {
        producer_ids,
        core,
        config,
        identity,
        advertised,
        topics,
        groups,
        quotas,
        answer_memory: answer_memory.clone(),
        fetch_sessions: FetchSessions::new(Default::default()),
        share_groups: ShareGroups::start(stop.clone()),
        share_sessions: ShareSessions::default(),
        group_configs,
        broker_configs,
        client_metrics,
        transactions,
        brokers: brokers.clone(),
        journal: journal.clone(),
        security,
        counts: Arc::default(),
    });
    let sasl = !gateway.config.security.sasl_mechanisms.is_empty();
    let tls_server = tls.map(|tls| serve_tls(gateway.clone(), tls, sasl)).transpose()?;
    let counts = gateway.counts.clone();
    let served = gateway.clone();
    let server = listener::serve(listener, connections_max, move |stream, address, draining| {
        let peer = Peer::new(address, Listener::Plain, None, sasl);
        session::run(served.clone(), Stream::Plain(stream), peer, draining)
    })?;
    let seats: Vec<_> = [Some(&server), tls_server.as_ref()].into_iter().flatten().map(Server::seats).collect();
    let limit = move |set: Option<usize>| seats.iter().for_each(|seats| seats.set_max(set.unwrap_or(connections_max)));
    tokio::spawn(configs::inherit::follow(gateway, limit, stop.clone()));
    tracing::info!(address = %server.address(), node_id = brokers.own_id(), "the Kafka gateway listens");
    Ok(Handle { server, tls_server, counts, answer_memory, brokers, journal, stop, drain })
}

/// Begins to write the internal topics.
fn start_journal<C: Core>(core: &C, topics: &Arc<Topics<C>>, config: &Config, stop: &CancellationToken) -> Journal {
    let named = topics.clone();
    let journal = Journal::new(Arc::new(move |id| Some(named.by_id(id)?.topic.name.clone())));
    let writing = internal_topics::write(journal.clone(), core.clone(), topics.clone(), config.namespace.clone());
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = writing => {}
        }
    });
    journal
}

/// How this gateway makes itself known to the others of its namespace.
fn registration(config: &Config, advertised: &(String, u16), tls: Option<&(String, u16)>) -> Registration {
    Registration {
        prefix: format!("gateway/kafka/{}/", key_part(&config.namespace)),
        node_id: config.node_id,
        host: advertised.0.clone(),
        port: advertised.1,
        tls: tls.cloned(),
        rack: config.rack.clone(),
        started_ms: now_ms(),
        time_to_live: config.session_timeout,
    }
}

/// The listener with TLS before it is served.
struct BoundTls {
    listener: TcpListener,
    tls: Tls,
    advertised: (String, u16),
}

fn bind_tls(config: &mut TlsConfig) -> anyhow::Result<BoundTls> {
    let tls = Tls::load(&config.files)?;
    let listener = listener::bind(config.listen).with_context(|| format!("cannot listen on {}", config.listen))?;
    config.listen = listener.local_addr()?;
    let advertised = advertised(config.listen, config.advertised.as_ref())?;
    Ok(BoundTls { listener, tls, advertised })
}

fn serve_tls<C: Core>(gateway: Arc<Gateway<C>>, bound: BoundTls, sasl: bool) -> std::io::Result<Server> {
    let connections_max = gateway.config.connections_max;
    listener::serve(bound.listener, connections_max, move |stream, address, draining| {
        let (gateway, tls) = (gateway.clone(), bound.tls.clone());
        async move {
            match tls.accept(stream).await {
                Ok(stream) => {
                    let peer = Peer::new(address, Listener::Tls, client_subject(&stream), sasl);
                    session::run(gateway, Stream::Tls(stream), peer, draining).await;
                }
                Err(error) => tracing::info!(peer = %address, reason = %error, "no TLS with a client"),
            }
        }
    })
}

/// What clients are told to connect to.
fn advertised(listen: SocketAddr, setting: Option<&(String, u16)>) -> anyhow::Result<(String, u16)> {
    // Nobody can connect to "any address".
    let is_told = setting.is_some() || !listen.ip().is_unspecified();
    anyhow::ensure!(is_told, "listening on {} needs an advertised HOST:PORT for clients", listen.ip());
    Ok(address::advertised(listen, setting))
}
