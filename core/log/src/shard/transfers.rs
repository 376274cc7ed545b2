//! What a shard's writer does with a transfer: settles and appends that are one unit of the journal.
//!
//! A *unit* entry says how many bytes of entries belong together behind it; they lie in the same pack. Recovery applies
//! them when all of them are whole, and cuts the journal before the unit when they are not. Nothing of the group in which
//! they are is visible before it is written, not even what is appended to topics in memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use codec_record::Batch;
use core_rpc::{AppendError, Appended, Durability, SettleRange, TransferAnswer, TransferError};

use super::Answer;
use super::group::{Staged, entry_bytes};
use super::transactions::{Fenced, check_open};
use super::writer::{END_BYTES, RESERVE_BYTES, Writer};
use crate::leases::LeaseSlot;
use crate::leases::map::Settling;
use crate::leases::staged::{LeaseStaged, SettleDone};
use crate::pack::entry::{BATCH_ENTRY_BYTES, Kind, NO_PARTITION};
use crate::partition::Partition;
use crate::producers::{Check, ProducerEntry};

/// Whether the session for which something is to be done lives.
pub type Lives = Box<dyn Fn() -> bool + Send>;

/// A transfer whose partitions are all of this shard.
pub struct Transfer {
    /// None: it is for no session.
    pub lives: Option<Lives>,
    pub holder: String,
    pub settles: Vec<(Arc<LeaseSlot>, Vec<SettleRange>)>,
    pub appends: Vec<(Arc<Partition>, Batch, Durability)>,
    /// It is answered when it is on the disk.
    pub needs_sync: bool,
    pub answer: Answer<TransferAnswer>,
}

/// What ranges are to become, and the entry's body.
struct Locked {
    slot: Arc<LeaseSlot>,
    settling: Settling,
    body: Vec<u8>,
}

/// What becomes of the appends.
enum Checked {
    New(Vec<(Arc<Partition>, i64, Option<ProducerEntry>)>),
    /// All of them were appended before.
    Known(Vec<Appended>),
}

impl Writer {
    pub(super) fn stage_transfer(&mut self, transfer: Transfer) {
        let Transfer { lives, holder, settles, mut appends, needs_sync, answer } = transfer;
        let mut locked = Vec::with_capacity(settles.len());
        // Now that it has its place: what is asked for by whoever has seen the session's end is behind it.
        let settled = match lives.is_none_or(|lives| lives()) {
            true => self.lock_settles(settles, &holder, &mut locked),
            false => Err(TransferError::UnknownSession),
        };
        let staged = match settled {
            Ok(()) => self.stage_unit(&mut appends, &locked),
            // As it must be if all this was done before.
            Err(error) => match self.check_appends(&mut appends) {
                Ok(Checked::Known(appended)) => Ok(Checked::Known(appended)),
                Ok(Checked::New(undo)) => {
                    self.take_back(&appends, undo);
                    Err(error)
                }
                Err(_) => Err(error),
            },
        };
        match staged {
            Ok(Checked::New(undo)) => {
                self.group.undo.extend(undo);
                self.push_unit(appends, locked, answer);
            }
            Ok(Checked::Known(appended)) => {
                self.unlock_settles(locked);
                let partitions = appends.into_iter().map(|(partition, ..)| partition).collect();
                self.group.staged.push(Staged::Transfer { partitions, appended, answer });
            }
            Err(error) => {
                self.unlock_settles(locked);
                return answer.give(Err(error));
            }
        }
        self.group.needs_sync |= needs_sync;
    }

    fn lock_settles(
        &mut self,
        settles: Vec<(Arc<LeaseSlot>, Vec<SettleRange>)>,
        holder: &str,
        locked: &mut Vec<Locked>,
    ) -> Result<(), TransferError> {
        let now_ms = self.inner.clock.now_ms();
        for (at, (slot, ranges)) in settles.into_iter().enumerate() {
            let failed = |error| TransferError::Settle { at: at as u32, error };
            let mut settling = Settling::default();
            let (result, body) = {
                let mut state = slot.lock();
                let settle = |range| state.map.settle(range, holder, now_ms, &mut settling);
                let result = ranges.into_iter().try_for_each(settle);
                (result, settling.encode(&slot.group, state.map.floor()))
            };
            locked.push(Locked { slot, settling, body: body.unwrap_or_default() });
            result.map_err(failed)?;
        }
        Ok(())
    }

    fn unlock_settles(&self, locked: Vec<Locked>) {
        for Locked { slot, settling, .. } in locked {
            LeaseStaged::Settle { slot, settling, done: SettleDone::Unit }
                .refuse(&self.shard, core_rpc::LeaseError::Unavailable);
        }
    }

    /// Makes room for all of it, and offsets.
    fn stage_unit(
        &mut self,
        appends: &mut [(Arc<Partition>, Batch, Durability)],
        locked: &[Locked],
    ) -> Result<Checked, TransferError> {
        let settles: u64 = locked.iter().map(|locked| entry_bytes(locked.body.len())).sum();
        let batches: u64 = appends.iter().map(|(_, batch, _)| (BATCH_ENTRY_BYTES + batch.payload.len()) as u64).sum();
        let reserve = if appends.is_empty() { END_BYTES } else { RESERVE_BYTES };
        self.make_room(entry_bytes(8) + settles + batches, reserve)?;
        // After making room, which may have ended the group before.
        self.check_appends(appends)
    }

