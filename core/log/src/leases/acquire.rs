//! Acquire: leasing messages within credits, and waiting for more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use codec_record::{Batch, BatchFlags};
use core_rpc::{
    AcquireAnswer, AcquireMode, AcquireRequest, Acquired, FetchError, FetchPartition, FetchRequest, Fetched, Isolation,
    LeaseError, SeekRequest,
};
use tokio::time::Instant;

use super::LeaseSlot;
use super::ahead::{Ahead, READ_BYTES};
use super::map::{Holding, Want};
use super::staged::LeaseCommand;
use super::verbs::of_fetch;
use crate::cold::Limit;
use crate::engine::Engine;
use crate::partition::Partition;
use crate::shard::Command;
use crate::wait::Waiter;

/// Messages that lie alone are read batch by batch: reading on would read what others hold.
const SHORT_RANGE: u64 = 64;

impl Engine {
    /// Leases messages. Dropping the future gives back what it has leased.
    pub async fn acquire(&self, request: AcquireRequest) -> AcquireAnswer {
        let slots = request.partitions.len();
        if request.holder.is_empty() {
            return vec![Err(LeaseError::Invalid); slots];
        }
        let wait_until = Instant::now().checked_add(request.wait);
        let mut acquiring = Acquiring::begin(self, request).await;
        let all: Vec<usize> = (0..slots).collect();
        acquiring.acquire(&all).await;
        while !acquiring.is_enough() {
            let left = wait_until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            // What happens from now on wakes; what happened before is found by looking again.
            let registered = Registered::new(&acquiring);
            acquiring.acquire(&all).await;
            if acquiring.is_enough() {
                break;
            }
            // What was just found to be delayed wakes, too, when it is due.
            registered.places.iter().for_each(|place| self.inner.watch_delays(&place.slot));
            registered.waiter.wait(left).await;
        }
        acquiring.answer()
    }
}

struct Acquiring<'a> {
    engine: &'a Engine,
    request: AcquireRequest,
    /// What is leased now is leased so.
    want: Want,
    /// None: it has an error.
    places: Vec<Option<Place>>,
    /// What is leased so far; given back should nobody take it.
    answers: AcquireAnswer,
    left_messages: u64,
    left_bytes: u64,
    bytes: u64,
}

#[derive(Clone)]
struct Place {
    slot: Arc<LeaseSlot>,
    partition: Arc<Partition>,
}

