//! What the shard's writer does with lease maps: everything that is journaled of them.

use std::sync::Arc;

use core_rpc::{GroupName, LeaseError, PartitionId, SessionId, SettleRange};

use super::LeaseSlot;
use super::map::{Holding, Settling, Until};
use super::record::SeekBody;
use crate::clock::Clock;
use crate::pack::entry::Kind;
use crate::partition::Partition;
use crate::shard::group::{Staged, entry_bytes};
use crate::shard::writer::{END_BYTES, Writer};
use crate::shard::{Answer, Shard};

/// One entry of the journal settles no more ranges than this for a discard: whoever has more comes again.
const DISCARD_MARKS_MAX: usize = 8192;

/// What is asked of the writer.
pub enum LeaseCommand {
    Settle {
        slot: Arc<LeaseSlot>,
        holder: String,
        ranges: Vec<SettleRange>,
        durable: bool,
        answer: Answer<Vec<Result<(), LeaseError>>>,
    },
    /// Reject what was handed out as often as it may be.
    RejectExhausted(Arc<LeaseSlot>),
    /// Release what a holder has.
    Release {
        slot: Arc<LeaseSlot>,
        holder: String,
        answer: Answer<Result<(), LeaseError>>,
    },
    /// Settle the oldest that nobody holds, up to the partition's stable offset. Answers how many, and whether there may be
    /// more.
    Discard {
        slot: Arc<LeaseSlot>,
        partition: Arc<Partition>,
        messages_max: u64,
        durable: bool,
        answer: Answer<Result<(u64, bool), LeaseError>>,
    },
    /// Release what was leased to a session.
    EndSession(SessionId),
    Seek {
        partition: Arc<Partition>,
        body: SeekBody,
        answer: Answer<Result<u64, LeaseError>>,
    },
    Forget {
        group: GroupName,
        partition: PartitionId,
        answer: Answer<Result<(), LeaseError>>,
    },
    /// Look at the clock.
    Expire,
}

/// What is done when the group is kept.
pub enum LeaseStaged {
    Settle {
        slot: Arc<LeaseSlot>,
        settling: Settling,
        done: SettleDone,
    },
    Seek {
        partition: Arc<Partition>,
        body: SeekBody,
        slot: Option<Arc<LeaseSlot>>,
        answer: Answer<Result<u64, LeaseError>>,
    },
    Forget {
        group: GroupName,
        partition: PartitionId,
        answer: Answer<Result<(), LeaseError>>,
    },
}

/// Who waits for what was settled.
pub enum SettleDone {
    /// The answers, if all goes well.
    Ranges(Answer<Vec<Result<(), LeaseError>>>, Vec<Result<(), LeaseError>>),
    Release(Answer<Result<(), LeaseError>>),
    Discard(Answer<Result<(u64, bool), LeaseError>>, (u64, bool)),
    /// What else is done with it is answered after it.
    Unit,
    /// It happened by itself, and must be so even if it cannot be written.
    Nobody,
}

