//! Where log lines go: standard error, filtered by `POLYMQ_LOG` (`info` if it is not set; `warn,core_log=debug`). No thread that
//! serves anybody waits for them to be written.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

use crate::lines::{Flush, Lines};

/// Colours are for people: not for files, and not for who says so (no-color.org).
fn has_colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|said| said.is_empty())
}

/// Installs the process's logger. A second call does nothing. Keep what it returns until the process ends.
pub fn start() -> Flush {
    let wanted = std::env::var("POLYMQ_LOG").ok();
    let filter = wanted.as_deref().and_then(|wanted| wanted.parse::<Targets>().ok());
    let (lines, flush) = Lines::start(std::io::stderr());
    let started = tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().with_ansi(has_colours()).with_writer(move || lines.clone()))
        .with(filter.clone().unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO)))
        .try_init();
    if started.is_err() {
        // There is a logger already, and its lines are somebody else's to write.
        return Flush::nothing();
    }
    if let (Some(wanted), None) = (wanted, filter) {
        tracing::warn!(%wanted, "POLYMQ_LOG is no filter; logging from info on");
    }
    flush
}
