//! The signals that end a process gracefully.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGTERM or SIGINT.
pub async fn terminated() -> io::Result<()> {
    watch()?.await;
    Ok(())
}

/// Ready when SIGTERM or SIGINT has come; from this call on, neither ends the process by itself.
pub fn watch() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
