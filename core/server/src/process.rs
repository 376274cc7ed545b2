//! The life of `polymq-core`: flags, logging, ready file, signals.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use core_process::admin::Admin;
use core_process::{logging, ready, signals, workers};
use core_rpc::client::RemoteOptions;
use core_rpc::{Address, Core, RemoteCore};

use crate::config::{Config, Flags};
use crate::metrics;
use crate::server::Server;

/// How long `--check` waits for an answer.
const CHECK_WAIT_MAX: Duration = Duration::from_secs(3);

/// Runs until SIGTERM or SIGINT, then drains. Ends the process itself only where the flags are wrong, as clap does.
pub fn run() -> anyhow::Result<()> {
    let mut flags = Flags::parse();
    if let Some(address) = flags.check.take() {
        return workers::runtime(None)?.block_on(check(address));
    }
    let config = flags.resolve()?;
    workers::runtime(config.worker_threads)?.block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let _flush = logging::start();
    // From here on, so that a signal during recovery ends the process as gracefully as any later one.
    let terminated = signals::watch()?;
    let ready_file = config.ready_file.clone();
    if let Some(path) = &ready_file {
        ready::remove(path).with_context(|| format!("cannot remove the old {}", path.display()))?;
    }
    let (data, admin_listen) = (config.data.clone(), config.admin_listen);
    let server = Server::start(config).await?;
    let source = metrics::source(server.core.clone(), data.clone());
    let admin = Admin::start(admin_listen, None, vec![source], metrics::health(server.core.clone())).await;
    let admin = admin.context("cannot serve health and metrics")?;
    if let Some(address) = &server.address {
        tracing::info!(%address, data = %data.display(), "listening");
        if let Some(path) = &ready_file {
            let mut addresses = BTreeMap::from([("core".to_owned(), address.to_string())]);
            if let Some(admin) = &admin {
                addresses.insert("admin".to_owned(), admin.address().to_string());
            }
            ready::write(path, &addresses).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    terminated.await;
    tracing::info!("stopping");
    server.stop().await;
    if let Some(path) = &ready_file {
        // Best effort: the next start removes what stays.
        let _ = ready::remove(path);
    }
    Ok(())
}

/// One call to a running core.
async fn check(address: Address) -> anyhow::Result<()> {
    RemoteCore::probe(&address).await?;
    let options = RemoteOptions { connection_wait_max: CHECK_WAIT_MAX, ..RemoteOptions::default() };
    let core = RemoteCore::with_options(address.clone(), options);
    match tokio::time::timeout(CHECK_WAIT_MAX, core.meta_get("check".to_owned())).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error).with_context(|| address.to_string()),
        Err(_) => bail!("{address} does not answer"),
    }
}
