//! The command line of `polymq-kafka`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{ArgAction, Parser};
use core_rpc::{Address, Durability, RemoteCore};
use gateway_runtime::address::host_and_port;
use gateway_runtime::tls::TlsFiles;
use gateway_runtime::token::TokenConfig;
use gateway_runtime::{NodeId, admin, health, ready, signals};

use crate::state::security::{Mechanism, SecurityConfig};
use crate::state::{GroupConfig, TransactionConfig};
use crate::{Config, TlsConfig, check, start};

/// The Kafka gateway of PolyMQ. Each flag is also a key of the TOML file (--config) and an environment variable.
#[derive(Debug, Parser)]
#[command(name = "polymq-kafka", version)]
pub struct Flags {
    /// The core's address: HOST:PORT, or unix:PATH.
    #[arg(long, env = "POLYMQ_KAFKA_CORE", default_value = "127.0.0.1:7401")]
    core: Address,
    /// Where to listen; port 0 is picked.
    #[arg(long, env = "POLYMQ_KAFKA_LISTEN", default_value = "127.0.0.1:9092")]
    listen: SocketAddr,
    /// HOST:PORT that clients are told to connect to; by default the address that is listened on.
    #[arg(long, env = "POLYMQ_KAFKA_ADVERTISED", value_parser = host_and_port)]
    advertised: Option<(String, u16)>,
    /// This gateway's broker id, or auto: the lowest that no other gateway has.
    #[arg(long, env = "POLYMQ_KAFKA_NODE_ID", default_value = "auto")]
    node_id: NodeId,
    /// Where the gateway stands: told to clients that prefer what is near.
    #[arg(long, env = "POLYMQ_KAFKA_RACK")]
    rack: Option<String>,
    /// Milliseconds without a sign of life after which other gateways take over from this one.
    #[arg(long, env = "POLYMQ_KAFKA_SESSION_TIMEOUT_MS", default_value_t = 6_000, value_parser = clap::value_parser!(u32).range(300..))]
    session_timeout_ms: u32,
    /// The namespace whose topics clients see.
    #[arg(long, env = "POLYMQ_KAFKA_NAMESPACE", default_value = "default")]
    namespace: String,
    /// Partitions of a topic that is created without saying how many.
    #[arg(long, env = "POLYMQ_KAFKA_NUM_PARTITIONS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    num_partitions: u32,
    /// Whether asking for an unknown topic creates it.
    #[arg(long, env = "POLYMQ_KAFKA_AUTO_CREATE_TOPICS", default_value_t = true, action = ArgAction::Set)]
    auto_create_topics: bool,
    /// The polymq.durability of topics that are created without one: fsync, relaxed or memory.
    #[arg(long, env = "POLYMQ_KAFKA_DURABILITY", default_value = "fsync")]
    durability: Durability,
    /// Connections that may be open at once.
    #[arg(long, env = "POLYMQ_KAFKA_CONNECTIONS_MAX", default_value_t = 100_000)]
    connections_max: usize,
    /// Bytes of responses with records that may wait to be sent, of all connections together. When they are used up,
    /// fetches are answered with less.
    #[arg(long, env = "POLYMQ_KAFKA_QUEUED_MAX_RESPONSE_BYTES", default_value_t = 256 << 20)]
    queued_max_response_bytes: u64,
    /// Seconds without a request after which a connection is closed.
    #[arg(long, env = "POLYMQ_KAFKA_CONNECTIONS_MAX_IDLE_SECONDS", default_value_t = 600)]
    connections_max_idle_seconds: u64,
    /// Seconds that open requests may take when the gateway is stopped.
    #[arg(long, env = "POLYMQ_KAFKA_DRAIN_SECONDS", default_value_t = 5)]
    drain_seconds: u64,
    /// Milliseconds that the first rebalance of an empty group waits for more members.
    #[arg(long, env = "POLYMQ_KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", default_value_t = 3_000)]
    group_initial_rebalance_delay_ms: u32,
    /// The shortest session timeout of a group's member, in milliseconds.
    #[arg(long, env = "POLYMQ_KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS", default_value_t = 6_000)]
    group_min_session_timeout_ms: u32,
    /// The longest session timeout of a group's member, in milliseconds.
    #[arg(long, env = "POLYMQ_KAFKA_GROUP_MAX_SESSION_TIMEOUT_MS", default_value_t = 1_800_000)]
    group_max_session_timeout_ms: u32,
    /// Milliseconds without a heartbeat after which a member of the consumer protocol is out.
    #[arg(long, env = "POLYMQ_KAFKA_GROUP_CONSUMER_SESSION_TIMEOUT_MS", default_value_t = 45_000, value_parser = clap::value_parser!(u32).range(1..))]
    group_consumer_session_timeout_ms: u32,
    /// Milliseconds after which a member of the consumer protocol is asked to heartbeat again.
    #[arg(long, env = "POLYMQ_KAFKA_GROUP_CONSUMER_HEARTBEAT_INTERVAL_MS", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    group_consumer_heartbeat_interval_ms: u32,
    /// Members that a group may have.
    #[arg(long, env = "POLYMQ_KAFKA_GROUP_MAX_SIZE", default_value_t = i32::MAX as u32, value_parser = clap::value_parser!(u32).range(1..))]
    group_max_size: u32,
    /// Minutes that the offsets of a group without members are kept.
    #[arg(long, env = "POLYMQ_KAFKA_OFFSETS_RETENTION_MINUTES", default_value_t = 10_080, value_parser = clap::value_parser!(u32).range(1..))]
    offsets_retention_minutes: u32,
    /// Where to listen with TLS; port 0 is picked. Needs --tls-certificate and --tls-key.
    #[arg(long, env = "POLYMQ_KAFKA_LISTEN_TLS", requires = "tls_certificate", requires = "tls_key")]
    listen_tls: Option<SocketAddr>,
    /// HOST:PORT that clients of the TLS listener are told to connect to; by default the address that is listened on.
    #[arg(long, env = "POLYMQ_KAFKA_ADVERTISED_TLS", value_parser = host_and_port)]
    advertised_tls: Option<(String, u16)>,
    /// The server's certificate and its intermediates, a PEM file.
    #[arg(long, env = "POLYMQ_KAFKA_TLS_CERTIFICATE")]
    tls_certificate: Option<PathBuf>,
    /// The server's private key, a PEM file.
    #[arg(long, env = "POLYMQ_KAFKA_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Authorities whose client certificates are believed, a PEM file; a client is then User:<its certificate's subject>.
    #[arg(long, env = "POLYMQ_KAFKA_TLS_CLIENT_CA")]
    tls_client_ca: Option<PathBuf>,
    /// Whether TLS clients must show a certificate: required or requested.
    #[arg(long, env = "POLYMQ_KAFKA_TLS_CLIENT_AUTH", default_value = "required", value_parser = ["required", "requested"])]
    tls_client_auth: String,
    /// SASL mechanisms, by one of which every client must authenticate: PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER.
    #[arg(long, env = "POLYMQ_KAFKA_SASL_MECHANISMS", value_delimiter = ',', value_parser = mechanism)]
    sasl_mechanisms: Vec<Mechanism>,
    /// Users beside those that are stored: NAME=PASSWORD;NAME=PASSWORD.
    #[arg(long, env = "POLYMQ_KAFKA_USERS", value_delimiter = ';', value_parser = name_and_password, hide_env_values = true)]
    users: Vec<(String, String)>,
    /// Milliseconds after which clients must authenticate again; a token's end is earlier. 0: never.
    #[arg(long, env = "POLYMQ_KAFKA_CONNECTIONS_MAX_REAUTH_MS", default_value_t = 0)]
    connections_max_reauth_ms: u64,
    /// A file of keys (JWKS) to check OAUTHBEARER's tokens with; it is read again when it has changed.
    #[arg(long, env = "POLYMQ_KAFKA_OAUTHBEARER_JWKS")]
    oauthbearer_jwks: Option<PathBuf>,
    /// PEM files with public keys or certificates to check tokens with: A,B.
    #[arg(long, env = "POLYMQ_KAFKA_OAUTHBEARER_KEYS", value_delimiter = ',')]
    oauthbearer_keys: Vec<PathBuf>,
    /// Who must have issued a token (iss).
    #[arg(long, env = "POLYMQ_KAFKA_OAUTHBEARER_EXPECTED_ISSUER")]
    oauthbearer_expected_issuer: Option<String>,
    /// For whom a token must be (aud), one of: A,B. Without it, a token that names an audience is refused.
    #[arg(long, env = "POLYMQ_KAFKA_OAUTHBEARER_EXPECTED_AUDIENCE", value_delimiter = ',')]
    oauthbearer_expected_audience: Vec<String>,
    /// Seconds that the issuer's clock may differ.
    #[arg(long, env = "POLYMQ_KAFKA_OAUTHBEARER_CLOCK_SKEW_SECONDS", default_value_t = 30)]
    oauthbearer_clock_skew_seconds: u32,
    /// The claim of a token that names the user.
    #[arg(long, env = "POLYMQ_KAFKA_OAUTHBEARER_SUB_CLAIM_NAME", default_value = "sub")]
    oauthbearer_sub_claim_name: String,
    /// Whether tokens without a signature are taken, which anybody can make: for tests.
    #[arg(long, env = "POLYMQ_KAFKA_OAUTHBEARER_ALLOW_UNSECURED", default_value_t = false, action = ArgAction::Set)]
    oauthbearer_allow_unsecured: bool,
    /// Whether access rules (ACLs) are applied.
    #[arg(long, env = "POLYMQ_KAFKA_AUTHORIZER", default_value_t = false, action = ArgAction::Set)]
    authorizer: bool,
    /// Principals that may do everything: User:admin;User:CN=ops.
    #[arg(long, env = "POLYMQ_KAFKA_SUPER_USERS", value_delimiter = ';')]
    super_users: Vec<String>,
    /// Whether everybody may use what no access rule is about.
    #[arg(long, env = "POLYMQ_KAFKA_ALLOW_EVERYONE_IF_NO_ACL_FOUND", default_value_t = false, action = ArgAction::Set)]
    allow_everyone_if_no_acl_found: bool,
    /// The longest time, in milliseconds, after which a producer may ask for its open transactions to be aborted.
    #[arg(long, env = "POLYMQ_KAFKA_TRANSACTION_MAX_TIMEOUT_MS", default_value_t = 900_000, value_parser = clap::value_parser!(i32).range(1..))]
    transaction_max_timeout_ms: i32,
    /// Milliseconds that a transactional id is remembered that nobody uses.
    #[arg(long, env = "POLYMQ_KAFKA_TRANSACTIONAL_ID_EXPIRATION_MS", default_value_t = 604_800_000, value_parser = clap::value_parser!(u64).range(1..))]
    transactional_id_expiration_ms: u64,
    /// Where to serve /health and /metrics over HTTP; port 0 is picked. Without it they are not served.
    #[arg(long, env = "POLYMQ_ADMIN_LISTEN")]
    admin_listen: Option<SocketAddr>,
    /// Threads that serve connections [default: one fewer than there are cores, and one at least]
    #[arg(long, env = "POLYMQ_KAFKA_WORKER_THREADS")]
    pub worker_threads: Option<NonZeroUsize>,
    /// A file to write once the gateway listens: {"kafka":"ADDRESS"}.
    #[arg(long, env = "POLYMQ_KAFKA_READY_FILE")]
    ready_file: Option<PathBuf>,
    /// A TOML file with the same keys, at its top or in its table [kafka].
    #[arg(long, env = "POLYMQ_CONFIG")]
    config: Option<PathBuf>,
    /// Asks the gateway at this address for its versions and exits with 0 if it answers.
    #[arg(long, value_name = "ADDRESS")]
    check: Option<String>,
}