    /// Checks the producers and gives the batches their offsets, as if they were appended; or nothing.
    fn check_appends(&mut self, appends: &mut [(Arc<Partition>, Batch, Durability)]) -> Result<Checked, TransferError> {
        let now_ms = self.inner.clock.now_ms();
        let (mut undo, mut known) = (Vec::new(), Vec::new());
        for at in 0..appends.len() {
            let (partition, batch, _) = &mut appends[at];
            let checked = match self.check_append(partition, batch, now_ms, &mut undo) {
                Ok(Some(appended)) => {
                    known.push(appended);
                    // All or none.
                    if known.len() == at + 1 { Ok(()) } else { Err(AppendError::SequenceForgotten) }
                }
                Ok(None) if known.is_empty() => {
                    batch.header.base_offset = partition.next_offset();
                    batch.header.append_time_ms = now_ms;
                    partition.next.store(batch.header.next_offset(), Ordering::Relaxed);
                    if let Some(producer) = batch.header.producer {
                        partition.producers.lock().appended(producer, &batch.header);
                    }
                    continue;
                }
                Ok(None) => Err(AppendError::SequenceForgotten),
                Err(error) => Err(error),
            };
            if let Err(error) = checked {
                self.take_back(&appends[..at], undo);
                return Err(TransferError::Append { at: at as u32, error });
            }
        }
        Ok(if known.is_empty() { Checked::New(undo) } else { Checked::Known(known) })
    }

    /// Some: the batch was appended before, as this.
    fn check_append(
        &self,
        partition: &Arc<Partition>,
        batch: &Batch,
        now_ms: i64,
        undo: &mut Vec<(Arc<Partition>, i64, Option<ProducerEntry>)>,
    ) -> Result<Option<Appended>, AppendError> {
        let Some(producer) = batch.header.producer else { return Ok(None) };
        let open = match self.check_fence(producer.id, producer.epoch, partition.id) {
            Ok(open) => open,
            Err(Fenced) => return Err(AppendError::ProducerFenced),
        };
        let producers = partition.producers.lock();
        let expiry_ms = if open.is_some() { i64::MAX } else { self.inner.config.producer_expiry_ms };
        match producers.check(producer, batch.header.count, now_ms, expiry_ms)? {
            Check::Duplicate(appended) => Ok(Some(appended)),
            Check::Append => {
                check_open(open, producer, batch.header.flags)?;
                undo.push((partition.clone(), producer.id, producers.get(producer.id).cloned()));
                Ok(None)
            }
        }
    }

    /// The batches that have got offsets are not appended.
    fn take_back(
        &self,
        appends: &[(Arc<Partition>, Batch, Durability)],
        undo: Vec<(Arc<Partition>, i64, Option<ProducerEntry>)>,
    ) {
        for (partition, id, entry) in undo.into_iter().rev() {
            partition.producers.lock().restore(id, entry);
        }
        for (partition, batch, _) in appends.iter().rev() {
            partition.next.store(batch.header.base_offset, Ordering::Relaxed);
        }
    }

    /// Adds the unit to the group; there is room for it.
    fn push_unit(
        &mut self,
        appends: Vec<(Arc<Partition>, Batch, Durability)>,
        locked: Vec<Locked>,
        answer: Answer<TransferAnswer>,
    ) {
        let (pack, run) = (self.active.number, self.run);
        let settles: u64 = locked.iter().map(|locked| entry_bytes(locked.body.len())).sum();
        let batches: u64 = appends.iter().map(|(_, batch, _)| (BATCH_ENTRY_BYTES + batch.payload.len()) as u64).sum();
        self.group.push_entry(pack, run, Kind::Unit, NO_PARTITION, &(settles + batches).to_le_bytes());
        self.group.has_units = true;
        for Locked { slot, settling, body } in locked {
            self.group.push_entry(pack, run, Kind::LeaseSettle, slot.partition, &body);
            let done = SettleDone::Unit;
            self.group.staged.push(Staged::Lease(LeaseStaged::Settle { slot, settling, done }));
        }
        let mut partitions = Vec::with_capacity(appends.len());
        let mut appended = Vec::with_capacity(appends.len());
        for (partition, batch, durability) in appends {
            let position = self.position + self.group.bytes;
            self.group.push_batch(pack, run, partition.id, &batch);
            let (base_offset, append_time_ms) = (batch.header.base_offset, batch.header.append_time_ms);
            appended.push(Appended { base_offset, append_time_ms, start_offset: 0, duplicate: false });
            partitions.push(partition.clone());
            self.group.staged.push(Staged::Batch {
                partition,
                batch,
                position,
                durability,
                transaction: None,
                published: false,
                answer: None,
            });
        }
        self.group.staged.push(Staged::Transfer { partitions, appended, answer });
    }
}

/// The answer to a transfer that is done.
pub fn transferred(partitions: &[Arc<Partition>], appended: Vec<Appended>) -> Vec<Appended> {
    let started = |(partition, appended): (&Arc<Partition>, Appended)| {
        // A topic that went in the meantime has no start any more.
        let start_offset = partition.bounds().map_or(0, |bounds| bounds.start_offset);
        Appended { start_offset, ..appended }
    };
    partitions.iter().zip(appended).map(started).collect()
}
