//! What the shard's writer does with lease maps: everything that is journaled of them.

use std::sync::Arc;

use core_rpc::{GroupName, LeaseError, PartitionId, SessionId, SettleRange};

use super::LeaseSlot;
use super::map::{Holding, Settling, Until};
use super::record::{SeekBody, SettleBody};
use crate::pack::entry::Kind;
use crate::partition::Partition;
use crate::shard::group::{Staged, entry_bytes};
use crate::shard::writer::{END_BYTES, Writer};
use crate::shard::{Answer, Shard};

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
    /// It happened by itself, and must be so even if it cannot be written.
    Nobody,
}

impl Writer {
    pub fn stage_lease(&mut self, command: LeaseCommand) {
        match command {
            LeaseCommand::Settle { slot, holder, ranges, durable, answer } => {
                let mut settling = Settling::default();
                let (answers, floor) = {
                    let mut state = slot.lock();
                    let map = &mut state.map;
                    let settle = |range| map.settle(range, &holder, &mut settling);
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
            let is_over = |holding: &Holding| matches!(holding.until, Until::At(at) if at <= now);
            self.stage_release(slot, is_over, SettleDone::Nobody);
        }
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
        let body = SettleBody {
            group: slot.group.clone(),
            floor,
            marks: settling.marks.clone(),
            accepted: settling.accepted,
            rejected: settling.rejected,
        };
        let staged = LeaseStaged::Settle { slot: slot.clone(), settling, done };
        let Ok(bytes) = postcard::to_stdvec(&body) else {
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
    pub fn publish(self, shard: &Shard) {
        match self {
            LeaseStaged::Settle { slot, settling, done } => {
                apply(&slot, &settling);
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
            SettleDone::Nobody => {}
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
    let soonest = slot.lock().map.unlock(settling);
    if let Some(at) = soonest {
        // The deadline may have passed meanwhile.
        shard.leases.expire_at(at, slot);
    }
}