impl<'a> Acquiring<'a> {
    /// Finds the maps, and begins those that there are not.
    async fn begin(engine: &'a Engine, request: AcquireRequest) -> Acquiring<'a> {
        let slots = request.partitions.len();
        let holding = Holding {
            holder: request.holder.as_str().into(),
            until: engine.inner.until(request.lease),
            acquisitions_max: request.acquisitions_max.unwrap_or(u32::MAX),
        };
        let window_messages = request.window_messages;
        let mut acquiring = Acquiring {
            engine,
            want: Want { holding: Arc::new(holding), mode: request.mode, window_messages },
            places: vec![None; slots],
            answers: vec![Err(LeaseError::UnknownPartition); slots],
            left_messages: u64::from(request.credit_messages),
            left_bytes: u64::from(request.credit_bytes),
            bytes: 0,
            request,
        };
        let mut absent = Vec::new();
        for at in 0..slots {
            match acquiring.find(at) {
                Ok(()) | Err(LeaseError::UnknownPartition) => {}
                Err(_) => absent.push(at),
            }
        }
        if absent.is_empty() {
            return acquiring;
        }
        let start = acquiring.request.start;
        let seeks = absent.iter().map(|at| (acquiring.request.partitions[*at], start)).collect();
        let seek = SeekRequest { group: acquiring.request.group.clone(), seeks };
        let begun = engine.seek_to(seek, true).await;
        for (at, begun) in absent.into_iter().zip(begun) {
            let found = match begun {
                Ok(_) => acquiring.find(at),
                Err(error) => Err(error),
            };
            // One that was forgotten already is for the next call.
            acquiring.answers[at] = found.map(|()| Acquired::default()).map_err(|error| match error {
                LeaseError::NotHeld => LeaseError::Unavailable,
                error => error,
            });
        }
        acquiring
    }

    fn find(&mut self, at: usize) -> Result<(), LeaseError> {
        let inner = &self.engine.inner;
        let id = self.request.partitions[at];
        let partition = inner.partition(id).ok_or(LeaseError::UnknownPartition)?;
        let leases = &inner.shards[partition.shard as usize].leases;
        let slot = leases.get(&self.request.group, id).ok_or(LeaseError::NotHeld)?;
        self.places[at] = Some(Place { slot, partition });
        self.answers[at] = Ok(Acquired::default());
        Ok(())
    }

    /// Goes through the partitions, each time beginning with another.
    async fn acquire(&mut self, all: &[usize]) {
        let until = self.engine.inner.until(self.request.lease);
        if until != self.want.holding.until {
            self.want.holding = Arc::new(Holding { until, ..(*self.want.holding).clone() });
        }
        let first = self.engine.inner.turn.fetch_add(1, Ordering::Relaxed) % all.len().max(1);
        for at in all[first..].iter().chain(&all[..first]) {
            if self.is_used_up() {
                return;
            }
            let Some(place) = self.places[*at].clone() else { continue };
            if let Err(error) = self.acquire_from(*at, &place).await {
                // What was leased before the error is answered; the next call meets the error again.
                if matches!(&self.answers[*at], Ok(acquired) if acquired.ranges.is_empty()) {
                    self.answers[*at] = Err(error);
                    self.places[*at] = None;
                }
            }
        }
    }

    async fn acquire_from(&mut self, at: usize, place: &Place) -> Result<(), LeaseError> {
        let _turn = place.slot.turn.lock().await;
        let before = self.left_messages;
        let result = self.acquire_in_turn(at, place).await;
        if self.left_messages < before {
            self.engine.inner.watch_deadline(&place.slot, self.want.holding.until);
        }
        result
    }

    async fn acquire_in_turn(&mut self, at: usize, place: &Place) -> Result<(), LeaseError> {
        let mut from = 0;
        while !self.is_used_up() {
            let candidate = {
                let start = place.partition.bounds().map_err(of_fetch)?.start_offset;
                let mut state = place.slot.lock();
                if state.removed {
                    return Err(LeaseError::UnknownPartition);
                }
                state.map.raise_floor(start);
                state.map.mature(self.engine.inner.clock.now_ms());
                state.map.candidate(from, self.request.window_messages)
            };
            let Some((first, last)) = candidate else { return Ok(()) };
            let Some(next) = self.acquire_at(at, place, first, last).await? else { return Ok(()) };
            from = next;
        }
        Ok(())
    }

    /// Reads from an offset on and leases what it finds. Returns where to go on; None: there is nothing more to read.
    async fn acquire_at(
        &mut self,
        at: usize,
        place: &Place,
        first: u64,
        last: Option<u64>,
    ) -> Result<Option<u64>, LeaseError> {
        let fetched = match self.read_cached(place, first, last) {
            Some(fetched) => fetched,
            None => self.read_cold(place, first, last).await,
        };
        let fetched = match fetched {
            Ok(fetched) => fetched,
            // Trimmed meanwhile: the floor moves. Or nothing was written there yet.
            Err(FetchError::OutOfRange(bounds)) if first < bounds.start_offset => {
                return Ok(Some(bounds.start_offset));
            }
            Err(FetchError::OutOfRange(_)) => return Ok(None),
            Err(error) => return Err(of_fetch(error)),
        };
        let now_ms = self.engine.inner.clock.now_ms();
        let mut position = first;
        for batch in fetched.batches {
            if self.is_used_up() || (self.bytes > 0 && batch.stored_bytes() as u64 > self.left_bytes) {
                // The rest is for the next call.
                self.left_bytes = 0;
                return Ok(None);
            }
            let header = &batch.header;
            let (batch_first, batch_last) = (header.base_offset, header.next_offset() - 1);
            if batch_first > position {
                place.slot.lock().map.skip(position, batch_first - 1);
            }
            position = header.next_offset();
            let is_aborted = fetched.aborted.iter().any(|aborted| aborted.contains(header));
            if is_aborted || header.flags.contains(BatchFlags::CONTROL) {
                place.slot.lock().map.skip(batch_first, batch_last);
            } else if let Some(until_ms) = header.not_before_ms.filter(|until_ms| *until_ms > now_ms) {
                let window_messages = self.request.window_messages;
                place.slot.lock().map.delay(batch_first, batch_last, until_ms, window_messages);
            } else {
                self.lease_batch(at, place, batch);
            }
        }
        if position > first {
            return Ok(Some(position));
        }
        // What is available but cannot be read is not visible yet.
        Ok(last.map(|last| last + 1))
    }

    /// Reads recent batches from memory, no more than will be leased. None: they are not there.
    fn read_cached(&self, place: &Place, first: u64, last: Option<u64>) -> Option<Result<Fetched, FetchError>> {
        let isolation = self.request.isolation;
        let state = place.partition.lock();
        let bounds = match state.bounds() {
            Ok(bounds) if first < bounds.start_offset || first > bounds.end_offset => {
                return Some(Err(FetchError::OutOfRange(bounds)));
            }
            Ok(bounds) => bounds,
            Err(error) => return Some(Err(error)),
        };
        let until = if isolation == Isolation::Committed { bounds.stable_offset } else { u64::MAX };
        let mut batches = Vec::new();
        if first < bounds.end_offset.min(until) {
            if state.cached.front().is_none_or(|batch| batch.header.base_offset > first) {
                return None;
            }
            let at = state.cached.partition_point(|batch| batch.header.next_offset() <= first);
            batches = self.wanted(state.cached.range(at..), first, last, until);
        }
        let aborted = state.aborted_among(isolation, &batches);
        Some(Ok(Fetched { bounds, batches, aborted }))
    }

    /// Reads from the disk, or takes what was read for this map before.
    async fn read_cold(&self, place: &Place, first: u64, last: Option<u64>) -> Result<Fetched, FetchError> {
        let isolation = self.request.isolation;
        let bounds = place.partition.bounds()?;
        if let Some((batches, aborted)) =
            place.slot.lock().ahead.as_mut().and_then(|ahead| ahead.read(first, isolation))
        {
            let batches = self.wanted(batches.iter(), first, last, u64::MAX);
            return Ok(Fetched { bounds, batches, aborted: aborted.to_vec() });
        }
        let is_short = last.is_some_and(|last| last - first < SHORT_RANGE);
        let bytes_max = if is_short { 1 } else { READ_BYTES };
        let fetch = FetchRequest {
            partitions: vec![FetchPartition { partition: place.partition.id, offset: first, bytes_max }],
            bytes_min: 0,
            bytes_max,
            wait: Duration::ZERO,
            isolation,
        };
        let fetched = self.engine.fetch(fetch).await.pop().unwrap_or(Err(FetchError::Unavailable))?;
        if fetched.batches.len() > 1 {
            self.engine.inner.runs.keep(&place.slot, Ahead::new(first, isolation, &fetched));
        }
        Ok(fetched)
    }

    /// Of the batches from an offset on those that may be leased: no more messages and bytes than are left to lease.
    fn wanted<'b>(
        &self,
        batches: impl Iterator<Item = &'b Batch>,
        first: u64,
        last: Option<u64>,
        until: u64,
    ) -> Vec<Batch> {
        let mut limit = Limit { bytes: self.left_bytes, first_free: true, until };
        let messages = if self.request.mode == AcquireMode::Strict { self.left_messages } else { u64::MAX };
        let end = first.saturating_add(messages).min(last.map_or(u64::MAX, |last| last + 1));
        let is_wanted = |batch: &&Batch| {
            let header = &batch.header;
            header.base_offset < end && limit.take(header.next_offset(), batch.stored_bytes() as u64)
        };
        batches.take_while(is_wanted).cloned().collect()
    }

