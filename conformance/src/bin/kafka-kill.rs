//! `kafka-kill`: `kill -9` at seeded moments under load, and nothing acknowledged may be lost.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use conformance::broker::Shape;
use conformance::kill;

/// Kills PolyMQ while a real producer writes, starts it again on the same data, and reads everything back.
#[derive(Parser)]
struct Arguments {
    /// all-in-one, split, or apache; several are taken in turn
    #[arg(long, default_values = ["all-in-one", "split"])]
    broker: Vec<String>,
    #[arg(long, default_value_t = 20)]
    runs: u64,
    /// Run I of seed S is run 0 of seed S + I
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let shapes: Result<Vec<Shape>> = arguments.broker.iter().map(|name| Shape::parse(name)).collect();
    let (passed, failed) = kill::run(&shapes?, arguments.runs, arguments.seed)?;
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0 && passed > 0)
}
