//! The command line of `polymq-mqtt`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use core_rpc::{Address, Durability, RemoteCore};
use gateway_runtime::address::host_and_port;
use gateway_runtime::tls::TlsFiles;
use gateway_runtime::{NodeId, OptionalAddress, admin, health, ready, signals};

use crate::import::{self, Import};
use crate::state::TopicRules;
use crate::state::access::{AccessConfig, CertificateIdentity};
use crate::state::auto_subscribe::AutoSubscribe;
use crate::state::rewrite::RewriteRule;
use crate::state::sessions::Limits;
use crate::{Config, TlsConfig, WebSocketListen, check, start};

/// Where EMQX listens for them; loopback, as everything that is not configured.
const WEBSOCKET_LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8083);

/// The MQTT gateway of PolyMQ. Each flag is also a key of the TOML file (--config) and an environment variable.
#[derive(Debug, Parser)]
#[command(name = "polymq-mqtt", version)]
pub struct Flags {
    /// The core's address: HOST:PORT, or unix:PATH.
    #[arg(long, env = "POLYMQ_MQTT_CORE", default_value = "127.0.0.1:7401")]
    core: Address,
    /// Where to listen; port 0 is picked.
    #[arg(long, env = "POLYMQ_MQTT_LISTEN", default_value = "127.0.0.1:1883")]
    listen: SocketAddr,
    /// HOST:PORT under which this gateway is known to others; by default the address that is listened on.
    #[arg(long, env = "POLYMQ_MQTT_ADVERTISED", value_parser = host_and_port)]
    advertised: Option<(String, u16)>,
    /// This gateway's number, or auto: the lowest that no other gateway has.
    #[arg(long, env = "POLYMQ_MQTT_NODE_ID", default_value = "auto")]
    node_id: NodeId,
    /// Milliseconds without a sign of life after which other gateways take over from this one.
    #[arg(long, env = "POLYMQ_MQTT_SESSION_TIMEOUT_MS", default_value_t = 6_000, value_parser = clap::value_parser!(u32).range(300..))]
    session_timeout_ms: u32,
    /// Connections that may be open at once.
    #[arg(long, env = "POLYMQ_MQTT_CONNECTIONS_MAX", default_value_t = 1_000_000)]
    connections_max: usize,
    /// Seconds that a client may take until it has sent its CONNECT.
    #[arg(long, env = "POLYMQ_MQTT_HANDSHAKE_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    handshake_seconds: u64,
    /// Seconds that connections may take to end when the gateway is stopped.
    #[arg(long, env = "POLYMQ_MQTT_DRAIN_SECONDS", default_value_t = 5)]
    drain_seconds: u64,
    /// The largest packet, bytes.
    #[arg(long, env = "POLYMQ_MQTT_MAXIMUM_PACKET_SIZE", default_value_t = 16 << 20, value_parser = clap::value_parser!(u32).range(1024..=(64 << 20)))]
    maximum_packet_size: u32,
    /// Messages of QoS 1 and 2 that a client may send before they are acknowledged.
    #[arg(long, env = "POLYMQ_MQTT_RECEIVE_MAXIMUM", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    receive_maximum: u16,
    /// Messages of QoS 1 and 2 that a client is sent before it acknowledges them, however many more it takes.
    #[arg(long, env = "POLYMQ_MQTT_MAX_INFLIGHT_MESSAGES", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    max_inflight_messages: u16,
    /// Topic aliases that a client may set; 0: none.
    #[arg(long, env = "POLYMQ_MQTT_TOPIC_ALIAS_MAXIMUM", default_value_t = 100)]
    topic_alias_maximum: u16,
    /// The longest keep alive, seconds; 0: as each client wishes.
    #[arg(long, env = "POLYMQ_MQTT_MAX_KEEPALIVE_SECONDS", default_value_t = 0)]
    max_keepalive_seconds: u16,
    /// The longest that a session outlives its connection, seconds; 4294967295: for ever.
    #[arg(long, env = "POLYMQ_MQTT_SESSION_EXPIRY_MAX_SECONDS", default_value_t = u32::MAX)]
    session_expiry_max_seconds: u32,
    /// How long a session outlives its connection whose client cannot say so (before version 5), seconds; 4294967295: for ever.
    #[arg(long, env = "POLYMQ_MQTT_SESSION_EXPIRY_DEFAULT_SECONDS", default_value_t = u32::MAX)]
    session_expiry_default_seconds: u32,
    /// Messages of QoS 1 and 2 that wait for a client that is away or slow; what comes then is dropped.
    #[arg(long, env = "POLYMQ_MQTT_MAX_QUEUED_MESSAGES", default_value_t = 1_000_000)]
    max_queued_messages: usize,
    /// Messages that wait in memory for a client that is slow; of what comes then QoS 0 is dropped.
    #[arg(long, env = "POLYMQ_MQTT_MAX_QUEUED_MESSAGES_IN_MEMORY", default_value_t = 20_000, value_parser = in_memory)]
    max_queued_messages_in_memory: usize,
    /// Bytes of those.
    #[arg(long, env = "POLYMQ_MQTT_MAX_QUEUED_BYTES_IN_MEMORY", default_value_t = 16 << 20)]
    max_queued_bytes_in_memory: usize,
    /// Milliseconds between records of sessions that have changed (what must be kept at once is): what was acknowledged with QoS 1 since
    /// the last may be sent again after a crash.
    #[arg(long, env = "POLYMQ_MQTT_CHECKPOINT_INTERVAL_MS", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(10..))]
    checkpoint_interval_ms: u64,
    /// Where messages go: FILTER=TOPIC, as often as wanted; the first whose filter matches says the topic. What none matches goes to
    /// the topic that is its first level.
    #[arg(long, env = "POLYMQ_MQTT_TOPIC_RULES", value_delimiter = ',', value_parser = rule)]
    topic_rules: Vec<(String, String)>,
    /// Partitions of topics that are made. With more than one, only messages of one name keep their order.
    #[arg(long, env = "POLYMQ_MQTT_TOPIC_PARTITIONS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    topic_partitions: u32,
    /// So many topics are made from first levels; what has none then goes to the topic `mqtt`.
    #[arg(long, env = "POLYMQ_MQTT_TOPICS_MAX", default_value_t = 1000)]
    topics_max: usize,
    /// When a publish is acknowledged and delivered: when it is on the disk (fsync), with the operating system (relaxed), or in
    /// memory. Of topics that are made from now on.
    #[arg(long, env = "POLYMQ_MQTT_DURABILITY", default_value = "fsync")]
    durability: Durability,
    /// Hours that messages are kept; 0: for ever.
    #[arg(long, env = "POLYMQ_MQTT_RETENTION_HOURS", default_value_t = 168)]
    retention_hours: u64,
    /// Bytes of retained messages that are kept in memory; those beyond are read when they are wanted.
    #[arg(long, env = "POLYMQ_MQTT_RETAINED_CACHE_BYTES", default_value_t = 64 << 20)]
    retained_cache_bytes: usize,
    /// Seconds that a shared subscription stays, and messages wait for it, when its last member is gone; 0: it goes at once.
    #[arg(long, env = "POLYMQ_MQTT_SHARE_EXPIRY_SECONDS", default_value_t = 3600)]
    share_expiry_seconds: u64,
    /// Whether clients may come without a user name.
    #[arg(long, env = "POLYMQ_MQTT_ALLOW_ANONYMOUS", default_value_t = true, action = clap::ArgAction::Set)]
    allow_anonymous: bool,
    /// mosquitto's password file: its users may log in with their passwords, beside those that are stored.
    #[arg(long, env = "POLYMQ_MQTT_PASSWORD_FILE")]
    password_file: Option<PathBuf>,
    /// mosquitto's ACL file. Without it, the access rules are those that are stored (mqtt/acl).
    #[arg(long, env = "POLYMQ_MQTT_ACL_FILE")]
    acl_file: Option<PathBuf>,
    /// What of a TLS client's certificate is its user name: none, common-name or subject. A client that has one needs no password.
    #[arg(long, env = "POLYMQ_MQTT_IDENTITY_FROM_CERTIFICATE", default_value = "none")]
    identity_from_certificate: CertificateIdentity,
    /// Topics that clients name become others: JSON, as often as wanted; in the file, tables with action, source_topic, re, dest_topic.
    #[arg(long, env = "POLYMQ_MQTT_REWRITE")]
    rewrite: Vec<RewriteRule>,
    /// What every client is subscribed to: JSON, as often as wanted; in the file, tables with topic, qos, nl, rap, rh.
    #[arg(long, env = "POLYMQ_MQTT_AUTO_SUBSCRIBE")]
    auto_subscribe: Vec<AutoSubscribe>,
    /// Seconds between the values under $SYS; 0: there are none.
    #[arg(long, env = "POLYMQ_MQTT_SYS_INTERVAL_SECONDS", default_value_t = 10)]
    sys_interval_seconds: u64,
    /// Where to listen for WebSockets; port 0 is picked; none: nowhere [default: 127.0.0.1:8083, if it is free]
    #[arg(long, env = "POLYMQ_MQTT_LISTEN_WEBSOCKET", value_parser = websocket_listen)]
    listen_websocket: Option<WebSocketListen>,
    /// The path that WebSockets have to ask for; *: any.
    #[arg(long, env = "POLYMQ_MQTT_WEBSOCKET_PATH", default_value = "/mqtt")]
    websocket_path: String,
    /// Where to listen for WebSockets with TLS; port 0 is picked. Needs --tls-certificate and --tls-key.
    #[arg(long, env = "POLYMQ_MQTT_LISTEN_WEBSOCKET_TLS", requires = "tls_certificate", requires = "tls_key")]
    listen_websocket_tls: Option<SocketAddr>,
    /// Where to listen with TLS; port 0 is picked. Needs --tls-certificate and --tls-key.
    #[arg(long, env = "POLYMQ_MQTT_LISTEN_TLS", requires = "tls_certificate", requires = "tls_key")]
    listen_tls: Option<SocketAddr>,
    /// The server's certificate and its intermediates, a PEM file.
    #[arg(long, env = "POLYMQ_MQTT_TLS_CERTIFICATE")]
    tls_certificate: Option<PathBuf>,
    /// The server's private key, a PEM file.
    #[arg(long, env = "POLYMQ_MQTT_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Authorities whose client certificates are believed, a PEM file.
    #[arg(long, env = "POLYMQ_MQTT_TLS_CLIENT_CA")]
    tls_client_ca: Option<PathBuf>,
    /// Whether TLS clients must show a certificate: required or requested.
    #[arg(long, env = "POLYMQ_MQTT_TLS_CLIENT_AUTH", default_value = "required", value_parser = ["required", "requested"])]
    tls_client_auth: String,
    /// Where to serve /health and /metrics over HTTP; port 0 is picked. Without it they are not served.
    #[arg(long, env = "POLYMQ_ADMIN_LISTEN")]
    admin_listen: Option<SocketAddr>,
    /// Threads that serve connections [default: one fewer than there are cores, and one at least]
    #[arg(long, env = "POLYMQ_MQTT_WORKER_THREADS")]
    pub worker_threads: Option<NonZeroUsize>,
    /// A file to write once the gateway listens: {"mqtt":"ADDRESS"}.
    #[arg(long, env = "POLYMQ_MQTT_READY_FILE")]
    ready_file: Option<PathBuf>,
    /// A TOML file with the same keys, at its top or in its table [mqtt].
    #[arg(long, env = "POLYMQ_CONFIG")]
    config: Option<PathBuf>,
    /// Makes the users of mosquitto's password file users of the cluster, which all gateways know, and exits. They keep their passwords.
    #[arg(long, value_name = "PATH")]
    import_password_file: Option<PathBuf>,
    /// Makes the rules of mosquitto's ACL file the cluster's (mqtt/acl), which all gateways obey at once, and exits; none: there are no
    /// rules any more.
    #[arg(long, value_name = "PATH")]
    import_acl_file: Option<PathBuf>,
    /// Asks the gateway at this address for a CONNACK and exits with 0 if it answers.
    #[arg(long, value_name = "ADDRESS")]
    check: Option<String>,
}

