//! `polymq serve`: starts the core and the gateways asked for, says where they listen, and waits to be ended.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Arg, ArgMatches, Command, value_parser};
use gateway_runtime::admin::Admin;
use gateway_runtime::{ready, signals};

use crate::component::{lend, settings};

/// The gateways there are.
const GATEWAYS: [&str; 3] = ["kafka", "amqp", "mqtt"];

/// The tables of the TOML file.
pub const PARTS: [&str; 4] = ["core", "kafka", "amqp", "mqtt"];

/// Loopback: who opens it to a network says so.
const ADMIN_LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7400);

pub fn command() -> Command {
    let command = Command::new("serve")
        .about("Runs the core and the gateways in this process")
        .after_help(
            "Every setting is also an environment variable (POLYMQ_DATA, POLYMQ_KAFKA_LISTEN, ...) and a key of the \
             TOML file: those of a part in its table, as `listen` in [kafka].",
        )
        .arg(
            Arg::new("data")
                .long("data")
                .env("POLYMQ_DATA")
                .value_name("DIRECTORY")
                .default_value("data")
                .help("Where everything is kept"),
        )
        .arg(
            Arg::new("gateways")
                .long("gateways")
                .env("POLYMQ_GATEWAYS")
                .value_name("NAMES")
                .value_delimiter(',')
                .default_value("kafka,amqp,mqtt")
                .help("Which gateways to run, with commas between"),
        )
        .arg(
            Arg::new("admin-listen")
                .long("admin-listen")
                .env("POLYMQ_ADMIN_LISTEN")
                .value_name("ADDRESS")
                .value_parser(value_parser!(SocketAddr))
                .help("Where to serve /health and /metrics over HTTP [default: 127.0.0.1:7400, if it is free]"),
        )
        .arg(
            Arg::new("ready-file")
                .long("ready-file")
                .env("POLYMQ_READY_FILE")
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .help("A file to write once everything listens: JSON, name to address"),
        )
        .arg(
            Arg::new("worker-threads")
                .long("worker-threads")
                .env("POLYMQ_WORKER_THREADS")
                .value_name("N")
                .value_parser(value_parser!(NonZeroUsize))
                .help("Threads that serve connections [default: one fewer than there are cores, and one at least]"),
        )
        .arg(
            Arg::new("config")
                .long("config")
                .env("POLYMQ_CONFIG")
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .help("A TOML file with the same keys"),
        );
    let command = lend::<core_server::Flags>(command, "core", &["data"]);
    let command = lend::<kafka_gateway::cli::Flags>(command, "kafka", &["core"]);
    let command = lend::<amqp_gateway::cli::Flags>(command, "amqp", &["core"]);
    lend::<mqtt_gateway::cli::Flags>(command, "mqtt", &["core"])
}

pub async fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let data = matches.get_one::<String>("data").cloned().unwrap_or_default();
    let gateways: Vec<&String> = matches.get_many("gateways").unwrap_or_default().collect();
    if let Some(unknown) = gateways.iter().find(|name| !GATEWAYS.contains(&name.as_str())) {
        bail!("--gateways: no gateway is called {unknown:?}; there are: {}", GATEWAYS.join(", "));
    }
    // From here on, so that a signal during recovery ends the process as gracefully as any later one.
    let terminated = signals::watch()?;
    let ready_file = matches.get_one::<PathBuf>("ready-file");
    if let Some(path) = ready_file {
        ready::remove(path).with_context(|| format!("cannot remove the old {}", path.display()))?;
    }
    let mut addresses = BTreeMap::new();
    let data_directory = PathBuf::from(&data);

    let mut flags: core_server::Flags = settings(matches, "core", &[("data", data)])?;
    // Its table is read already; the top of the file is not the core's.
    flags.config = None;
    let server = core_server::Server::start(flags.resolve()?).await?;
    if let Some(address) = &server.address {
        addresses.insert("core".to_owned(), address.to_string());
    }

    let mut metrics = vec![core_server::metrics::source(server.core.clone(), data_directory)];
    let mut kafka = None;
    if gateways.iter().any(|name| *name == "kafka") {
        let flags: kafka_gateway::cli::Flags = settings(matches, "kafka", &[])?;
        let handle = kafka_gateway::start(server.core.clone(), flags.to_config()).await.context("the Kafka gateway")?;
        addresses.extend(handle.addresses());
        metrics.push(handle.metrics());
        kafka = Some(handle);
    }

    let mut amqp = None;
    if gateways.iter().any(|name| *name == "amqp") {
        let flags: amqp_gateway::cli::Flags = settings(matches, "amqp", &[])?;
        let handle = amqp_gateway::start(server.core.clone(), flags.to_config()).await.context("the AMQP gateway")?;
        addresses.extend(handle.addresses());
        metrics.push(handle.metrics());
        amqp = Some(handle);
    }

    let mut mqtt = None;
    if gateways.iter().any(|name| *name == "mqtt") {
        let flags: mqtt_gateway::cli::Flags = settings(matches, "mqtt", &[])?;
        let handle = mqtt_gateway::start(server.core.clone(), flags.to_config()?).await.context("the MQTT gateway")?;
        addresses.extend(handle.addresses());
        metrics.push(handle.metrics());
        mqtt = Some(handle);
    }

    let listen = matches.get_one::<SocketAddr>("admin-listen").copied();
    let health = core_server::metrics::health(server.core.clone());
    let admin = Admin::start(listen, Some(ADMIN_LISTEN_DEFAULT), metrics, health).await;
    let admin = admin.context("cannot serve health and metrics")?;
    if let Some(admin) = &admin {
        addresses.insert("admin".to_owned(), admin.address().to_string());
    }

    ready::announce(&addresses, ready_file.map(PathBuf::as_path))?;
    terminated.await;
    let kafka_stops = async {
        if let Some(kafka) = kafka {
            kafka.stop().await;
        }
    };
    let amqp_stops = async {
        if let Some(amqp) = amqp {
            amqp.stop().await;
        }
    };
    let mqtt_stops = async {
        if let Some(mqtt) = mqtt {
            mqtt.stop().await;
        }
    };
    tokio::join!(kafka_stops, amqp_stops, mqtt_stops);
    server.stop().await;
    Ok(())
}
