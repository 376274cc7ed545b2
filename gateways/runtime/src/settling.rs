//! Telling the core what was settled: in rounds, one at a time, all that was gathered meanwhile in as few calls as there are.
//!
//! Nobody waits for an acknowledgement to be kept, so it need not be on the disk when a call answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use core_rpc::{Core, LeaseError, SessionId, SettleRequest};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::core_session::CoreSession;

/// What has something to settle, and how far settling has come.
#[derive(Debug)]
pub struct Rounds<T> {
    gathered: Mutex<Vec<T>>,
    wake: Notify,
    /// Somebody waits for the next round.
    hurry: Notify,
    /// Counts rounds; changed under the lock of `gathered`: what lies there belongs to the next.
    begun: AtomicU64,
    done: watch::Sender<u64>,
}

/// What is to be settled now.
#[derive(Debug)]
pub struct Round<T> {
    pub number: u64,
    pub gathered: Vec<T>,
}

impl<T> Default for Rounds<T> {
    fn default() -> Self {
        Rounds {
            gathered: Mutex::default(),
            wake: Notify::new(),
            hurry: Notify::new(),
            begun: AtomicU64::new(0),
            done: watch::Sender::new(0),
        }
    }
}

impl<T> Rounds<T> {
    pub fn push(&self, one: T) {
        self.gathered.lock().push(one);
        self.wake.notify_one();
    }

    /// Has the next round begin at once.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// The round with which all is settled that was pushed before.
    pub fn current(&self) -> u64 {
        let gathered = self.gathered.lock();
        let begun = self.begun.load(Ordering::SeqCst);
        if gathered.is_empty() { begun } else { begun + 1 }
    }

    /// Waits until a round is over.
    pub async fn reached(&self, round: u64) {
        if *self.done.borrow() >= round {
            return;
        }
        self.hurry();
        let mut done = self.done.subscribe();
        // It fails only if all this is gone.
        let _ = done.wait_for(|done| *done >= round).await;
    }

    /// Waits until all is settled that was pushed before.
    pub async fn settled(&self) {
        self.reached(self.current()).await;
    }

    /// For the one task that settles: waits until there is something. None: `stop`, and all is settled that was pushed before.
    pub async fn next(&self, stop: &CancellationToken) -> Option<Round<T>> {
        self.next_from(Instant::now(), stop).await
    }

    /// As [`Rounds::next`], and gathers until `not_before`, unless somebody waits for the round.
    pub async fn next_from(&self, not_before: Instant, stop: &CancellationToken) -> Option<Round<T>> {
        let stopping = tokio::select! {
            biased;
            () = self.wake.notified() => false,
            () = stop.cancelled() => true,
        };
        if !stopping && not_before > Instant::now() {
            tokio::select! {
                biased;
                () = self.hurry.notified() => {}
                () = stop.cancelled() => {}
                () = sleep_until(not_before) => {}
            }
        }
        let mut gathered = self.gathered.lock();
        if stopping && gathered.is_empty() {
            return None;
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        Some(Round { number, gathered: std::mem::take(&mut *gathered) })
    }

    /// For the same: what `next` gave is settled.
    pub fn finish(&self, round: u64) {
        self.done.send_replace(round);
    }
}

/// Makes calls side by side, for one vhost's or share's disk need not wait for another's; each is held under the session beside it.
/// `lost` is what the log is told of what was not kept.
pub async fn settle(
    core: &impl Core,
    leases: &CoreSession,
    requests: impl IntoIterator<Item = (SessionId, SettleRequest)>,
    lost: &str,
) {
    let calls = requests.into_iter().map(|(session, request)| {
        Box::pin(async move {
            let answer = core.settle(request).await;
            // What is gone (Passed, UnknownPartition) or was given to others (NotHeld) is nobody's fault.
            let mut failed = answer.iter().flatten().filter_map(|answer| answer.err()).filter(|error| {
                !matches!(error, LeaseError::NotHeld | LeaseError::Passed | LeaseError::UnknownPartition)
            });
            if let Some(error) = failed.next() {
                tracing::warn!(%error, "{lost}");
                // It may be that they are still held, by nobody.
                leases.doubt(session, error);
            }
        })
    });
    let mut running: Vec<_> = calls.collect();
    std::future::poll_fn(|context| {
        running.retain_mut(|call| call.as_mut().poll(context).is_pending());
        if running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_comes_while_a_round_is_done_is_for_the_next() {
        let (rounds, stop) = (Rounds::default(), CancellationToken::new());
        rounds.settled().await;
        rounds.push("a");
        rounds.push("b");
        let first = rounds.next(&stop).await.unwrap();
        assert_eq!((first.number, &*first.gathered, rounds.current()), (1, &["a", "b"][..], 1));
        rounds.push("c");
        assert_eq!(rounds.current(), 2);
        rounds.finish(first.number);
        rounds.reached(1).await;
        stop.cancel();
        // What was pushed before the end is settled all the same.
        let second = rounds.next(&stop).await.unwrap();
        assert_eq!((second.number, &*second.gathered), (2, &["c"][..]));
        rounds.finish(second.number);
        rounds.settled().await;
        assert!(rounds.next(&stop).await.is_none());
    }

    #[tokio::test]
    async fn a_round_gathers_for_a_while_unless_somebody_waits_for_it() {
        let (rounds, stop) = (Rounds::default(), CancellationToken::new());
        let begun = Instant::now();
        rounds.push("a");
        let first = rounds.next_from(begun + Duration::from_millis(5), &stop).await.unwrap();
        assert!(first.number == 1 && begun.elapsed() >= Duration::from_millis(5));
        rounds.finish(first.number);
        rounds.push("b");
        let settling = async {
            let second = rounds.next_from(begun + Duration::from_secs(3600), &stop).await.unwrap();
            rounds.finish(second.number);
        };
        tokio::join!(settling, rounds.settled());
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
