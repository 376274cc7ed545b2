//! The tail of one topic: reads what is appended, and pushes it to whoever wants it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use codec_record::Batch;
use codec_record::translate::{mqtt_messages_where, names};
use core_rpc::{Core, FetchError, FetchPartition, FetchRequest, Fetched, Isolation, PartitionId};
use tokio::sync::{mpsc, watch};

use super::missed::{Missed, Reading};
use super::targets::{self, Target};
use super::{RETRY_AFTER, Shared};
use crate::state::sessions::Session;
use crate::state::topics::Known;
use crate::translate;

/// Read at once: some milliseconds of work, so that connections get their turn between.
const BYTES_MAX: u32 = 512 << 10;

/// How long a fetch stands; it is renewed at once.
const WAIT: Duration = Duration::from_secs(30);

/// Names whose targets are remembered.
const REMEMBERED_MAX: usize = 10_000;

pub struct Tail {
    shared: Arc<Shared>,
    known: Known,
    positions: Arc<[AtomicU64]>,
    moves: watch::Sender<()>,
    asked: mpsc::UnboundedReceiver<Missed>,
    /// Who wants a name, as of a generation of the trie.
    remembered: (u64, HashMap<Bytes, Arc<[Target]>>),
}

/// Why a tail does not go on.
struct Gone;

impl Tail {
    pub(super) fn new(
        shared: Arc<Shared>,
        known: Known,
        positions: Arc<[AtomicU64]>,
        moves: watch::Sender<()>,
        asked: mpsc::UnboundedReceiver<Missed>,
    ) -> Tail {
        Tail { shared, known, positions, moves, asked, remembered: (0, HashMap::new()) }
    }

    /// Runs until the topic is gone.
    pub(super) async fn run(mut self) {
        loop {
            let request = self.request(|index| self.positions[index].load(Ordering::Relaxed), WAIT);
            let core = self.shared.core.clone();
            let stepped = tokio::select! {
                biased;
                Some(missed) = self.asked.recv() => self.catch_up(missed).await,
                answers = core.fetch(request) => self.step(answers).await,
            };
            if stepped.is_err() {
                return;
            }
        }
    }

    fn partition(&self, index: usize) -> PartitionId {
        PartitionId { topic: self.known.topic.id, index: index as u32 }
    }

    fn request(&self, offset: impl Fn(usize) -> u64, wait: Duration) -> FetchRequest {
        let partition =
            |index| FetchPartition { partition: self.partition(index), offset: offset(index), bytes_max: BYTES_MAX };
        FetchRequest {
            partitions: (0..self.positions.len()).map(partition).collect(),
            bytes_min: 1,
            bytes_max: BYTES_MAX,
            wait,
            isolation: Isolation::Committed,
        }
    }

