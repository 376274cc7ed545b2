//! The binary `polymq-amqp`: the AMQP gateway as a process of its own, in front of a `polymq-core`.

use amqp_gateway::cli;

fn main() -> anyhow::Result<std::process::ExitCode> {
    let _flush = gateway_runtime::logging::start();
    let flags: cli::Flags = gateway_runtime::config::load("amqp")?;
    gateway_runtime::workers::runtime(flags.worker_threads)?.block_on(cli::run(flags))
}