    fn lease_batch(&mut self, at: usize, place: &Place, batch: Batch) {
        let inner = &self.engine.inner;
        let (first, last) = (batch.header.base_offset, batch.header.next_offset() - 1);
        let (leased, uncounted_before) = {
            let state = &mut place.slot.lock();
            if state.ended {
                return;
            }
            let map = &mut state.map;
            (map.lease(first, last, &self.want, self.left_messages), map.uncounted_before())
        };
        if !leased.exhausted.is_empty() {
            let command = LeaseCommand::RejectExhausted(place.slot.clone());
            inner.push(vec![(place.partition.shard, Command::Lease(command))]);
        }
        let Ok(acquired) = &mut self.answers[at] else { return };
        if leased.messages == 0 {
            return;
        }
        acquired.uncounted_before = uncounted_before;
        let bytes = batch.stored_bytes() as u64;
        // A batch may be here already, when more of it fell free while this call waited.
        let place_at = acquired.batches.partition_point(|other| other.header.base_offset < first);
        if acquired.batches.get(place_at).is_none_or(|other| other.header.base_offset != first) {
            acquired.batches.insert(place_at, batch);
            self.bytes += bytes;
            self.left_bytes = self.left_bytes.saturating_sub(bytes);
        }
        let place_at = acquired.ranges.partition_point(|range| range.first < first);
        let begins_first = acquired.ranges.get(place_at).is_some_and(|range| range.first < leased.ranges[0].first);
        acquired.ranges.splice(place_at..place_at, leased.ranges);
        if begins_first {
            acquired.ranges.sort_unstable_by_key(|range| range.first);
        }
        self.left_messages = self.left_messages.saturating_sub(leased.messages);
    }

