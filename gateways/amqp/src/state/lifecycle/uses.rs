//! Queues that go when nobody uses them: `x-expires`, and auto-delete with the last consumer.
//!
//! ```text
//! amqp-use/<vhost>/<queue>/<node id> → {}   ─ session of a gateway that has consumers of it
//! amqp-use/<vhost>/<queue>/last      → ms   when it was last used otherwise: declared (passively, too), asked with basic.get, its consumers left
//! ```
//! (Not under `amqp/`: they change often, and nobody routes by them.) Only such queues have these keys. The queue's owner (rendezvous hashing) keeps the deadlines; a gateway that dies takes its keys
//! along, which is as if its consumers had left at that moment. As in RabbitMQ a start begins the time anew.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use core_rpc::{Core, MetaCondition, MetaEntry, MetaError, MetaPut, TopicId, key_part, name_of_key_part};
use gateway_runtime::{Deadlines, Mirror};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Lifecycle;
use crate::now_ms;
use crate::state::topology::{Queue, QueueEvent};

const PREFIX: &str = "amqp-use/";
const LAST: &str = "last";

/// Uses that follow within this part of the time to expire are written down once.
const LAST_EVERY: u64 = 4;
/// But not oftener than that, and not rarer, ms.
const LAST_EVERY_MS: std::ops::RangeInclusive<u64> = 20..=5000;

const RETRY_AFTER: Duration = Duration::from_millis(500);

/// What this gateway notes of the queues that can go.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// Whether our key is there; locked while it is changed.
    marked: dashmap::DashMap<TopicId, Arc<tokio::sync::Mutex<bool>>>,
    /// What was noted of the last use.
    noted: dashmap::DashMap<TopicId, Noted>,
    /// The queues that can go.
    mortal: Mutex<HashMap<TopicId, Arc<Queue>>>,
    changed: Notify,
}

/// The last use of a queue that is no consumer.
#[derive(Clone, Copy, Debug)]
struct Noted {
    last_ms: i64,
    /// When it was written. What lies ahead is when it will be: somebody waits to do it.
    written_ms: i64,
}

/// What the keys say of one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Use {
    has_consumers: bool,
    last_ms: i64,
}

fn is_mortal(queue: &Queue) -> bool {
    queue.record.auto_delete || queue.config().expires_ms.is_some()
}

fn prefix_of(queue: &Queue) -> String {
    format!("{PREFIX}{}/{}/", key_part(queue.vhost()), key_part(queue.name()))
}

/// By vhost and name.
fn uses(entries: &BTreeMap<String, i64>) -> HashMap<(String, String), Use> {
    let mut uses: HashMap<(String, String), Use> = HashMap::new();
    for (key, ms) in entries {
        let mut parts = key.strip_prefix(PREFIX).unwrap_or_default().splitn(3, '/');
        let (Some(vhost), Some(queue), Some(who)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let found = uses.entry((name_of_key_part(vhost).into(), name_of_key_part(queue).into())).or_default();
        match who {
            LAST => found.last_ms = *ms,
            _ => found.has_consumers = true,
        }
    }
    uses
}

fn decode(entry: &MetaEntry) -> Option<i64> {
    Some(std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok()).unwrap_or(0))
}

impl<C: Core> Lifecycle<C> {
    /// A consumer of the queue came or left at this gateway: called when it is so; returns when the others can know, and an auto-delete
    /// queue without consumers is gone.
    pub async fn consumers_changed(&self, queue: &Arc<Queue>) {
        if !is_mortal(queue) {
            return;
        }
        let lock = self.shared.uses.marked.entry(queue.topic()).or_default().clone();
        let mut marked = lock.lock().await;
        let has_consumers = self.shared.consumers(queue.topic()) > 0;
        if *marked == has_consumers {
            return;
        }
        let key = format!("{}{}", prefix_of(queue), self.shared.membership.own().node_id);
        let done = if has_consumers {
            let session = Some(self.shared.session.id());
            let put = MetaPut { key, value: Bytes::from_static(b"{}"), condition: MetaCondition::Always, session };
            self.shared.core.meta_put(put).await.map(drop)
        } else {
            self.note_use(queue, now_ms()).await;
            self.shared.core.meta_delete(key, MetaCondition::Always).await
        };
        match done {
            Ok(()) => *marked = has_consumers,
            Err(error) => {
                tracing::warn!(queue = %queue.name(), %error, "the others do not know of the queue's consumers")
            }
        }
        if !has_consumers && queue.record.auto_delete && self.is_unused(queue).await {
            drop(marked);
            self.remove_queue(queue, "its last consumer is gone").await;
        }
    }

