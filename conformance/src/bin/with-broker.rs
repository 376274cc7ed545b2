//! `with-broker`: starts a broker, runs a command with its address in BOOTSTRAP, and ends the broker.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Parser;
use conformance::broker::{Broker, Shape};

/// Runs a command beside a broker that lives as long as the command does.
#[derive(Parser)]
struct Arguments {
    /// all-in-one, split, cluster, apache, or HOST:PORT
    #[arg(long)]
    broker: String,
    /// Where it listens, on 127.0.0.1, if not on a free port
    #[arg(long)]
    port: Option<u16>,
    /// The command and its arguments; BOOTSTRAP in its environment is HOST:PORT
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let shape = Shape::parse(&arguments.broker)?;
    let mut broker = match arguments.port {
        Some(port) => Broker::start_on(shape, port)?,
        None => Broker::start(shape)?,
    };
    println!("{} listens on {}", arguments.broker, broker.bootstrap);
    let mut command = Command::new(&arguments.command[0]);
    command.args(&arguments.command[1..]).env("BOOTSTRAP", &broker.bootstrap);
    let status = command.status().with_context(|| format!("starting {}", arguments.command[0]))?;
    if let Some(reason) = broker.ended() {
        anyhow::bail!("the broker did not live as long as the command: {reason}");
    }
    broker.stop()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
