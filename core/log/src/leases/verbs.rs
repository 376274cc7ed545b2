//! Settle, renew, release, seek, discard, peek: what is asked of lease maps beside acquiring.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use core_rpc::*;

use super::LeaseSlot;
use super::map::Until;
use super::record::SeekBody;
use super::staged::LeaseCommand;
use crate::engine::{Engine, Inner};
use crate::shard::{Answer, Command};
use crate::wait::Answers;

impl Engine {
    /// Ends leases. What is asked is in the writers' queues when this returns; the future only waits for the answer.
    pub fn settle(&self, request: SettleRequest) -> impl Future<Output = SettleAnswer> + Send + 'static {
        let mut answers: SettleAnswer = Vec::with_capacity(request.partitions.len());
        let mut accepted = Vec::new();
        for (at, (id, ranges)) in request.partitions.into_iter().enumerate() {
            let refuse = |error| vec![Err(error); ranges.len()];
            match self.inner.lease_slot(&request.group, id) {
                Ok(slot) => {
                    answers.push(refuse(LeaseError::Unavailable));
                    accepted.push((at as u32, slot, ranges));
                }
                Err(error) => answers.push(refuse(error)),
            }
        }
        let unavailable: SettleAnswer =
            answers.iter().map(|answers| vec![Err(LeaseError::Unavailable); answers.len()]).collect();
        let (answers, receiver) = Answers::new(answers, accepted.len());
        let command = |(slot_at, slot, ranges): (u32, Arc<LeaseSlot>, Vec<SettleRange>)| {
            let answer = Answer { answers: answers.clone(), slot: slot_at };
            let shard = slot.shard;
            let (holder, durable) = (request.holder.clone(), request.durable);
            (shard, Command::Lease(LeaseCommand::Settle { slot, holder, ranges, durable, answer }))
        };
        self.inner.push(accepted.into_iter().map(command).collect());
        drop(answers);
        async move { receiver.await.unwrap_or(unavailable) }
    }

    /// Makes leases last longer.
    pub fn renew(&self, request: RenewRequest) -> SettleAnswer {
        let until = self.inner.until(request.lease);
        let renew = |(id, ranges): (PartitionId, Vec<(u64, u64)>)| {
            let slot = match self.inner.lease_slot(&request.group, id) {
                Ok(slot) => slot,
                Err(error) => return vec![Err(error); ranges.len()],
            };
            let answers: Vec<_> = {
                let mut state = slot.lock();
                let renew = |(first, last)| state.map.renew(first, last, &request.holder, until);
                ranges.into_iter().map(renew).collect()
            };
            if answers.iter().any(Result::is_ok) {
                self.inner.watch_deadline(&slot, until);
            }
            answers
        };
        request.partitions.into_iter().map(renew).collect()
    }

    /// Releases all that a holder has.
    pub async fn release(&self, request: ReleaseRequest) -> Result<(), LeaseError> {
        let slots: Vec<Arc<LeaseSlot>> = match &request.partitions {
            Some(partitions) => {
                partitions.iter().filter_map(|id| self.inner.lease_slot(&request.group, *id).ok()).collect()
            }
            None => self.inner.shards.iter().flat_map(|shard| shard.leases.of_group(&request.group)).collect(),
        };
        let (answers, receiver) = Answers::new(vec![Err(LeaseError::Unavailable); slots.len()], slots.len());
        let command = |(at, slot): (usize, Arc<LeaseSlot>)| {
            let answer = Answer { answers: answers.clone(), slot: at as u32 };
            let (shard, holder) = (slot.shard, request.holder.clone());
            (shard, Command::Lease(LeaseCommand::Release { slot, holder, answer }))
        };
        self.inner.push(slots.into_iter().enumerate().map(command).collect());
        drop(answers);
        receiver.await.map_err(|_| LeaseError::Unavailable)?.into_iter().collect()
    }

    /// Releases all that was leased to a session, which has ended.
    pub fn end_session(&self, session: SessionId) {
        let end =
            |shard: &Arc<crate::shard::Shard>| shard.push(vec![Command::Lease(LeaseCommand::EndSession(session))]);
        self.inner.shards.iter().for_each(end);
    }

    /// Has the writers look at the clock. Time that passes by itself needs no call; a test's clock does.
    pub fn clock_changed(&self) {
        self.inner.shards.iter().for_each(|shard| shard.push(vec![Command::Lease(LeaseCommand::Expire)]));
    }

    /// Moves floors.
    pub async fn lease_seek(&self, request: SeekRequest) -> SeekAnswer {
        self.seek_to(request, false).await
    }

    pub(super) async fn seek_to(&self, request: SeekRequest, if_absent: bool) -> SeekAnswer {
        let slots = request.seeks.len();
        let found = self.find_floors(&request.seeks).await;
        let mut answers = vec![Err(LeaseError::Unavailable); slots];
        let mut accepted = Vec::with_capacity(slots);
        for (at, ((id, _), found)) in request.seeks.iter().zip(found).enumerate() {
            match found.and_then(|floor| Ok((floor, self.inner.partition(*id).ok_or(LeaseError::UnknownPartition)?))) {
                Ok((floor, partition)) => accepted.push((at as u32, partition, floor)),
                Err(error) => answers[at] = Err(error),
            }
        }
        let (answers, receiver) = Answers::new(answers, accepted.len());
        let command = |(slot, partition, floor): (u32, Arc<crate::partition::Partition>, u64)| {
            let answer = Answer { answers: answers.clone(), slot };
            let body = SeekBody { group: request.group.clone(), floor, if_absent };
            (partition.shard, Command::Lease(LeaseCommand::Seek { partition, body, answer }))
        };
        self.inner.push(accepted.into_iter().map(command).collect());
        drop(answers);
        receiver.await.unwrap_or_else(|_| vec![Err(LeaseError::Unavailable); slots])
    }

    /// Settles the oldest messages that nobody holds.
    pub async fn discard(&self, request: DiscardRequest) -> DiscardAnswer {
        let DiscardRequest { group, partition: id, start, messages_max } = request;
        let (topic, partition) = self.inner.topic_and_partition(id).ok_or(LeaseError::UnknownPartition)?;
        if matches!(self.inner.lease_slot(&group, id), Err(LeaseError::NotHeld)) {
            let seek = SeekRequest { group: group.clone(), seeks: vec![(id, start)] };
            self.seek_to(seek, true).await.pop().unwrap_or(Err(LeaseError::Unavailable))?;
        }
        // One that was forgotten at once is for the next call.
        let slot = self.inner.lease_slot(&group, id).map_err(|error| match error {
            LeaseError::NotHeld => LeaseError::Unavailable,
            error => error,
        })?;
        let durable = topic.settings.read().durability == Durability::Fsync;
        let mut discarded = 0;
        loop {
            let (answers, receiver) = Answers::new(vec![Err(LeaseError::Unavailable)], 1);
            let (shard, slot, partition) = (slot.shard, slot.clone(), partition.clone());
            let messages_max = messages_max - discarded;
            let answer = Answer { answers, slot: 0 };
            let command = LeaseCommand::Discard { slot, partition, messages_max, durable, answer };
            self.inner.push(vec![(shard, Command::Lease(command))]);
            let answer = receiver.await.map_err(|_| LeaseError::Unavailable)?.pop();
            let (settled, more) = answer.unwrap_or(Err(LeaseError::Unavailable))?;
            discarded += settled;
            if !more {
                return Ok(discarded);
            }
        }
    }

    async fn find_floors(&self, seeks: &[(PartitionId, SeekTo)]) -> Vec<Result<u64, LeaseError>> {
        let mut floors = Vec::with_capacity(seeks.len());
        for (id, to) in seeks {
            floors.push(match to {
                SeekTo::Offset(offset) => Ok(*offset),
                SeekTo::At(at) => self.find_floor(*id, *at).await,
            });
        }
        floors
    }

    async fn find_floor(&self, id: PartitionId, at: OffsetAt) -> Result<u64, LeaseError> {
        let queries = vec![(id, at), (id, OffsetAt::Latest)];
        let mut found = self.offsets(OffsetsRequest { queries }).await;
        let (Some(latest), Some(found)) = (found.pop(), found.pop()) else { return Err(LeaseError::Unavailable) };
        let latest = latest.map_err(of_fetch)?.offset;
        let found = found.map_err(of_fetch)?.offset;
        found.or(latest).ok_or(LeaseError::Unavailable)
    }

    /// Shows maps.
    pub fn peek(&self, request: &PeekRequest) -> PeekAnswer {
        let view = |slot: &LeaseSlot| {
            let bounds = self.inner.partition(slot.partition).and_then(|partition| partition.bounds().ok());
            let (start, end) = bounds.map_or((0, 0), |bounds| (bounds.start_offset, bounds.end_offset));
            let mut state = slot.lock();
            state.map.raise_floor(start);
            state.map.mature(self.inner.clock.now_ms());
            let view = state.map.view(request.ranges_max as usize);
            LeaseView { end: end.max(view.next), ..view }
        };
        match &request.partitions {
            Some(partitions) => {
                let of =
                    |id: &PartitionId| (*id, self.inner.lease_slot(&request.group, *id).ok().map(|slot| view(&slot)));
                partitions.iter().map(of).collect()
            }
            None => {
                let slots = self.inner.shards.iter().flat_map(|shard| shard.leases.of_group(&request.group));
                let mut views: PeekAnswer = slots.map(|slot| (slot.partition, Some(view(&slot)))).collect();
                views.sort_unstable_by_key(|(partition, _)| *partition);
                views
            }
        }
    }

    /// The groups of a namespace that have a map, by name.
    pub fn lease_groups(&self, namespace: &str) -> Vec<String> {
        let mut names = BTreeSet::new();
        self.inner.shards.iter().for_each(|shard| shard.leases.groups(namespace, &mut names));
        names.into_iter().collect()
    }

    /// Removes a group's maps on these partitions, or all (None), durably. Those it does not have are no error.
    pub async fn lease_forget(&self, group: GroupName, partitions: Option<Vec<PartitionId>>) -> Result<(), LeaseError> {
        let all = || self.inner.shards.iter().flat_map(|shard| shard.leases.of_group(&group));
        let partitions = partitions.unwrap_or_else(|| all().map(|slot| slot.partition).collect());
        let known: Vec<_> = partitions.iter().filter_map(|id| self.inner.partition(*id)).collect();
        let (answers, receiver) = Answers::new(vec![Err(LeaseError::Unavailable); known.len()], known.len());
        let command = |(at, partition): (usize, &Arc<crate::partition::Partition>)| {
            let answer = Answer { answers: answers.clone(), slot: at as u32 };
            let (group, shard, partition) = (group.clone(), partition.shard, partition.id);
            (shard, Command::Lease(LeaseCommand::Forget { group, partition, answer }))
        };
        self.inner.push(known.iter().enumerate().map(command).collect());
        drop(answers);
        receiver.await.map_err(|_| LeaseError::Unavailable)?.into_iter().collect()
    }
}

