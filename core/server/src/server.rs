//! Starts a core on a directory and serves it.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;

use codec_record::Formats;
use core_log::{LocalCore, OpenError};
use core_rpc::{Address, Listener, server};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// A running core.
pub struct Server {
    /// The core itself, for who shares its process.
    pub core: LocalCore,
    /// Where it listens, with the port that was picked.
    pub address: Option<Address>,
    shutdown: CancellationToken,
    serving: Option<JoinHandle<()>>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: Address, source: io::Error },
    #[error("the data directory {} is in use by another process", .0.display())]
    InUse(PathBuf),
    #[error("cannot use the data directory {}: {source}", path.display())]
    Open { path: PathBuf, source: OpenError },
}

impl Server {
    /// Listens, opens the data, and begins to serve when all of it is recovered. Boxed, so that it is compiled here and not
    /// where it is awaited.
    pub fn start(config: Config) -> Pin<Box<dyn Future<Output = Result<Server, StartError>> + Send>> {
        Box::pin(Server::start_now(config))
    }

    async fn start_now(config: Config) -> Result<Server, StartError> {
        let Config { data, listen, engine, ready_file: _, admin_listen: _, worker_threads: _ } = config;
        let listener = match &listen {
            Some(address) => {
                let fault = |source| StartError::Listen { address: address.clone(), source };
                let listener = Listener::bind(address).await.map_err(fault)?;
                let bound = listener.address().map_err(fault)?;
                Some((listener, bound))
            }
            None => None,
        };
        let opening = tokio::task::spawn_blocking(move || open(data, engine));
        let core = opening.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;

        let shutdown = CancellationToken::new();
        let mut server = Server { core, address: None, shutdown, serving: None };
        if let Some((listener, address)) = listener {
            let serving = server::serve(server.core.clone(), listener, server.shutdown.clone());
            server.serving = Some(tokio::spawn(serving));
            server.address = Some(address);
        }
        Ok(server)
    }

    /// Answers what has been asked, writes everything to the disk and ends.
    pub async fn stop(self) {
        self.shutdown.cancel();
        if let Some(serving) = self.serving
            && serving.await.is_err()
        {
            tracing::error!("the RPC server panicked");
        }
        let core = self.core;
        if tokio::task::spawn_blocking(move || core.stop()).await.is_err() {
            tracing::error!("the core panicked while it stopped");
        }
    }
}

fn open(data: PathBuf, engine: core_log::Config) -> Result<LocalCore, StartError> {
    LocalCore::open_directory(engine, &data, Formats::all()).map_err(|error| match error {
        OpenError::Storage(error) if error.kind() == io::ErrorKind::WouldBlock => StartError::InUse(data),
        source => StartError::Open { path: data, source },
    })
}
