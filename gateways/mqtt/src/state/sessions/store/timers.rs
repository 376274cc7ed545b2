//! Sessions that expire and wills whose delay is over: one queue of deadlines, one task.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use codec_mqtt::Text;
use gateway_runtime::Deadlines;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::Shared;
use super::close::End;
use super::kept::Kept;

/// So many are looked after at once when many are due.
const AT_ONCE: usize = 64;

/// How long to sleep where nothing is due: a deadline that is set wakes.
const IDLE: Duration = Duration::from_secs(3600);

#[derive(Debug, Default)]
pub(super) struct Timers {
    deadlines: Mutex<Deadlines<Text>>,
    earlier: Notify,
    expired: AtomicU64,
}

impl Timers {
    fn set(&self, client_id: &Text, at_ms: i64) {
        if self.deadlines.lock().set(client_id.clone(), at_ms) {
            self.earlier.notify_one();
        }
    }

    /// Sessions that have expired.
    pub fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    pub fn remove(&self, client_id: &Text) {
        self.deadlines.lock().remove(client_id);
    }
}

impl Shared {
    /// To be looked at when it is due. For a session without a connection.
    pub(super) fn schedule(&self, kept: &Kept) {
        let due_ms = kept.state.lock().due_ms();
        match due_ms {
            Some(due_ms) => self.timers.set(&kept.session.client_id, due_ms),
            None => self.timers.remove(&kept.session.client_id),
        }
    }

    pub(super) async fn follow_timers(self: Arc<Self>) {
        let mut tending = JoinSet::new();
        loop {
            // What is due for a session that another has gone on with is not this gateway's to do.
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.certain() => {}
            }
            let now_ms = crate::now_ms();
            let due = self.timers.deadlines.lock().take_due(now_ms);
            for client_id in due {
                if tending.len() >= AT_ONCE {
                    tending.join_next().await;
                }
                tending.spawn(self.clone().tend(client_id));
            }
            while tending.try_join_next().is_some() {}
            let next_ms = self.timers.deadlines.lock().next_ms();
            let wait = next_ms.map_or(IDLE, |next_ms| {
                Duration::from_millis(u64::try_from(next_ms.saturating_sub(crate::now_ms())).unwrap_or(0)).min(IDLE)
            });
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.timers.earlier.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Something of a session is due.
    async fn tend(self: Arc<Self>, client_id: Text) {
        let _turn = self.turns.take(&client_id).await;
        let Some(kept) = self.kept(&client_id) else { return };
        let now_ms = crate::now_ms();
        let is_due = |at_ms: Option<i64>| at_ms.is_some_and(|at_ms| at_ms <= now_ms);
        let (is_expired, is_will_due) = {
            let state = kept.state.lock();
            (is_due(state.expires_ms()), is_due(state.will_due_ms()))
        };
        if is_expired {
            tracing::debug!(client = %client_id, "a session has expired");
            self.timers.expired.fetch_add(1, Ordering::Relaxed);
            self.end(&kept, End::Over).await;
            return;
        }
        if is_will_due {
            self.publish_will(&kept).await;
            self.queue.post(vec![super::writer::Job::Record(kept.clone())]);
        }
        self.schedule(&kept);
    }
}
