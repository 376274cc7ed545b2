//! The binary `polymq-amqp`: the AMQP gateway as a process of its own, in front of a `polymq-core`.

use amqp_gateway::cli;

#[tokio::main]
async fn main() -> anyhow::Result<std::process::ExitCode> {
    let _flush = gateway_runtime::logging::start();
    cli::run(gateway_runtime::config::load("amqp")?).await
}