    fn is_used_up(&self) -> bool {
        self.left_messages == 0 || (self.left_bytes == 0 && self.bytes > 0)
    }

    fn is_enough(&self) -> bool {
        self.is_used_up()
            || self.bytes >= u64::from(self.request.bytes_min.min(self.request.credit_bytes).max(1))
            || self.answers.iter().any(Result::is_err)
    }

    fn answer(mut self) -> AcquireAnswer {
        std::mem::take(&mut self.answers)
    }
}

impl Drop for Acquiring<'_> {
    fn drop(&mut self) {
        for (place, answer) in self.places.iter().zip(&self.answers) {
            let (Some(place), Ok(acquired)) = (place, answer) else { continue };
            if acquired.ranges.is_empty() {
                continue;
            }
            let mut state = place.slot.lock();
            for range in &acquired.ranges {
                state.map.unlease(range.first, range.last, &self.want.holding.holder);
            }
            state.wake();
        }
    }
}

/// A waiter that all partitions and maps of an acquire know, until it is dropped.
struct Registered {
    waiter: Arc<Waiter>,
    places: Vec<Place>,
}

impl Registered {
    fn new(acquiring: &Acquiring<'_>) -> Registered {
        let waiter = Waiter::new(1);
        let mut places = Vec::with_capacity(acquiring.places.len());
        for (at, place) in acquiring.places.iter().enumerate() {
            let Some(place) = place else { continue };
            place.partition.wait(&waiter, at as u32, acquiring.request.isolation, u64::MAX);
            place.slot.wait(&waiter, at as u32);
            places.push(place.clone());
        }
        Registered { waiter, places }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        for place in &self.places {
            place.partition.unwait(&self.waiter);
            place.slot.unwait(&self.waiter);
        }
    }
}
