//! Where log lines go: standard error, filtered by `POLYMQ_LOG` (as `RUST_LOG`; default `info`).

use tracing_subscriber::EnvFilter;

/// Installs the process's logger. A second call does nothing.
pub fn start() {
    let filter = EnvFilter::try_from_env("POLYMQ_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let started = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    drop(started); // An error says only that a logger is there already.
}
