//! The binary `polymq`: the core and the gateways in one process.

mod component;
mod serve;

use std::process::ExitCode;

fn main() -> ExitCode {
    let _flush = gateway_runtime::logging::start();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("polymq: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let matches = clap::Command::new("polymq")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A message broker whose gateways speak other brokers' protocols over one log")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(gateway_runtime::config::with_top_of_file(serve::command(), &serve::PARTS)?)
        .get_matches();
    match matches.subcommand() {
        Some(("serve", matches)) => {
            let worker_threads = matches.get_one("worker-threads").copied();
            gateway_runtime::workers::runtime(worker_threads)?.block_on(serve::run(matches))
        }
        _ => unreachable!("clap requires a known subcommand"),
    }
}
