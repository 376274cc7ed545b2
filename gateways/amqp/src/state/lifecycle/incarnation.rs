//! Which life of the broker this is: what is transient belongs to one, and vanishes with it.
//!
//! ```text
//! amqp/incarnation → a name ─ session of some living gateway
//! ```
//! While any gateway lives the name stays: whoever sees the key vanish (its holder left) puts it back under its own session. A gateway
//! that starts where no other lives begins a new incarnation, as RabbitMQ does when it is started: queues and exchanges that are not
//! durable and bear another name are of an earlier one.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use core_rpc::{Core, MetaCondition, MetaEntry, MetaError, MetaPut, MetaWatch, SessionId};
use gateway_runtime::identity::random_16_bytes;
use tokio_util::sync::CancellationToken;

use crate::state::CoreSession;

const KEY: &str = "amqp/incarnation";

/// How long to wait before asking a core again that could not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// How long one watch stands; it is renewed at once.
const WATCH_WAIT: Duration = Duration::from_secs(30);

/// Joins the incarnation that is, or begins one where no other gateway lives, and keeps it alive in a task that ends with `stop`.
/// Waits until the core answers. Returns its name.
pub async fn join<C: Core>(
    core: C,
    session: CoreSession,
    others_live: bool,
    stop: CancellationToken,
) -> anyhow::Result<String> {
    let own = random_16_bytes().context("no source of randomness")?;
    let own: String = own.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = loop {
        match settle_on(&core, &session, &own, others_live).await {
            Ok(name) => break name,
            Err(MetaError::Unavailable | MetaError::UnknownSession | MetaError::Conflict(_)) => {
                tokio::time::sleep(RETRY_AFTER).await;
            }
            Err(error) => bail!("cannot learn the broker's incarnation: {error}"),
        }
    };
    let kept = name.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = keep(&core, &session, &kept) => {}
        }
    });
    Ok(name)
}

async fn settle_on<C: Core>(
    core: &C,
    session: &CoreSession,
    own: &str,
    others_live: bool,
) -> Result<String, MetaError> {
    let found = core.meta_get(KEY.into()).await?;
    let condition = match found {
        Some(entry) if others_live => match String::from_utf8(entry.value.to_vec()) {
            Ok(name) => return Ok(name),
            Err(_) => MetaCondition::Version(entry.version),
        },
        // Of a gateway that died a moment ago: its session has not ended yet.
        Some(entry) => MetaCondition::Version(entry.version),
        None => MetaCondition::Absent,
    };
    put(core, own, condition, session.id()).await?;
    Ok(own.to_owned())
}

async fn put<C: Core>(core: &C, name: &str, condition: MetaCondition, session: SessionId) -> Result<u64, MetaError> {
    let value = Bytes::copy_from_slice(name.as_bytes());
    core.meta_put(MetaPut { key: KEY.into(), value, condition, session: Some(session) }).await
}

/// Puts the key back whenever it has vanished.
async fn keep<C: Core>(core: &C, session: &CoreSession, name: &str) {
    loop {
        if let Err(error) = keep_once(core, session, name).await {
            tracing::debug!(%error, "the incarnation's key was not looked at");
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }
}

async fn keep_once<C: Core>(core: &C, session: &CoreSession, name: &str) -> Result<(), MetaError> {
    let list = core.meta_list(KEY.into()).await?;
    let is_key = |entry: &MetaEntry| entry.key == KEY;
    if !list.entries.iter().any(is_key) {
        match put(core, name, MetaCondition::Absent, session.id()).await {
            Ok(_) | Err(MetaError::Conflict(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    let watch = MetaWatch { prefix: KEY.into(), after_revision: list.revision, wait: WATCH_WAIT };
    core.meta_watch(watch).await.map(drop)
}
