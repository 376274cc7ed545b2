//! The binary `polymq-mqtt`: the MQTT gateway as a process of its own, in front of a `polymq-core`.

use mqtt_gateway::cli;

#[tokio::main]
async fn main() -> anyhow::Result<std::process::ExitCode> {
    let _flush = gateway_runtime::logging::start();
    cli::run(gateway_runtime::config::load("mqtt")?).await
}
