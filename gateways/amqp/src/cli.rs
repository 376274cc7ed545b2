//! The command line of `polymq-amqp`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use clap::builder::NonEmptyStringValueParser;
use core_rpc::{Address, RemoteCore};
use gateway_runtime::address::host_and_port;
use gateway_runtime::tls::TlsFiles;
use gateway_runtime::{NodeId, OptionalAddress, admin, health, ready, signals};

use crate::{Anonymous, Config, FirstUser, TlsConfig, check, start};

/// The AMQP 0-9-1 gateway of PolyMQ. Each flag is also a key of the TOML file (--config) and an environment variable.
#[derive(Debug, Parser)]
#[command(name = "polymq-amqp", version)]
pub struct Flags {
    /// The core's address: HOST:PORT, or unix:PATH.
    #[arg(long, env = "POLYMQ_AMQP_CORE", default_value = "127.0.0.1:7401")]
    core: Address,
    /// Where to listen; port 0 is picked.
    #[arg(long, env = "POLYMQ_AMQP_LISTEN", default_value = "127.0.0.1:5672")]
    listen: SocketAddr,
    /// Where the management HTTP API listens; port 0 is picked; none: it does not.
    #[arg(long, env = "POLYMQ_AMQP_MANAGEMENT_LISTEN", default_value = "127.0.0.1:15672")]
    management_listen: OptionalAddress,
    /// HOST:PORT under which this gateway is known to others; by default the address that is listened on.
    #[arg(long, env = "POLYMQ_AMQP_ADVERTISED", value_parser = host_and_port)]
    advertised: Option<(String, u16)>,
    /// This gateway's number, or auto: the lowest that no other gateway has.
    #[arg(long, env = "POLYMQ_AMQP_NODE_ID", default_value = "auto")]
    node_id: NodeId,
    /// Milliseconds without a sign of life after which other gateways take over from this one.
    #[arg(long, env = "POLYMQ_AMQP_SESSION_TIMEOUT_MS", default_value_t = 6_000, value_parser = clap::value_parser!(u32).range(300..))]
    session_timeout_ms: u32,
    /// Connections that may be open at once.
    #[arg(long, env = "POLYMQ_AMQP_CONNECTIONS_MAX", default_value_t = 100_000)]
    connections_max: usize,
    /// Channels that a connection may have.
    #[arg(long, env = "POLYMQ_AMQP_CHANNEL_MAX", default_value_t = 2047, value_parser = clap::value_parser!(u16).range(1..))]
    channel_max: u16,
    /// The largest frame, bytes.
    #[arg(long, env = "POLYMQ_AMQP_FRAME_MAX", default_value_t = 131_072, value_parser = clap::value_parser!(u32).range(4096..=16_777_216))]
    frame_max: u32,
    /// Seconds between heartbeats that are proposed to clients; 0: none.
    #[arg(long, env = "POLYMQ_AMQP_HEARTBEAT_SECONDS", default_value_t = 60)]
    heartbeat_seconds: u16,
    /// The largest body of a message, bytes.
    #[arg(long, env = "POLYMQ_AMQP_MAX_MESSAGE_SIZE", default_value_t = 16 << 20, value_parser = clap::value_parser!(u64).range(1..=(64 << 20)))]
    max_message_size: u64,
    /// Bytes of memory of this process above which publishers have to wait; 0: no limit.
    #[arg(long, env = "POLYMQ_AMQP_MEMORY_HIGH_WATERMARK_BYTES", default_value_t = 0)]
    memory_high_watermark_bytes: u64,
    /// Milliseconds that a client may keep a delivery without settling it, before its channel is closed; 0: no limit. A queue's
    /// x-consumer-timeout, or a policy, goes before.
    #[arg(long, env = "POLYMQ_AMQP_CONSUMER_TIMEOUT_MS", default_value_t = 1_800_000)]
    consumer_timeout_ms: u64,
    /// Seconds that a client may take until it has opened its vhost.
    #[arg(long, env = "POLYMQ_AMQP_HANDSHAKE_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    handshake_seconds: u64,
    /// Seconds that connections may take to end when the gateway is stopped.
    #[arg(long, env = "POLYMQ_AMQP_DRAIN_SECONDS", default_value_t = 5)]
    drain_seconds: u64,
    /// The administrator that a store gets which no AMQP gateway used before.
    #[arg(long, env = "POLYMQ_AMQP_DEFAULT_USER", default_value = "guest", value_parser = NonEmptyStringValueParser::new())]
    default_user: String,
    /// Its password.
    #[arg(long, env = "POLYMQ_AMQP_DEFAULT_PASS", default_value = "guest", hide_env_values = true, value_parser = NonEmptyStringValueParser::new())]
    default_pass: String,
    /// Users who may come from this machine only, if they are made while it is so: A,B; none: everybody may come from anywhere.
    #[arg(long, env = "POLYMQ_AMQP_LOOPBACK_USERS", default_value = "guest", value_delimiter = ',')]
    loopback_users: Vec<String>,
    /// Who clients are that log in without a name (SASL ANONYMOUS); none: nobody may.
    #[arg(long, env = "POLYMQ_AMQP_ANONYMOUS_LOGIN_USER", default_value = "guest", value_parser = NonEmptyStringValueParser::new())]
    anonymous_login_user: String,
    /// The password of that user; if it is another's, they are refused.
    #[arg(long, env = "POLYMQ_AMQP_ANONYMOUS_LOGIN_PASS", default_value = "guest", hide_env_values = true)]
    anonymous_login_pass: String,
    /// Where to listen with TLS; port 0 is picked. Needs --tls-certificate and --tls-key.
    #[arg(long, env = "POLYMQ_AMQP_LISTEN_TLS", requires = "tls_certificate", requires = "tls_key")]
    listen_tls: Option<SocketAddr>,
    /// The server's certificate and its intermediates, a PEM file.
    #[arg(long, env = "POLYMQ_AMQP_TLS_CERTIFICATE")]
    tls_certificate: Option<PathBuf>,
    /// The server's private key, a PEM file.
    #[arg(long, env = "POLYMQ_AMQP_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Authorities whose client certificates are believed, a PEM file.
    #[arg(long, env = "POLYMQ_AMQP_TLS_CLIENT_CA")]
    tls_client_ca: Option<PathBuf>,
    /// Whether TLS clients must show a certificate: required or requested.
    #[arg(long, env = "POLYMQ_AMQP_TLS_CLIENT_AUTH", default_value = "required", value_parser = ["required", "requested"])]
    tls_client_auth: String,
    /// Where to serve /health and /metrics over HTTP; port 0 is picked. Without it they are not served.
    #[arg(long, env = "POLYMQ_ADMIN_LISTEN")]
    admin_listen: Option<SocketAddr>,
    /// Threads that serve connections [default: one fewer than there are cores, and one at least]
    #[arg(long, env = "POLYMQ_AMQP_WORKER_THREADS")]
    pub worker_threads: Option<NonZeroUsize>,
    /// A file to write once the gateway listens: {"amqp":"ADDRESS"}.
    #[arg(long, env = "POLYMQ_AMQP_READY_FILE")]
    ready_file: Option<PathBuf>,
    /// A TOML file with the same keys, at its top or in its table [amqp].
    #[arg(long, env = "POLYMQ_CONFIG")]
    config: Option<PathBuf>,
    /// Asks the gateway at this address for its greeting and exits with 0 if it answers.
    #[arg(long, value_name = "ADDRESS")]
    check: Option<String>,
}

