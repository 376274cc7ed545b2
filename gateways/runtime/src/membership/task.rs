//! The two tasks of a membership: one keeps the session alive, one follows who is there.

use std::sync::Arc;
use std::time::Duration;

use core_rpc::{Core, MetaError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::record::Member;
use super::{Attempt, Members, Membership, RETRY_AFTER, Registrar};
use crate::mirror::{Content, Mirror};

/// The registered gateways, by their ids.
pub(super) fn members(content: &Content<Member>) -> Members {
    let mut members: Vec<Member> = content.entries.values().cloned().collect();
    members.sort_by_key(|member| member.node_id);
    Arc::new(members)
}

/// Follows who is there until `stop`.
pub(super) async fn follow(mirror: Mirror<Member>, live: watch::Sender<Members>, stop: CancellationToken) {
    let mut changes = mirror.changes();
    let following = async {
        while changes.changed().await.is_ok() {
            let members = members(&changes.borrow_and_update());
            live.send_if_modified(|before| {
                let changed = *before != members;
                if changed {
                    let ids: Vec<i32> = members.iter().map(|member| member.node_id).collect();
                    tracing::info!(?ids, "the live gateways have changed");
                    *before = members;
                }
                changed
            });
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = following => {}
    }
}

/// Renews the session until `stop`, or until it is to leave; then ends it.
pub(super) async fn keep<C: Core>(mut registrar: Registrar<C>, membership: Membership, stop: CancellationToken) {
    let leave = membership.leave.clone();
    tokio::select! {
        () = stop.cancelled() => {}
        () = leave.cancelled() => {}
        () = renew(&mut registrar, &membership) => {}
    }
    if let Some(session) = registrar.session
        && let Err(error) = registrar.core.session_close(session).await
    {
        tracing::debug!(%error, "cannot end the session");
    }
    membership.left.cancel();
}

async fn renew<C: Core>(registrar: &mut Registrar<C>, membership: &Membership) {
    let time_to_live = registrar.registration.time_to_live;
    let pause = time_to_live / 3;
    loop {
        sleep(pause).await;
        while let Err(wait) = renew_once(registrar, membership, pause).await {
            sleep(wait).await;
        }
    }
}

/// Err: after what time to try again.
async fn renew_once<C: Core>(
    registrar: &mut Registrar<C>,
    membership: &Membership,
    patience: Duration,
) -> Result<(), Duration> {
    let sent = Instant::now();
    let sure_until = sent + registrar.registration.time_to_live;
    let renewed = match registrar.session {
        Some(session) => timeout(patience, registrar.core.session_renew(session)).await,
        None => Ok(Err(MetaError::UnknownSession)),
    };
    match renewed {
        Ok(Ok(())) if is_registered(membership) => {
            *membership.sure_until.lock() = sure_until;
            return Ok(());
        }
        // Another gateway may have taken the entry (the same address was given to two).
        Ok(Ok(()) | Err(MetaError::UnknownSession)) => {}
        Ok(Err(error)) => {
            tracing::debug!(%error, "cannot renew the session");
            return Err(RETRY_AFTER);
        }
        Err(_) => return Err(Duration::ZERO),
    }
    if !is_registered(membership) || registrar.session.is_none() {
        tracing::warn!(node_id = registrar.own.node_id, "this gateway is not registered any more; registering again");
    }
    match timeout(patience, registrar.attempt(false)).await {
        Ok(Ok(Attempt::Registered)) => {
            membership.registrations.send_modify(|count| *count += 1);
            *membership.session.lock() = registrar.session;
            *membership.sure_until.lock() = sure_until;
            tracing::info!(node_id = registrar.own.node_id, "registered again");
            Ok(())
        }
        Ok(Ok(Attempt::Taken(other))) => {
            tracing::error!(
                node_id = other.node_id,
                host = other.host,
                port = other.port,
                "another gateway has this one's node id; this one coordinates nothing until that one ends"
            );
            Err(patience)
        }
        Ok(Ok(Attempt::Again)) => Err(Duration::ZERO),
        Ok(Err(_)) => Err(RETRY_AFTER),
        Err(_) => Err(Duration::ZERO),
    }
}

/// Whether the watch shows this very gateway.
fn is_registered(membership: &Membership) -> bool {
    let own = &membership.own;
    membership.live.borrow().iter().any(|member| member.incarnation == own.incarnation)
}
