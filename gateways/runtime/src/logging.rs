//! Where log lines go: standard error, filtered by `POLYMQ_LOG` (`info` if it is not set; `warn,kafka_gateway=debug`).

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// Installs the process's logger. A second call does nothing.
pub fn start() {
    let wanted = std::env::var("POLYMQ_LOG").ok();
    let filter = wanted.as_deref().and_then(|wanted| wanted.parse::<Targets>().ok());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = tracing_subscriber::registry()
        .with(lines)
        .with(filter.clone().unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO)))
        .try_init();
    drop(started); // An error says only that a logger is there already.
    if let (Some(wanted), None) = (wanted, filter) {
        tracing::warn!(%wanted, "POLYMQ_LOG is no filter; logging from info on");
    }
}
