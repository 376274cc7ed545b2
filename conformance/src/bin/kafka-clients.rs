//! `kafka-clients`: the real clients against one broker, in the shape that is asked for.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use conformance::broker::{Broker, Shape};
use conformance::client::{CLIENTS, Client, run_all};
use conformance::report::{Outcome, Report};

/// Runs real Kafka clients against a broker and prints a table of clients and cases.
#[derive(Parser)]
struct Arguments {
    /// all-in-one, split, cluster, apache (the oracle), or HOST:PORT of a broker that runs already
    #[arg(long)]
    broker: String,
    /// Only these clients (repeat it)
    #[arg(long)]
    client: Vec<String>,
    /// Only these cases (repeat it)
    #[arg(long)]
    case: Vec<String>,
    /// Clients at a time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
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
    let wanted = |name: &str| arguments.client.is_empty() || arguments.client.iter().any(|client| client == name);
    let known = |name: &str| name == "bad-bytes" || CLIENTS.iter().any(|client| client.name == name);
    for name in &arguments.client {
        ensure!(known(name), "no client {name}");
    }
    let clients: Vec<Client> = CLIENTS.into_iter().filter(|client| wanted(client.name)).collect();

    let start = Instant::now();
    let mut broker = Broker::start(Shape::parse(&arguments.broker)?).context("starting the broker")?;
    println!("{} listens on {} after {} ms", arguments.broker, broker.bootstrap, start.elapsed().as_millis());

    let mut report = Report::default();
    run_all(&clients, arguments.jobs, &broker.bootstrap.clone(), &arguments.case, |client, case, outcome| {
        report.add(client, case, outcome);
    });
    if wanted("bad-bytes") {
        conformance::bad_bytes::run(&broker, &arguments.case, |case, outcome| report.add("bad-bytes", case, outcome));
    }

    for (name, case, reason) in report.failures() {
        let Some(client) = clients.iter().find(|client| client.name == name && case != "whole_program") else {
            continue;
        };
        run_all(&[*client], 1, &broker.bootstrap.clone(), &[case], |client, case, outcome| {
            let passed = matches!(outcome, Outcome::Passed(_));
            report.add(client, case, if passed { Outcome::Unsteady(reason.clone()) } else { outcome });
        });
    }

    if let Some(reason) = broker.ended() {
        report.add("broker", "stays_up", Outcome::Failed(reason));
    } else if arguments.case.is_empty() {
        let stop = Instant::now();
        let outcome = match broker.stop() {
            Ok(()) => Outcome::Passed(stop.elapsed()),
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        report.add("broker", "drains", outcome);
    }
    report.print_table();
    println!("took {:.0} s", start.elapsed().as_secs_f64());
    Ok(report.close())
}
