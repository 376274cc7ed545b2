//! A share's task: acquires what its members here have room for, from all partitions in which its filter may find messages, and
//! deals it. It runs while there are members here.

use std::sync::Arc;
use std::time::Duration;

use core_rpc::{
    AcquireMode, AcquireRequest, Core, Isolation, Lease, LeaseError, OffsetAt, PartitionId, SeekTo, SessionId,
};
use tokio::time::timeout;

use super::Shares;
use super::registry::Name;
use super::settler::holder;
use super::share::{From, Share};
use crate::now_ms;

/// The most messages of one round.
const ROUND_MESSAGES_MAX: usize = 1024;
/// The most bytes of one round. A single batch may be larger.
const ROUND_BYTES_MAX: u32 = 1 << 20;
/// The most messages of one round for a member, while there are members at other gateways: they get the next, so that of a
/// flood each gateway gets as much as it has members.
const TURN_MESSAGES_MAX: usize = 16;
/// How long one acquire stands; it is renewed at once.
const ACQUIRE_WAIT: Duration = Duration::from_secs(60);
/// How long to wait before asking a core again that could not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Where the filter matches few of what is in its topics, so many more are acquired for each that can be dealt.
const SPARSE_MAX: usize = 64;

/// What came of asking the core.
enum Round {
    /// So many matched of so many.
    Dealt {
        matched: u64,
        seen: u64,
    },
    Failed(LeaseError),
}

/// Runs until the share is over, or the gateway.
pub(super) async fn run(shares: Arc<Shares>, name: Name, share: Arc<Share>) {
    let mut topic_changes = shares.topics.changes();
    let mut lease_changes = shares.leases.changes();
    let mut partitions = Vec::new();
    let mut is_known = false;
    let mut sparse = 1;
    loop {
        if !is_known || topic_changes.has_changed().unwrap_or(false) {
            topic_changes.mark_unchanged();
            partitions = shares.partitions(&share.filter);
            is_known = true;
        }
        let session = *lease_changes.borrow_and_update();
        share.hold_under(session);
        let most = if shares.registry.is_elsewhere(&name) { TURN_MESSAGES_MAX } else { usize::MAX };
        let demand = share.demand(most);
        let round = async {
            if demand == 0 || partitions.is_empty() {
                std::future::pending::<()>().await;
            }
            take(&shares, &share, session, &partitions, demand, sparse).await
        };
        let round = tokio::select! {
            biased;
            () = shares.stop.cancelled() => return,
            () = share.over.cancelled() => return,
            // Whoever left may have been the one for whom it is.
            () = share.changed.notified() => continue,
            _ = lease_changes.changed() => continue,
            _ = topic_changes.changed() => {
                is_known = false;
                continue;
            }
            round = round => round,
        };
        match round {
            Round::Dealt { seen: 0, .. } => {}
            Round::Dealt { matched, seen } => {
                sparse = usize::try_from(seen / matched.max(1)).unwrap_or(SPARSE_MAX).clamp(1, SPARSE_MAX);
            }
            Round::Failed(error) => {
                tracing::debug!(filter = %share.filter, %error, "cannot acquire shared messages");
                shares.leases.doubt(session, error);
                // A topic that is gone is not asked for long: the change is on its way.
                let _ = timeout(RETRY_AFTER, share.changed.notified()).await;
                is_known = false;
            }
        }
    }
}

async fn take(
    shares: &Shares,
    share: &Arc<Share>,
    session: SessionId,
    partitions: &[PartitionId],
    demand: usize,
    sparse: usize,
) -> Round {
    let request = AcquireRequest {
        group: share.group.clone(),
        partitions: partitions.to_vec(),
        holder: holder(&shares.holder_prefix, session),
        lease: Lease::Session(session),
        mode: AcquireMode::Strict,
        credit_messages: demand.saturating_mul(sparse).min(ROUND_MESSAGES_MAX) as u32,
        credit_bytes: ROUND_BYTES_MAX,
        bytes_min: 1,
        window_messages: u64::MAX,
        acquisitions_max: None,
        // Where the share was made, its maps began at the end; what has none yet came later, all of it.
        start: SeekTo::At(OffsetAt::Earliest),
        isolation: Isolation::Committed,
        wait: ACQUIRE_WAIT,
    };
    let (mut matched, mut seen, mut failed) = (0, 0, None);
    for (partition, answer) in partitions.iter().zip(shares.core.acquire(request).await) {
        let acquired = match answer {
            Ok(acquired) if acquired.ranges.is_empty() => continue,
            Ok(acquired) => acquired,
            Err(error) => {
                failed = failed.or(Some(error));
                continue;
            }
        };
        // One that is gone has no messages any more; what was acquired is the core's to forget.
        let Some(known) = shares.topics.by_id(partition.topic) else { continue };
        let from = From { partition: *partition, known: &known, topics: &shares.topics };
        let dealt = share.deal(session, from, acquired, now_ms());
        dealt.wake.iter().for_each(|session| session.wake());
        if dealt.must_settle {
            shares.settler.push(share.clone());
        }
        (matched, seen) = (matched + dealt.matched, seen + dealt.seen);
    }
    match failed {
        Some(error) if seen == 0 => Round::Failed(error),
        _ => Round::Dealt { matched, seen },
    }
}
