//! The watch: what other gateways store is known here, so that any of them may take over.

use core_rpc::{Core, MetaChanges, MetaEvent, MetaWatch};
use tokio::time::Duration;

use super::{RETRY_AFTER, Transactions};
use crate::now_ms;

/// How long a watch stands before it is asked anew.
const WATCH_FOR: Duration = Duration::from_secs(60);

/// For so long another gateway's decision is left to it to carry out.
const OTHERS_FINISH_WITHIN_MS: i64 = 2_000;

impl<C: Core> Transactions<C> {
    /// Follows the changes after `revision`, for ever.
    pub(super) async fn run_watch(&self, mut revision: u64) {
        loop {
            let watch = MetaWatch { prefix: self.shared.prefix.clone(), after_revision: revision, wait: WATCH_FOR };
            match self.shared.core.meta_watch(watch).await {
                Ok(MetaChanges::Events { events, revision: next }) => {
                    for event in events {
                        self.follow(event);
                    }
                    revision = next;
                }
                Ok(MetaChanges::Relist) => match self.load_all(now_ms() + OTHERS_FINISH_WITHIN_MS).await {
                    Ok(next) => revision = next,
                    Err(_) => tokio::time::sleep(RETRY_AFTER).await,
                },
                Err(_) => tokio::time::sleep(RETRY_AFTER).await,
            }
        }
    }

    /// Tasks do it: the slot of one id may be locked for long, and the others must not wait for it. Events that are overtaken
    /// do no harm, as versions tell which is the latest.
    fn follow(&self, event: MetaEvent) {
        let transactions = self.clone();
        match event {
            MetaEvent::Put(entry) => {
                if !self.is_own(&entry.key, entry.version) {
                    tokio::spawn(async move { transactions.learn(&entry, now_ms() + OTHERS_FINISH_WITHIN_MS).await });
                }
            }
            MetaEvent::Deleted { key, revision } => {
                let slot = key.strip_prefix(&self.shared.prefix).and_then(|id| self.shared.slots.get(id));
                let Some(slot) = slot.map(|slot| slot.clone()) else { return };
                tokio::spawn(async move {
                    let mut loaded = slot.state.lock().await;
                    if loaded.version.is_some_and(|version| version < revision) {
                        // There is nothing in no entry that could not be read.
                        let _ = transactions.adopt(&slot, &mut loaded, None);
                    }
                    drop(loaded);
                    transactions.remove_if_vacant(slot);
                });
            }
        }
    }

    /// Whether the entry is known: most are this gateway's own, and then there is nothing to be done.
    fn is_own(&self, key: &str, version: u64) -> bool {
        let slot = key.strip_prefix(&self.shared.prefix).and_then(|id| self.shared.slots.get(id));
        let loaded = slot.as_ref().and_then(|slot| slot.state.try_lock().ok());
        loaded.is_some_and(|loaded| loaded.version.is_some_and(|known| known >= version))
    }
}