impl Flags {
    /// What the gateway itself needs of the flags.
    pub fn to_config(&self) -> Config {
        Config {
            listen: self.listen,
            management_listen: self.management_listen.0,
            advertised: self.advertised.clone(),
            node_id: self.node_id,
            session_timeout: Duration::from_millis(u64::from(self.session_timeout_ms)),
            connections_max: self.connections_max,
            channel_max: self.channel_max,
            frame_max: self.frame_max,
            heartbeat: Duration::from_secs(u64::from(self.heartbeat_seconds)),
            message_bytes_max: self.max_message_size,
            memory_bytes_max: Some(self.memory_high_watermark_bytes).filter(|bytes| *bytes > 0),
            consumer_timeout: (self.consumer_timeout_ms > 0).then(|| Duration::from_millis(self.consumer_timeout_ms)),
            handshake_max: Duration::from_secs(self.handshake_seconds),
            drain: Duration::from_secs(self.drain_seconds),
            tls: self.tls(),
            first_user: FirstUser { name: self.default_user.clone(), password: self.default_pass.clone() },
            loopback_users: match &self.loopback_users[..] {
                [none] if none == "none" => Vec::new(),
                users => users.to_vec(),
            },
            anonymous: (self.anonymous_login_user != "none").then(|| Anonymous {
                name: self.anonymous_login_user.clone(),
                password: self.anonymous_login_pass.clone(),
            }),
        }
    }

    fn tls(&self) -> Option<TlsConfig> {
        Some(TlsConfig {
            listen: self.listen_tls?,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_rabbitmq() {
        let config = Flags::parse_from(["polymq-amqp"]).to_config();
        assert_eq!((config.channel_max, config.frame_max, config.heartbeat.as_secs()), (2047, 131_072, 60));
        assert_eq!(config.message_bytes_max, 16 << 20);
        assert_eq!((&*config.first_user.name, &*config.first_user.password), ("guest", "guest"));
        assert_eq!(config.loopback_users, ["guest"]);
        let flags = ["polymq-amqp", "--default-user", "ann", "--default-pass", "x", "--loopback-users", "none"];
        let config = Flags::parse_from(flags).to_config();
        assert_eq!((&*config.first_user.name, config.loopback_users.len()), ("ann", 0));
        assert!(
            config.anonymous.is_some_and(|anonymous| (&*anonymous.name, &*anonymous.password) == ("guest", "guest"))
        );
        let config = Flags::parse_from(["polymq-amqp", "--anonymous-login-user", "none"]).to_config();
        assert!(config.anonymous.is_none());
        assert!(Flags::try_parse_from(["polymq-amqp", "--default-user", ""]).is_err());
    }
}