impl Flags {
    /// What the gateway itself needs of the flags.
    pub fn to_config(&self) -> anyhow::Result<Config> {
        let hours = |hours: u64| Duration::from_secs(hours.saturating_mul(3600));
        Ok(Config {
            listen: self.listen,
            websocket_listen: self.listen_websocket.unwrap_or(WebSocketListen::IfFree(WEBSOCKET_LISTEN_DEFAULT)),
            websocket_path: Some(self.websocket_path.clone()).filter(|path| path != "*"),
            advertised: self.advertised.clone(),
            node_id: self.node_id,
            session_timeout: Duration::from_millis(u64::from(self.session_timeout_ms)),
            connections_max: self.connections_max,
            handshake_max: Duration::from_secs(self.handshake_seconds),
            drain: Duration::from_secs(self.drain_seconds),
            tls: self.tls(),
            topics: TopicRules {
                namespace: "default".into(),
                rules: self.topic_rules.clone(),
                partitions: self.topic_partitions,
                durability: self.durability,
                retention: (self.retention_hours > 0).then(|| hours(self.retention_hours)),
                topics_max: self.topics_max,
            },
            packet_bytes_max: self.maximum_packet_size,
            receive_maximum: self.receive_maximum,
            in_flight_max: self.max_inflight_messages,
            topic_alias_maximum: self.topic_alias_maximum,
            keep_alive_max_s: self.max_keepalive_seconds,
            session_expiry_max_s: self.session_expiry_max_seconds,
            session_expiry_default_s: self.session_expiry_default_seconds,
            limits: Limits {
                here_messages_max: self.max_queued_messages_in_memory,
                here_bytes_max: self.max_queued_bytes_in_memory,
                there_messages_max: self.max_queued_messages,
            },
            checkpoint_interval: Duration::from_millis(self.checkpoint_interval_ms),
            retained_cache_bytes: self.retained_cache_bytes,
            share_expiry: Duration::from_secs(self.share_expiry_seconds),
            access: AccessConfig {
                allow_anonymous: self.allow_anonymous,
                password_file: self.password_file.clone(),
                acl_file: self.acl_file.clone(),
                identity_from_certificate: self.identity_from_certificate,
            },
            rewrite: self.rewrite.clone(),
            auto_subscribe: self.auto_subscribe.clone(),
            sys_interval: (self.sys_interval_seconds > 0).then(|| Duration::from_secs(self.sys_interval_seconds)),
        })
    }

