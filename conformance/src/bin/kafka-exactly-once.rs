//! `kafka-exactly-once`: transactions under `kill -9`; nothing lost, nothing doubled, nothing in part.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use conformance::broker::Shape;
use conformance::exactly_once::{self, Plan};

/// Kills gateways and core while real clients write, copy and read transactions, and checks that each record is there once.
#[derive(Parser)]
struct Arguments {
    /// all-in-one, split, cluster (two gateways) or apache
    #[arg(long, default_value = "cluster")]
    broker: String,
    /// How long to go on killing; checking everything takes a little longer
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Draws the moments and the victims
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// java-4 or java-3
    #[arg(long, default_value = "java-4")]
    client: String,
    /// The copiers' group.protocol: classic or consumer
    #[arg(long, default_value = "classic")]
    group_protocol: String,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(what) => {
            println!("ok {what}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("FAIL {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<String> {
    ensure!(["java-4", "java-3"].contains(&arguments.client.as_str()), "no client {}", arguments.client);
    ensure!(["classic", "consumer"].contains(&arguments.group_protocol.as_str()), "no such group protocol");
    ensure!(arguments.minutes.is_finite() && arguments.minutes > 0.0, "--minutes must be more than 0");
    exactly_once::run(&Plan {
        shape: Shape::parse(&arguments.broker)?,
        seed: arguments.seed,
        duration: Duration::from_secs_f64(arguments.minutes * 60.0),
        client: arguments.client.replace('-', ""),
        group_protocol: arguments.group_protocol.clone(),
    })
}