impl Inner {
    /// A group's map on a partition.
    pub fn lease_slot(&self, group: &GroupName, id: PartitionId) -> Result<Arc<LeaseSlot>, LeaseError> {
        let partition = self.partition(id).ok_or(LeaseError::UnknownPartition)?;
        self.shards[partition.shard as usize].leases.get(group, id).ok_or(LeaseError::NotHeld)
    }

    pub(super) fn until(&self, lease: Lease) -> Until {
        match lease {
            Lease::Timed(duration) => Until::At(self.clock.elapsed().saturating_add(duration)),
            Lease::Session(session) => Until::Session(session),
        }
    }

    /// Has the writer look at a map when what is delayed is due.
    pub(super) fn watch_delays(&self, slot: &Arc<LeaseSlot>) {
        let shard = &self.shards[slot.shard as usize];
        if shard.leases.watch_delays(slot, &*self.clock) {
            shard.wake();
        }
    }

    /// Has the writer look at a map when leases run out.
    pub(super) fn watch_deadline(&self, slot: &Arc<LeaseSlot>, until: Until) {
        let Until::At(at) = until else { return };
        let shard = &self.shards[slot.shard as usize];
        if shard.leases.expire_at(at, slot) {
            shard.wake();
        }
    }
}

pub(super) fn of_fetch(error: FetchError) -> LeaseError {
    match error {
        FetchError::UnknownPartition => LeaseError::UnknownPartition,
        FetchError::Corrupt => LeaseError::Corrupt,
        FetchError::StorageFailed => LeaseError::StorageFailed,
        FetchError::OutOfRange(_) | FetchError::Unavailable => LeaseError::Unavailable,
    }
}