    /// Pushes what has come.
    async fn step(&mut self, answers: Vec<Result<Fetched, FetchError>>) -> Result<(), Gone> {
        let mut woken: Vec<Arc<Session>> = Vec::new();
        let mut is_unavailable = false;
        for (index, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(fetched) => {
                    for batch in &fetched.batches {
                        if !is_aborted(&fetched, batch) {
                            self.push(index, batch, &mut woken);
                        }
                        self.positions[index].store(batch.header.next_offset(), Ordering::Release);
                    }
                }
                Err(error) => is_unavailable |= self.look(index, error)?,
            }
        }
        woken.iter().for_each(|session| session.wake());
        self.moves.send_replace(());
        if is_unavailable {
            tokio::time::sleep(RETRY_AFTER).await;
        }
        Ok(())
    }

    /// What to do about a partition that cannot be read. True: try again later.
    fn look(&self, index: usize, error: FetchError) -> Result<bool, Gone> {
        let position = &self.positions[index];
        match error {
            FetchError::UnknownPartition => Err(Gone),
            FetchError::OutOfRange(bounds) => {
                let at = position.load(Ordering::Relaxed);
                let to = if at < bounds.start_offset { bounds.start_offset } else { bounds.stable_offset };
                tracing::warn!(
                    topic = self.known.topic.name,
                    index,
                    at,
                    to,
                    "messages are gone before they were routed"
                );
                position.store(to, Ordering::Release);
                Ok(false)
            }
            FetchError::Corrupt => {
                let at = position.fetch_add(1, Ordering::AcqRel);
                tracing::error!(topic = self.known.topic.name, index, at, "a message is damaged and is not routed");
                Ok(false)
            }
            FetchError::StorageFailed | FetchError::Unavailable => Ok(true),
        }
    }

    fn push(&mut self, index: usize, batch: &Batch, woken: &mut Vec<Arc<Session>>) {
        let generation = self.shared.trie.read().generation();
        if self.remembered.0 != generation || self.remembered.1.len() > REMEMBERED_MAX {
            self.remembered = (generation, HashMap::new());
        }
        let from = self.positions[index].load(Ordering::Relaxed);
        let (known, topics) = (self.known.clone(), self.shared.topics.clone());
        let belongs = |name: &str| topics.belongs(name, &known);
        let views = mqtt_messages_where(batch, &known.topic.name, &belongs);
        // Of a batch that is damaged those before.
        for view in views.into_iter().flatten().map_while(Result::ok) {
            if batch.header.base_offset + u64::from(view.position) < from {
                continue;
            }
            let targets = match self.remembered.1.get(&view.topic) {
                Some(targets) => targets.clone(),
                None => {
                    // It is a name: whoever wrote it has checked it.
                    let name = std::str::from_utf8(&view.topic).unwrap_or_default();
                    let targets = targets::find(&self.shared.trie.read(), name);
                    self.remembered.1.insert(Bytes::copy_from_slice(&view.topic), targets.clone());
                    targets
                }
            };
            if targets.is_empty() {
                continue;
            }
            let Some(message) = translate::message(&batch.header, view, self.partition(index)) else { continue };
            let message = Arc::new(message);
            for target in targets.iter() {
                if target.session.push(&message, &target.wishes) {
                    woken.push(target.session.clone());
                }
            }
        }
    }

    /// Reads again what sessions have missed, up to where the tail is. Meanwhile nothing else is pushed of this topic: what they
    /// are to get next comes behind it.
    async fn catch_up(&mut self, missed: Missed) -> Result<(), Gone> {
        let to = self.positions.iter().map(|position| position.load(Ordering::Relaxed)).collect();
        let mut reading = Reading::new(&missed.sessions, to, |filter| self.may_match(filter));
        loop {
            let Reading { from, to, .. } = &reading;
            let behind: Vec<usize> = (0..to.len()).filter(|index| from[*index] < to[*index]).collect();
            if behind.is_empty() {
                break;
            }
            let mut request = self.request(|index| from[index], Duration::ZERO);
            request.partitions.retain(|partition| behind.contains(&(partition.partition.index as usize)));
            let answers = self.shared.core.fetch(request).await;
            for (&index, answer) in behind.iter().zip(answers) {
                match answer {
                    Ok(fetched) => {
                        for batch in &fetched.batches {
                            if !is_aborted(&fetched, batch) {
                                self.push_missed(index, batch, &reading);
                            }
                            reading.from[index] = batch.header.next_offset();
                        }
                        if fetched.batches.is_empty() && reading.from[index] >= fetched.bounds.stable_offset {
                            reading.from[index] = reading.to[index];
                        }
                    }
                    Err(FetchError::UnknownPartition) => return Err(Gone),
                    Err(FetchError::OutOfRange(bounds)) => {
                        reading.from[index] = bounds.start_offset.max(reading.from[index] + 1);
                    }
                    Err(FetchError::Corrupt) => reading.from[index] += 1,
                    Err(FetchError::StorageFailed | FetchError::Unavailable) => tokio::time::sleep(RETRY_AFTER).await,
                }
            }
        }
        for (session, _) in &missed.sessions {
            session.unhold(self.known.topic.id);
            session.wake();
        }
        Ok(())
    }

    /// Whether messages that a filter matches may lie in the topic, as its first level says.
    fn may_match(&self, filter: &str) -> bool {
        let (first, topic) = (names::first_level(filter), self.known.topic.name.as_str());
        let of_others = || names::first_level(&names::name_of(topic)) == first;
        matches!(first, "+" | "#")
            || names::unescape(topic).as_deref() == Some(first)
            || of_others()
            || self.shared.topics.gathers(&self.known)
    }

    fn push_missed(&self, index: usize, batch: &Batch, reading: &Reading) {
        let belongs = |name: &str| self.shared.topics.belongs(name, &self.known);
        let views = mqtt_messages_where(batch, &self.known.topic.name, &belongs);
        for view in views.into_iter().flatten().map_while(Result::ok) {
            let offset = batch.header.base_offset + u64::from(view.position);
            if !(reading.from[index]..reading.to[index]).contains(&offset) {
                continue;
            }
            let wishes = reading.wishes(&String::from_utf8_lossy(&view.topic), index as u32, offset);
            if wishes.is_empty() {
                continue;
            }
            let Some(message) = translate::message(&batch.header, view, self.partition(index)) else { continue };
            let message = Arc::new(message);
            for (session, wishes) in &wishes {
                session.push_missed(&message, wishes);
            }
        }
    }
}

/// Whether a batch belongs to a transaction that was aborted.
fn is_aborted(fetched: &Fetched, batch: &Batch) -> bool {
    fetched.aborted.iter().any(|aborted| aborted.contains(&batch.header))
}
