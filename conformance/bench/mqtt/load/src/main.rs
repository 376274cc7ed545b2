//! `mqtt-load`: makes load on any MQTT broker and says what came of it, as one line of JSON.
//!
//! One thread, hand-made bytes: so that on a small machine the broker is the limit, and not this.

mod client;
mod connects;
mod credit;
mod flow;
mod histogram;
mod meter;
mod options;
mod packets;
mod publisher;
mod retained;
mod subscriber;

use std::process::ExitCode;

use clap::Parser;
use tokio::task::LocalSet;

use crate::options::Options;

fn main() -> ExitCode {
    meter::raise_file_limit();
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(Into::into).and_then(|it| LocalSet::new().block_on(&it, options.command.run(&options)));
    if let Err(error) = done {
        eprintln!("mqtt-load: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