    /// The queue was declared, passively or not, or asked with basic.get.
    pub async fn used(&self, queue: &Arc<Queue>) {
        let Some(expires_ms) = queue.config().expires_ms else { return };
        let now_ms = now_ms();
        let every_ms = (expires_ms / LAST_EVERY).clamp(*LAST_EVERY_MS.start(), *LAST_EVERY_MS.end()) as i64;
        let fresh = Noted { last_ms: now_ms, written_ms: i64::MIN };
        let later_ms = {
            let mut noted = self.shared.uses.noted.entry(queue.topic()).or_insert(fresh);
            noted.last_ms = now_ms;
            let next_ms = noted.written_ms.saturating_add(every_ms);
            if noted.written_ms > now_ms {
                return;
            }
            noted.written_ms = next_ms.max(now_ms);
            (next_ms > now_ms).then(|| next_ms - now_ms)
        };
        match later_ms {
            None => self.note_use(queue, now_ms).await,
            Some(later_ms) => drop(tokio::spawn(self.clone().note_later(queue.clone(), later_ms as u64))),
        }
    }

    /// Writes the last use of those that came too soon after each other: in time, as it is sooner than the queue could expire.
    async fn note_later(self, queue: Arc<Queue>, later_ms: u64) {
        tokio::select! {
            () = self.shared.stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(later_ms)) => {}
        }
        // It was deleted: nothing is noted of it any more.
        let Some(noted) = self.shared.uses.noted.get(&queue.topic()).map(|noted| *noted) else { return };
        self.note_use(&queue, noted.last_ms).await;
    }

    async fn note_use(&self, queue: &Queue, now_ms: i64) {
        if queue.config().expires_ms.is_none() {
            return;
        }
        let put = MetaPut {
            key: format!("{}{LAST}", prefix_of(queue)),
            value: now_ms.to_string().into(),
            condition: MetaCondition::Always,
            session: None,
        };
        if let Err(error) = self.shared.core.meta_put(put).await {
            tracing::warn!(queue = %queue.name(), %error, "the queue's use was not noted");
        }
    }

    /// What the core says now: nobody has consumers.
    async fn is_unused(&self, queue: &Queue) -> bool {
        self.current_use(queue).await.is_ok_and(|found| !found.has_consumers)
    }

    async fn current_use(&self, queue: &Queue) -> Result<Use, MetaError> {
        let list = self.shared.core.meta_list(prefix_of(queue)).await?;
        let entries = list.entries.iter().filter_map(|entry| Some((entry.key.clone(), decode(entry)?))).collect();
        Ok(uses(&entries).into_values().next().unwrap_or_default())
    }

    pub(super) fn note_mortal(&self, event: &QueueEvent) {
        let uses = &self.shared.uses;
        let changed = match event {
            QueueEvent::Put(queue) if is_mortal(queue) => {
                uses.mortal.lock().insert(queue.topic(), queue.clone());
                true
            }
            QueueEvent::Put(queue) => uses.mortal.lock().remove(&queue.topic()).is_some(),
            QueueEvent::Removed(queue) => {
                uses.marked.remove(&queue.topic());
                uses.noted.remove(&queue.topic());
                let was_mortal = uses.mortal.lock().remove(&queue.topic()).is_some();
                if was_mortal && self.owns(queue) {
                    let (lifecycle, queue) = (self.clone(), queue.clone());
                    tokio::spawn(async move { lifecycle.forget_uses(&queue).await });
                }
                was_mortal
            }
        };
        if changed {
            uses.changed.notify_one();
        }
    }

    async fn forget_uses(&self, queue: &Queue) {
        // One of the same name that was made meanwhile keeps what is its own.
        if self.shared.topology.queue(queue.vhost(), queue.name()).is_some() {
            return;
        }
        let Ok(list) = self.shared.core.meta_list(prefix_of(queue)).await else { return };
        for entry in list.entries {
            let _ = self.shared.core.meta_delete(entry.key, MetaCondition::Version(entry.version)).await;
        }
    }

    /// Deletes what nobody uses, until the gateway stops.
    pub(super) async fn bury_unused(self) -> anyhow::Result<()> {
        let shared = &self.shared;
        let keys = Mirror::start(shared.core.clone(), PREFIX.into(), decode, shared.stop.clone()).await?;
        let (mut key_changes, mut member_changes) = (keys.changes(), shared.membership.changes());
        // Since when nobody has consumed, as far as this gateway saw it.
        let mut idle_since: HashMap<TopicId, i64> = HashMap::new();
        let mut had_consumers: HashSet<TopicId> = HashSet::new();
        let mut deadlines: Deadlines<TopicId> = Deadlines::default();
        loop {
            member_changes.borrow_and_update();
            let uses = uses(&key_changes.borrow_and_update().entries);
            let mortal = shared.uses.mortal.lock().clone();
            idle_since.retain(|topic, _| mortal.contains_key(topic));
            had_consumers.retain(|topic| mortal.contains_key(topic));
            let mut orphans = Vec::new();
            for (topic, queue) in &mortal {
                deadlines.remove(topic);
                let found = uses.get(&(queue.vhost().to_owned(), queue.name().to_owned())).copied().unwrap_or_default();
                if found.has_consumers {
                    idle_since.remove(topic);
                    had_consumers.insert(*topic);
                    continue;
                }
                let since_ms = *idle_since.entry(*topic).or_insert_with(now_ms);
                if !self.owns(queue) {
                    continue;
                }
                if had_consumers.remove(topic) && queue.record.auto_delete {
                    orphans.push(queue.clone());
                } else if let Some(expires_ms) = queue.config().expires_ms {
                    let expires_ms = i64::try_from(expires_ms).unwrap_or(i64::MAX);
                    deadlines.set(*topic, since_ms.max(found.last_ms).saturating_add(expires_ms));
                }
            }
            for queue in orphans {
                if self.is_unused(&queue).await {
                    self.remove_queue(&queue, "its last consumer is gone").await;
                }
            }
            let due = async {
                match deadlines.next_ms() {
                    Some(at_ms) => {
                        let left = at_ms.saturating_sub(now_ms()).max(0) as u64;
                        tokio::time::sleep(Duration::from_millis(left)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shared.stop.cancelled() => return Ok(()),
                changed = key_changes.changed() => changed?,
                changed = member_changes.changed() => changed?,
                () = shared.uses.changed.notified() => {}
                () = due => {
                    for topic in deadlines.take_due(now_ms()) {
                        if let Some(queue) = mortal.get(&topic) {
                            self.bury(queue).await;
                        }
                    }
                }
            }
        }
    }

    /// Its time is over, unless it was used a moment ago.
    async fn bury(&self, queue: &Arc<Queue>) {
        let Some(expires_ms) = queue.config().expires_ms else { return };
        match self.current_use(queue).await {
            Ok(found) if found.has_consumers => {}
            Ok(found) if found.last_ms.saturating_add_unsigned(expires_ms) > now_ms() => {}
            Ok(_) => self.remove_queue(queue, "nobody used it").await,
            Err(error) => {
                tracing::debug!(queue = %queue.name(), %error, "it is not known whether the queue is used");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_say_who_uses_what() {
        let entries = BTreeMap::from([
            ("amqp-use/%2F/a%2Fb/1".to_owned(), 0),
            ("amqp-use/%2F/a%2Fb/last".to_owned(), 70),
            ("amqp-use/v/idle/last".to_owned(), 80),
        ]);
        let uses = uses(&entries);
        assert_eq!(uses[&("/".to_owned(), "a/b".to_owned())], Use { has_consumers: true, last_ms: 70 });
        assert_eq!(uses[&("v".to_owned(), "idle".to_owned())], Use { has_consumers: false, last_ms: 80 });
    }
}