impl Writer {
    pub fn stage_lease(&mut self, command: LeaseCommand) {
        match command {
            LeaseCommand::Settle { slot, holder, ranges, durable, answer } => {
                let mut settling = Settling::default();
                let now_ms = self.inner.clock.now_ms();
                let (answers, floor) = {
                    let mut state = slot.lock();
                    let map = &mut state.map;
                    let settle = |range| map.settle(range, &holder, now_ms, &mut settling);
                    (ranges.into_iter().map(settle).collect(), map.floor())
                };
                self.stage_settling(slot, settling, floor, durable, SettleDone::Ranges(answer, answers));
            }
            LeaseCommand::RejectExhausted(slot) => {
                let mut settling = Settling::default();
                let floor = {
                    let mut state = slot.lock();
                    state.map.reject_exhausted(&mut settling);
                    state.map.floor()
                };
                self.stage_settling(slot, settling, floor, false, SettleDone::Nobody);
            }
            LeaseCommand::Release { slot, holder, answer } => {
                let done = SettleDone::Release(answer);
                self.stage_release(slot, |holding| *holding.holder == *holder, done);
            }
            LeaseCommand::Discard { slot, partition, messages_max, durable, answer } => {
                self.stage_discard(slot, &partition, messages_max, durable, answer);
            }
            LeaseCommand::EndSession(session) => {
                for slot in self.shard.leases.all() {
                    let of_session = |holding: &Holding| holding.until == Until::Session(session);
                    self.stage_release(slot, of_session, SettleDone::Nobody);
                }
            }
            LeaseCommand::Seek { partition, body, answer } => self.stage_seek(partition, body, answer),
            LeaseCommand::Forget { group, partition, answer } => {
                let Ok(bytes) = postcard::to_stdvec(&group) else { return answer.give(Err(LeaseError::StorageFailed)) };
                if let Err(refusal) = self.make_room(entry_bytes(bytes.len()), END_BYTES) {
                    return answer.give(Err(refusal.into()));
                }
                self.group.push_entry(self.active.number, self.run, Kind::LeaseForget, partition, &bytes);
                self.group.needs_sync = true;
                self.group.staged.push(Staged::Lease(LeaseStaged::Forget { group, partition, answer }));
            }
            LeaseCommand::Expire => self.stage_expired(),
        }
    }

    /// Releases what has run out.
    pub fn stage_expired(&mut self) {
        let now = self.inner.clock.elapsed();
        for slot in self.shard.leases.take_due(now) {
            self.shard.leases.mature(&slot, &*self.inner.clock);
            let is_over = |holding: &Holding| matches!(holding.until, Until::At(at) if at <= now);
            self.stage_release(slot, is_over, SettleDone::Nobody);
        }
    }

    fn stage_discard(
        &mut self,
        slot: Arc<LeaseSlot>,
        partition: &Partition,
        messages_max: u64,
        durable: bool,
        answer: Answer<Result<(u64, bool), LeaseError>>,
    ) {
        if slot.lock().map.seeking {
            // What is settled is what the seek leaves.
            self.flush();
        }
        let Ok(bounds) = partition.bounds() else { return answer.give(Err(LeaseError::UnknownPartition)) };
        let mut settling = Settling::default();
        let (discarded, floor) = {
            let mut state = slot.lock();
            if state.removed {
                return answer.give(Err(LeaseError::UnknownPartition));
            }
            let map = &mut state.map;
            map.raise_floor(bounds.start_offset);
            let discarded = map.discard(bounds.stable_offset, messages_max, DISCARD_MARKS_MAX, &mut settling);
            (discarded, map.floor())
        };
        self.stage_settling(slot, settling, floor, durable, SettleDone::Discard(answer, discarded));
    }

    fn stage_release(&mut self, slot: Arc<LeaseSlot>, ended: impl Fn(&Holding) -> bool, done: SettleDone) {
        let mut settling = Settling::default();
        let floor = {
            let mut state = slot.lock();
            state.map.release(&mut settling, ended);
            state.map.floor()
        };
        self.stage_settling(slot, settling, floor, false, done);
    }

    /// Journals what ranges become. They are locked.
    fn stage_settling(
        &mut self,
        slot: Arc<LeaseSlot>,
        settling: Settling,
        floor: u64,
        durable: bool,
        done: SettleDone,
    ) {
        if settling.marks.is_empty() {
            return done.kept();
        }
        let bytes = settling.encode(&slot.group, floor);
        let staged = LeaseStaged::Settle { slot: slot.clone(), settling, done };
        let Some(bytes) = bytes else {
            return staged.refuse(&self.shard, LeaseError::StorageFailed);
        };
        if let Err(refusal) = self.make_room(entry_bytes(bytes.len()), END_BYTES) {
            return staged.refuse(&self.shard, refusal.into());
        }
        self.group.push_entry(self.active.number, self.run, Kind::LeaseSettle, slot.partition, &bytes);
        self.group.needs_sync |= durable;
        self.group.staged.push(Staged::Lease(staged));
    }

