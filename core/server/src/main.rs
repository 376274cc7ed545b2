//! `polymq-core`: the log core as a process of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    match core_server::process::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("polymq-core: {error:#}");
            ExitCode::FAILURE
        }
    }
}
