//! Keeps a [`super::RemoteCore`]'s connection: connects when a call waits, reads answers, connects again.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::calls::Calls;
use super::{ConnectError, Halves, open};
use crate::wire::frame::{FrameError, decode};
use crate::wire::message::{Answer, Request};
use crate::wire::outbox::Outbox;
use crate::wire::reader::{FrameReader, ReadError};
use crate::wire::{CLIENT_SILENCE_MAX, PING_AFTER};

#[derive(Debug, thiserror::Error)]
enum BreakReason {
    #[error("the core closed the connection")]
    Closed,
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("writing failed: {0}")]
    Write(std::io::Error),
    #[error("the core is silent")]
    Silent,
}

/// Whatever ends this task, no call may wait for it in vain.
struct Keeper(Arc<Calls>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abandoned();
    }
}

/// Runs until the last user has gone.
pub async fn keep(calls: Arc<Calls>) {
    let _keeper = Keeper(calls.clone());
    let mut pause = calls.options.pause_min;
    let mut complained = false;
    loop {
        while !calls.has_waiting() {
            if calls.has_left() {
                return;
            }
            calls.wake.notified().await;
        }
        match connect(&calls).await {
            Ok(halves) => {
                complained = false;
                let answered = converse(&calls, halves).await;
                if answered {
                    pause = calls.options.pause_min;
                    continue;
                }
            }
            Err(error) => {
                if !complained {
                    tracing::warn!(%error, "the core is unavailable");
                    complained = true;
                }
            }
        }
        rest(&calls, Instant::now() + pause).await;
        pause = (pause * 2).min(calls.options.pause_max);
    }
}

/// Connects; meanwhile calls that have waited too long are told so.
async fn connect(calls: &Calls) -> Result<Halves, ConnectError> {
    let opening = open(calls.address(), &calls.options);
    tokio::pin!(opening);
    loop {
        let expiry = calls.expire(Instant::now());
        tokio::select! {
            opened = &mut opening => return opened,
            _ = sleep_until(expiry.unwrap_or_else(Instant::now)), if expiry.is_some() => {}
            // A new call expires after those that wait already.
            _ = calls.wake.notified(), if expiry.is_none() => {}
        }
    }
}

async fn rest(calls: &Calls, until: Instant) {
    loop {
        let now = Instant::now();
        let expiry = calls.expire(now);
        if now >= until || (calls.has_left() && !calls.has_waiting()) {
            return;
        }
        tokio::select! {
            _ = sleep_until(expiry.map_or(until, |expiry| expiry.min(until))) => {}
            _ = calls.wake.notified(), if expiry.is_none() => {}
        }
    }
}

/// Sends calls and reads answers until the connection breaks; returns whether anything was heard.
async fn converse(calls: &Arc<Calls>, (read, write): Halves) -> bool {
    let outbox = Arc::new(Outbox::default());
    calls.connected(&outbox);
    let sending = outbox.clone();
    let mut writer = tokio::spawn(async move { sending.run(write).await });

    let mut heard = false;
    let reason = listen(calls, FrameReader::new(read), &mut writer, &mut heard).await;
    writer.abort();
    calls.disconnected();
    if !calls.has_left() {
        tracing::warn!(address = %calls.address(), %reason, "the connection to the core broke");
    }
    heard
}

async fn listen(
    calls: &Arc<Calls>,
    mut reader: FrameReader<crate::wire::address::ReadHalf>,
    writer: &mut JoinHandle<std::io::Result<()>>,
    heard: &mut bool,
) -> BreakReason {
    let mut last = Instant::now();
    let silence = sleep_until(last + PING_AFTER);
    tokio::pin!(silence);
    let mut writing = true;
    loop {
        loop {
            let frame = match reader.buffered() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return error.into(),
            };
            match decode::<Answer>(frame) {
                Ok(received) => calls.answer(received.call, received.message, received.batches),
                Err(error) => return error.into(),
            }
            *heard = true;
        }
        tokio::select! {
            filled = reader.fill() => match filled {
                Ok(true) => last = Instant::now(),
                Ok(false) => return BreakReason::Closed,
                Err(error) => return error.into(),
            },
            written = &mut *writer, if writing => match written {
                // The last user left and everything is sent; the server answers, then closes.
                Ok(Ok(())) => writing = false,
                Ok(Err(error)) => return BreakReason::Write(error),
                Err(error) => return BreakReason::Write(std::io::Error::other(error)),
            },
            _ = &mut silence => {
                let silent = last.elapsed();
                if silent >= CLIENT_SILENCE_MAX {
                    return BreakReason::Silent;
                }
                if silent >= PING_AFTER {
                    calls.tell(&Request::Ping);
                    silence.as_mut().reset(Instant::now() + PING_AFTER);
                } else {
                    silence.as_mut().reset(last + PING_AFTER);
                }
            }
        }
    }
}
