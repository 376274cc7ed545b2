//! The binary `polymq-kafka`: the Kafka gateway as a process of its own, in front of a `polymq-core`.

use kafka_gateway::cli;

#[tokio::main]
async fn main() -> anyhow::Result<std::process::ExitCode> {
    let _flush = gateway_runtime::logging::start();
    cli::run(gateway_runtime::config::load("kafka")?).await
}
