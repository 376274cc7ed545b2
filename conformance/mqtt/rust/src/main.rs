//! rumqttc, its client for 3.1.1 and its client for 5: `rumqttc-client ADDRESS[,ADDRESS] [CASE...]`.
//!
//! Prints `ok CASE MILLIS` or `FAIL CASE reason` for each case, and exits 1 if one failed.

mod cases;
mod cases_v5;
mod client;
mod kit;
mod seen;
mod v4;
mod v5;

use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A case takes no longer, whatever it waits for.
const CASE_TIME_MAX: Duration = Duration::from_secs(90);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(addresses) = arguments.next() else {
        eprintln!("say ADDRESS[,ADDRESS] [CASE...]");
        return ExitCode::FAILURE;
    };
    let wanted: Vec<String> = arguments.collect();
    let mut failed = false;
    for case in cases::all().filter(|case| wanted.is_empty() || wanted.contains(&case.name)) {
        let started = Instant::now();
        let run = (case.run)(kit::Kit::new(&addresses, &case.name, case.version));
        let outcome = tokio::time::timeout(CASE_TIME_MAX, run).await.unwrap_or_else(|_| Err("it does not end".into()));
        match &outcome {
            Ok(()) => println!("ok {} {}", case.name, started.elapsed().as_millis()),
            Err(fault) => println!("FAIL {} {}", case.name, fault.to_string().replace('\n', " ")),
        }
        failed |= outcome.is_err();
    }
    ExitCode::from(u8::from(failed))
}