    fn tls(&self) -> Option<TlsConfig> {
        self.listen_tls.or(self.listen_websocket_tls)?;
        Some(TlsConfig {
            listen: self.listen_tls,
            websocket_listen: self.listen_websocket_tls,
            files: TlsFiles {
                certificate: self.tls_certificate.clone()?,
                key: self.tls_key.clone()?,
                client_authorities: self.tls_client_ca.clone(),
                client_required: self.tls_client_auth == "required",
            },
        })
    }
}

fn websocket_listen(text: &str) -> Result<WebSocketListen, String> {
    let OptionalAddress(address) = text.parse()?;
    Ok(address.map_or(WebSocketListen::Nowhere, WebSocketListen::At))
}

/// Runs the gateway until it is told to end, or what it is to do instead.
pub async fn run(flags: Flags) -> anyhow::Result<ExitCode> {
    if let Some(address) = &flags.check {
        check::run(address).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let import =
        Import { password_file: flags.import_password_file.as_deref(), acl_file: flags.import_acl_file.as_deref() };
    if import.password_file.is_some() || import.acl_file.is_some() {
        let done = import::run(RemoteCore::new(flags.core.clone()).into(), import).await?;
        done.iter().for_each(|line| println!("{line}"));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(path) = &flags.ready_file {
        ready::remove(path).with_context(|| format!("cannot remove the old {}", path.display()))?;
    }
    let core = RemoteCore::new(flags.core.clone());
    let gateway = start(core.clone(), flags.to_config()?).await?;
    let admin = admin::Admin::start(flags.admin_listen, None, vec![gateway.metrics()], health::of_core(core)).await;
    let admin = admin.context("cannot serve health and metrics")?;
    let mut addresses = gateway.addresses();
    addresses.extend(admin.as_ref().map(|admin| ("admin".to_owned(), admin.address().to_string())));
    ready::announce(&addresses, flags.ready_file.as_deref())?;
    signals::terminated().await?;
    gateway.stop().await;
    Ok(ExitCode::SUCCESS)
}

fn rule(text: &str) -> Result<(String, String), String> {
    match text.rsplit_once('=') {
        Some((filter, topic)) if !filter.is_empty() && !topic.is_empty() => Ok((filter.into(), topic.into())),
        _ => Err("expected FILTER=TOPIC".into()),
    }
}

/// Without room for one nothing would ever be sent.
fn in_memory(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "expected a number from 1 on".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_and_lists_are_read() {
        let of = |more: &[&str]| {
            let flags = Flags::try_parse_from([&["polymq-mqtt"], more].concat());
            flags.map(|flags| flags.to_config().unwrap())
        };
        let config = of(&["--listen-websocket", "127.0.0.1:0", "--websocket-path", "*"]).unwrap();
        assert!(matches!(config.websocket_listen, WebSocketListen::At(_)));
        assert!(config.websocket_path.is_none() && config.tls.is_none());
        assert_eq!(of(&["--listen-websocket", "none"]).unwrap().websocket_listen, WebSocketListen::Nowhere);
        assert!(matches!(of(&[]).unwrap().websocket_listen, WebSocketListen::IfFree(_)));
        let tls = ["--listen-websocket-tls", "127.0.0.1:0", "--tls-certificate", "c", "--tls-key", "k"];
        let config = of(&tls).unwrap();
        assert_eq!(config.tls.map(|tls| (tls.listen.is_some(), tls.websocket_listen.is_some())), Some((false, true)));
        assert!(of(&tls[..2]).is_err());
        let rewrite = r#"{"source_topic":"a","re":"^a$","dest_topic":"b"}"#;
        let config = of(&["--rewrite", rewrite, "--auto-subscribe", r#"{"topic":"a/%c"}"#]).unwrap();
        assert_eq!((config.rewrite.len(), config.auto_subscribe.len()), (1, 1));
        assert!(of(&["--rewrite", "{}"]).is_err() && of(&["--identity-from-certificate", "cn"]).is_err());
        assert!(of(&["--sys-interval-seconds", "0"]).unwrap().sys_interval.is_none());
    }

    #[test]
    fn rules_and_durability_are_read() {
        let flags = Flags::parse_from([
            "polymq-mqtt",
            "--topic-rules",
            "a/+/b=one",
            "--topic-rules",
            "c/#=two",
            "--durability",
            "relaxed",
        ]);
        let config = flags.to_config().unwrap();
        assert_eq!(config.topics.rules, [("a/+/b".into(), "one".into()), ("c/#".into(), "two".into())]);
        assert_eq!(config.topics.durability, Durability::Relaxed);
        assert!(Flags::try_parse_from(["polymq-mqtt", "--topic-rules", "a"]).is_err());
    }
}