impl Flags {
    /// What the gateway itself needs of the flags.
    pub fn to_config(&self) -> Config {
        Config {
            listen: self.listen,
            advertised: self.advertised.clone(),
            node_id: self.node_id,
            rack: self.rack.clone(),
            session_timeout: Duration::from_millis(u64::from(self.session_timeout_ms)),
            namespace: self.namespace.clone(),
            num_partitions: self.num_partitions,
            auto_create_topics: self.auto_create_topics,
            durability: self.durability,
            connections_max: self.connections_max,
            queued_response_bytes_max: self.queued_max_response_bytes,
            connections_max_idle: Duration::from_secs(self.connections_max_idle_seconds),
            drain: Duration::from_secs(self.drain_seconds),
            groups: GroupConfig {
                initial_rebalance_delay_ms: self.group_initial_rebalance_delay_ms,
                session_timeout_ms_min: self.group_min_session_timeout_ms,
                session_timeout_ms_max: self.group_max_session_timeout_ms,
                members_max: self.group_max_size as usize,
                consumer_session_timeout_ms: self.group_consumer_session_timeout_ms,
                consumer_heartbeat_interval_ms: self.group_consumer_heartbeat_interval_ms,
                offsets_retention: Duration::from_secs(u64::from(self.offsets_retention_minutes) * 60),
                ..GroupConfig::default()
            },
            security: SecurityConfig {
                sasl_mechanisms: self.sasl_mechanisms.clone(),
                tokens: self.tokens(),
                reauthentication_max: Some(self.connections_max_reauth_ms)
                    .filter(|milliseconds| *milliseconds > 0)
                    .map(Duration::from_millis),
                users: self.users.clone(),
                authorizer: self.authorizer,
                super_users: self.super_users.clone(),
                allow_everyone_if_no_acl_found: self.allow_everyone_if_no_acl_found,
            },
            tls: self.tls(),
            transactions: TransactionConfig {
                timeout_ms_max: self.transaction_max_timeout_ms,
                id_expiration: Duration::from_millis(self.transactional_id_expiration_ms),
            },
        }
    }
}

