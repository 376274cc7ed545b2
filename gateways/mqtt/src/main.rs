//! The binary `polymq-mqtt`: the MQTT gateway as a process of its own, in front of a `polymq-core`.

use mqtt_gateway::cli;

fn main() -> anyhow::Result<std::process::ExitCode> {
    let _flush = gateway_runtime::logging::start();
    let flags: cli::Flags = gateway_runtime::config::load("mqtt")?;
    gateway_runtime::workers::runtime(flags.worker_threads)?.block_on(cli::run(flags))
}