    fn stage_seek(&mut self, partition: Arc<Partition>, body: SeekBody, answer: Answer<Result<u64, LeaseError>>) {
        let slot = self.shard.leases.get(&body.group, partition.id);
        if let (true, Some(slot)) = (body.if_absent, &slot) {
            let floor = slot.lock().map.floor();
            return answer.give(Ok(floor));
        }
        let Ok(bytes) = postcard::to_stdvec(&body) else { return answer.give(Err(LeaseError::StorageFailed)) };
        if let Err(refusal) = self.make_room(entry_bytes(bytes.len()), END_BYTES) {
            return answer.give(Err(refusal.into()));
        }
        if let Some(slot) = &slot {
            slot.lock().map.seeking = true;
        }
        self.group.push_entry(self.active.number, self.run, Kind::LeaseSeek, partition.id, &bytes);
        self.group.needs_sync = true;
        self.group.staged.push(Staged::Lease(LeaseStaged::Seek { partition, body, slot, answer }));
    }
}

impl LeaseStaged {
    /// The group is kept.
    pub fn publish(self, shard: &Shard, clock: &dyn Clock) {
        match self {
            LeaseStaged::Settle { slot, settling, done } => {
                apply(&slot, &settling);
                // Only this thread is to look: it does before it waits.
                shard.leases.watch_delays(&slot, clock);
                done.kept();
            }
            LeaseStaged::Seek { partition, body, answer, .. } => {
                let floor = shard.leases.seek(partition.id, &body);
                // A topic is removed first, then its maps: none may come after them.
                if partition.bounds().is_err() {
                    shard.leases.forget(&body.group, partition.id);
                    return answer.give(Err(LeaseError::UnknownPartition));
                }
                answer.give(Ok(floor));
            }
            LeaseStaged::Forget { group, partition, answer } => {
                shard.leases.forget(&group, partition);
                answer.give(Ok(()));
            }
        }
    }

    /// The group is not kept, or nobody knows.
    pub fn refuse(self, shard: &Shard, error: LeaseError) {
        match self {
            LeaseStaged::Settle { slot, settling, done } => match done {
                // The lease is over all the same; after a restart so it is, too.
                SettleDone::Nobody => apply(&slot, &settling),
                SettleDone::Ranges(answer, answers) => {
                    unlock(shard, &slot, &settling);
                    answer.give(answers.into_iter().map(|answer| answer.and(Err(error))).collect());
                }
                SettleDone::Release(answer) => {
                    unlock(shard, &slot, &settling);
                    answer.give(Err(error));
                }
                SettleDone::Discard(answer, _) => {
                    unlock(shard, &slot, &settling);
                    answer.give(Err(error));
                }
                SettleDone::Unit => unlock(shard, &slot, &settling),
            },
            LeaseStaged::Seek { slot, answer, .. } => {
                if let Some(slot) = slot {
                    slot.lock().map.seeking = false;
                }
                answer.give(Err(error));
            }
            LeaseStaged::Forget { answer, .. } => answer.give(Err(error)),
        }
    }
}

impl SettleDone {
    fn kept(self) {
        match self {
            SettleDone::Ranges(answer, answers) => answer.give(answers),
            SettleDone::Release(answer) => answer.give(Ok(())),
            SettleDone::Discard(answer, discarded) => answer.give(Ok(discarded)),
            SettleDone::Unit | SettleDone::Nobody => {}
        }
    }
}

fn apply(slot: &LeaseSlot, settling: &Settling) {
    let mut state = slot.lock();
    state.map.apply(settling);
    let frees = settling.marks.iter().any(|marked| marked.mark != super::record::Mark::Settled);
    if frees || std::mem::take(&mut state.map.blocked) {
        state.wake();
    }
}

fn unlock(shard: &Shard, slot: &Arc<LeaseSlot>, settling: &Settling) {
    let soonest = {
        let mut state = slot.lock();
        let soonest = state.map.unlock(settling);
        // Somebody may have looked meanwhile for what a discard had.
        state.wake();
        soonest
    };
    if let Some(at) = soonest {
        // The deadline may have passed meanwhile.
        shard.leases.expire_at(at, slot);
    }
}
