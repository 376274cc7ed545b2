//! Fetch: reading several partitions within limits, and waiting for more.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use codec_record::Batch;
use core_rpc::{FetchAnswer, FetchError, FetchRequest, Fetched, Isolation};

use crate::cold::{self, Limit};
use crate::engine::Engine;
use crate::partition::Partition;
use crate::wait::Waiter;

impl Engine {
    /// Reads batches; committed readers those before the stable offset, and what was aborted among them.
    pub async fn fetch(&self, request: FetchRequest) -> FetchAnswer {
        let wait = request.wait;
        let slots = request.partitions.len();
        // A fetch that asks for more than it may have would never be answered before its time.
        let bytes_min = u64::from(request.bytes_min.min(request.bytes_max));
        let reading = Reading::new(self, request);
        // Each fetch begins with another partition, so that none is always left without room.
        let first = self.inner.turn.fetch_add(1, Ordering::Relaxed) % slots.max(1);
        let in_turn = (first..slots).chain(0..first).map(|slot| slot as u32).collect();
        let unavailable = || vec![Err(FetchError::Unavailable); slots];
        let Some(reading) = reading.read(in_turn).await else { return unavailable() };
        if wait.is_zero() || reading.is_enough(bytes_min) {
            return self.counted(reading.answer());
        }
        let registered = Registered::new(&reading, bytes_min);
        let changed = registered.waiter.wait(wait).await;
        drop(registered);
        let Some(reading) = reading.again(changed).await else { return unavailable() };
        self.counted(reading.answer())
    }

    fn counted(&self, answer: FetchAnswer) -> FetchAnswer {
        self.inner.counts.fetched(&answer);
        answer
    }
}

/// A fetch and what was read for it.
struct Reading {
    request: FetchRequest,
    partitions: Vec<Option<Arc<Partition>>>,
    answers: FetchAnswer,
    /// What each partition had published when it was read, so that nothing published since is missed.
    seen_bytes: Vec<u64>,
    /// Room left in the answer.
    left_bytes: u64,
    found: bool,
}

impl Reading {
    fn new(engine: &Engine, request: FetchRequest) -> Reading {
        let partition = |slot: &core_rpc::FetchPartition| engine.inner.partition(slot.partition);
        Reading {
            partitions: request.partitions.iter().map(partition).collect(),
            answers: vec![Err(FetchError::UnknownPartition); request.partitions.len()],
            seen_bytes: vec![0; request.partitions.len()],
            left_bytes: u64::from(request.bytes_max),
            found: false,
            request,
        }
    }

    /// Reads these slots, on a thread that may block as soon as the disk is needed. None if the runtime is ending.
    async fn read(mut self, slots: Vec<u32>) -> Option<Reading> {
        let hot = self.read_slots(&slots, false);
        if hot == slots.len() {
            return Some(self);
        }
        let blocking = move || {
            self.read_slots(&slots[hot..], true);
            self
        };
        tokio::task::spawn_blocking(blocking).await.ok()
    }

    /// Reads slots anew that were read before.
    async fn again(mut self, slots: Vec<u32>) -> Option<Reading> {
        for slot in &slots {
            let slot = *slot as usize;
            self.left_bytes += bytes_of(&self.answers[slot]);
            self.answers[slot] = Err(FetchError::UnknownPartition);
        }
        self.found = self.answers.iter().any(|answer| bytes_of(answer) > 0);
        self.read(slots).await
    }

    /// Reads slot after slot; without `cold`, up to the first that needs the disk. Returns how many were read.
    fn read_slots(&mut self, slots: &[u32], cold: bool) -> usize {
        for (done, slot) in slots.iter().enumerate() {
            let slot = *slot as usize;
            let Some(partition) = self.partitions[slot].clone() else { continue };
            let asked = self.request.partitions[slot];
            let bytes = self.left_bytes.min(u64::from(asked.bytes_max));
            let isolation = self.request.isolation;
            let mut limit = Limit { bytes, first_free: !self.found, until: u64::MAX };
            let read = {
                let state = partition.lock();
                self.seen_bytes[slot] = state.visible_bytes(isolation);
                state.bounds().and_then(|bounds| {
                    if asked.offset < bounds.start_offset || asked.offset > bounds.end_offset {
                        return Err(FetchError::OutOfRange(bounds));
                    }
                    if isolation == Isolation::Committed {
                        limit.until = bounds.stable_offset;
                    }
                    let cached = state.read_cached(asked.offset, &mut limit);
                    Ok(cached.map(|batches| {
                        let aborted = state.aborted_among(isolation, &batches);
                        Fetched { bounds, batches, aborted }
                    }))
                })
            };
            let answer = match read {
                Ok(Some(fetched)) => Ok(fetched),
                Err(error) => Err(error),
                // Without room it need not be read; the caller sees the bounds.
                Ok(None) if limit.bytes == 0 && !limit.first_free => {
                    partition.bounds().map(|bounds| Fetched { bounds, batches: Vec::new(), aborted: Vec::new() })
                }
                Ok(None) if !cold => return done,
                Ok(None) => read_cold(&partition, asked.offset, limit, isolation),
            };
            let bytes = bytes_of(&answer);
            self.found |= bytes > 0;
            self.left_bytes = self.left_bytes.saturating_sub(bytes);
            self.answers[slot] = answer;
        }
        slots.len()
    }

    fn is_enough(&self, bytes_min: u64) -> bool {
        self.answers.iter().any(Result::is_err) || self.bytes() >= bytes_min
    }

    fn bytes(&self) -> u64 {
        self.answers.iter().map(bytes_of).sum()
    }

    fn answer(self) -> FetchAnswer {
        self.answers
    }
}

fn read_cold(partition: &Partition, offset: u64, limit: Limit, isolation: Isolation) -> Result<Fetched, FetchError> {
    let batches = cold::read(partition, offset, limit)?;
    // Bounds of afterwards: the end must not lie before a batch that was just read.
    let state = partition.lock();
    let aborted = state.aborted_among(isolation, &batches);
    Ok(Fetched { bounds: state.bounds()?, batches, aborted })
}

fn bytes_of(answer: &Result<Fetched, FetchError>) -> u64 {
    answer.as_ref().map_or(0, |fetched| fetched.batches.iter().map(Batch::stored_bytes).sum::<usize>() as u64)
}

/// A waiter that all partitions of a fetch know, until it is dropped.
struct Registered {
    waiter: Arc<Waiter>,
    partitions: Vec<Arc<Partition>>,
}

impl Registered {
    fn new(reading: &Reading, bytes_min: u64) -> Registered {
        let waiter = Waiter::new(bytes_min - reading.bytes());
        let mut partitions = Vec::with_capacity(reading.partitions.len());
        for (slot, partition) in reading.partitions.iter().enumerate() {
            if let Some(partition) = partition {
                let isolation = reading.request.isolation;
                partition.wait(&waiter, slot as u32, isolation, reading.seen_bytes[slot]);
                partitions.push(partition.clone());
            }
        }
        Registered { waiter, partitions }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.partitions.iter().for_each(|partition| partition.unwait(&self.waiter));
    }
}