impl Flags {
    fn tokens(&self) -> TokenConfig {
        TokenConfig {
            jwks: self.oauthbearer_jwks.clone(),
            keys: self.oauthbearer_keys.clone(),
            allow_unsecured: self.oauthbearer_allow_unsecured,
            issuer: self.oauthbearer_expected_issuer.clone(),
            audiences: self.oauthbearer_expected_audience.clone(),
            clock_skew: Duration::from_secs(u64::from(self.oauthbearer_clock_skew_seconds)),
            principal_claim: self.oauthbearer_sub_claim_name.clone(),
        }
    }

    fn tls(&self) -> Option<TlsConfig> {
        Some(TlsConfig {
            listen: self.listen_tls?,
            advertised: self.advertised_tls.clone(),
            files: TlsFiles {
                certificate: self.tls_certificate.clone()?,
                key: self.tls_key.clone()?,
                client_authorities: self.tls_client_ca.clone(),
                client_required: self.tls_client_auth == "required",
            },
        })
    }
}

/// Runs the gateway until it is told to end, or the check.
pub async fn run(flags: Flags) -> anyhow::Result<ExitCode> {
    if let Some(address) = &flags.check {
        check::run(address).await?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(path) = &flags.ready_file {
        ready::remove(path).with_context(|| format!("cannot remove the old {}", path.display()))?;
    }
    let core = RemoteCore::new(flags.core.clone());
    let gateway = start(core.clone(), flags.to_config()).await?;
    let admin = admin::Admin::start(flags.admin_listen, None, vec![gateway.metrics()], health::of_core(core)).await;
    let admin = admin.context("cannot serve health and metrics")?;
    let mut addresses = gateway.addresses();
    addresses.extend(admin.as_ref().map(|admin| ("admin".to_owned(), admin.address().to_string())));
    ready::announce(&addresses, flags.ready_file.as_deref())?;
    signals::terminated().await?;
    gateway.stop().await;
    Ok(ExitCode::SUCCESS)
}

fn mechanism(text: &str) -> Result<Mechanism, String> {
    Mechanism::of(text).ok_or_else(|| "expected PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER".into())
}

fn name_and_password(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, password)) if !name.is_empty() && !password.is_empty() => Ok((name.into(), password.into())),
        _ => Err("expected NAME=PASSWORD".into()),
    }
}
