//! The one who writes the store's records: one append at a time, and what comes meanwhile shares the next (group commit).
//!
//! So a session's records lie in the log in the order of what they tell, and what is written is as new as can be: it is taken from
//! the session when the append begins.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use codec_record::mqtt_message::{MessageParts, Writer as BatchWriter};
use core_rpc::{Append, AppendRequest, Core, PartitionId};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::Shared;
use super::kept::{Kept, Written};
use super::keys::Key;
use crate::state::PublishError;

/// Bytes of one append, but for a record that is larger.
const APPEND_BYTES_MAX: usize = 4 << 20;

/// How long to wait before trying again what must be written.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Something to write.
#[derive(Debug)]
pub(super) enum Job {
    /// What the log does not say of a session yet.
    Record(Arc<Kept>),
    /// Only what it has released of what it received.
    Released(Arc<Kept>),
    Entry(String, Bytes),
}

#[derive(Debug)]
struct Ask {
    jobs: Vec<Job>,
    /// None: nobody waits for it, and it is tried until it succeeds.
    done: Option<oneshot::Sender<Result<Ends, PublishError>>>,
}

/// Where an append ended, by partition.
pub(super) type Ends = Arc<Vec<(PartitionId, u64)>>;

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Queue {
    asks: Mutex<VecDeque<Ask>>,
    more: Notify,
}

impl Queue {
    /// Returns when it is durable, and where.
    pub async fn write(&self, jobs: Vec<Job>) -> Result<Ends, PublishError> {
        if jobs.is_empty() {
            return Ok(Ends::default());
        }
        let (done, answer) = oneshot::channel();
        self.push(Ask { jobs, done: Some(done) });
        answer.await.unwrap_or(Err(PublishError::Unavailable))
    }

    /// Sees to it that it is written.
    pub fn post(&self, jobs: Vec<Job>) {
        if !jobs.is_empty() {
            self.push(Ask { jobs, done: None });
        }
    }

    fn push(&self, ask: Ask) {
        self.asks.lock().push_back(ask);
        self.more.notify_one();
    }
}

/// What one append has.
#[derive(Default)]
struct Group {
    batches: HashMap<PartitionId, BatchWriter>,
    bytes: usize,
    sessions: Vec<(Arc<Kept>, Written)>,
    asks: Vec<Ask>,
}

impl Shared {
    /// Writes until the gateway stops.
    pub(super) async fn write_all(self: Arc<Self>) {
        loop {
            let group = self.gather();
            if group.asks.is_empty() && group.batches.is_empty() {
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = self.queue.more.notified() => {}
                }
                continue;
            }
            if let Err(again) = self.append(group).await {
                // In front of what came later: a key's records stay in order.
                {
                    let mut asks = self.queue.asks.lock();
                    again.into_iter().rev().for_each(|ask| asks.push_front(ask));
                }
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = tokio::time::sleep(RETRY_AFTER) => {}
                }
            }
        }
    }

    fn gather(&self) -> Group {
        let mut group = Group::default();
        let mut seen: HashSet<*const Kept> = HashSet::new();
        while group.bytes < APPEND_BYTES_MAX {
            let Some(ask) = self.queue.asks.lock().pop_front() else { break };
            let mut is_written = true;
            for job in &ask.jobs {
                match job {
                    Job::Entry(key, payload) => self.put(&mut group, key, payload),
                    Job::Released(kept) => {
                        if !seen.contains(&Arc::as_ptr(kept)) {
                            let written = kept.write_released();
                            self.put_session(&mut group, kept, written);
                        }
                    }
                    Job::Record(kept) => {
                        if seen.insert(Arc::as_ptr(kept)) {
                            match kept.write(self.own, &self.router) {
                                Ok(written) => self.put_session(&mut group, kept, written),
                                Err(error) => {
                                    tracing::error!(client = %kept.session.client_id, %error, "it cannot be written");
                                    is_written = false;
                                }
                            }
                        }
                    }
                }
            }
            match ask.done {
                Some(done) if !is_written => drop(done.send(Err(PublishError::TooLarge))),
                done => group.asks.push(Ask { done, ..ask }),
            }
        }
        group
    }

    fn put_session(&self, group: &mut Group, kept: &Arc<Kept>, written: Written) {
        for (key, payload) in &written.entries {
            self.put(group, key, payload);
        }
        group.sessions.push((kept.clone(), written));
    }

    fn put(&self, group: &mut Group, key: &str, payload: &Bytes) {
        let Some(partition) = Key::parse(key.as_bytes()).map(|key| self.partition(&key)) else { return };
        let parts = MessageParts { topic: key.as_bytes(), payload, ..MessageParts::default() };
        group.bytes += parts.stored_bytes();
        group.batches.entry(partition).or_default().append(&parts);
    }

    /// Err: what must be tried again.
    async fn append(&self, group: Group) -> Result<(), Vec<Ask>> {
        let batches = group.batches.into_iter().filter_map(|(partition, mut writer)| {
            let count = u64::from(writer.count());
            Some((partition, count, writer.take(-1)?))
        });
        let (mut places, mut appends) = (Vec::new(), Vec::new());
        for (partition, count, batch) in batches {
            places.push((partition, count));
            appends.push(Append { partition, batch });
        }
        let mut result = Ok(Vec::with_capacity(places.len()));
        if !appends.is_empty() {
            let answers = self.core.append(AppendRequest { appends }).await;
            for ((partition, count), answer) in places.into_iter().zip(answers) {
                match answer {
                    Ok(appended) => {
                        if let Ok(ends) = &mut result {
                            ends.push((partition, appended.base_offset + count));
                        }
                    }
                    Err(error) => result = Err(PublishError::from(error)),
                }
            }
        }
        let result = result.map(Arc::new);
        if result.is_ok() {
            group.sessions.iter().for_each(|(kept, written)| kept.note(written));
        }
        let mut again = Vec::new();
        for ask in group.asks {
            match (ask.done, &result) {
                // Whoever does not wait any more does not need it.
                (Some(done), result) => drop(done.send(result.clone())),
                (None, Ok(_)) => {}
                (None, Err(error)) => {
                    tracing::warn!(%error, "records of sessions are not kept yet");
                    again.push(Ask { jobs: ask.jobs, done: None });
                }
            }
        }
        if again.is_empty() { Ok(()) } else { Err(again) }
    }
}
