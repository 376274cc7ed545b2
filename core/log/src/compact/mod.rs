//! Compaction by key: of the records with one key only the last stays.
//!
//! One thread does it for all shards, beside the writers. A partition is compacted when enough of it is *dirty*, written
//! since it was compacted last ([`plan`]), in passes of two walks: the first over the dirty part notes where each key was
//! last seen ([`key_map`]; when that is full the pass ends there, and another follows), the second over everything up to there
//! writes what stays into kept packs ([`output`]), from which it is read from then on. Offsets stay, so there are holes
//! between batches, and records are missing inside.
//!
//! ```text
//!  start                    dirty            where a pass ends       stable
//!  ├ compacted: a key once ─┼ noted ─────────┼ left alone ──────────┼ transactions are open ─ …
//!  ╰──────── written again, as one compacted part ──╯
//! ```
//!
//! - A tombstone goes with the first pass after its time is over. The pass that it is in first removes what it deletes, and
//!   sets that time, so that a reader who has seen the one sees the other. A record that expires is a tombstone from then on.
//! - A pass writes in the order of offsets, a pack at a time. After a crash in the middle a part is compacted and the rest is
//!   not: a record is left out only where a later one with its key lies further on, which is not touched before.
//! - The last batch of a segment stays, without records if need be: who reads to the end must come to the end.
//! - Records of aborted transactions go, and the markers of committed ones. Those of aborted ones go later, as tombstones do,
//!   and with them the partition's memory of the transaction; after a crash who misses its marker is forgotten.
//! - What is read is synced first: a kept pack must not know more than the journal after a crash.

mod batch;
mod key_map;
mod output;
mod pace;
mod plan;
mod source;

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use core_rpc::{Compaction, Durability, FetchError};

use crate::engine::Inner;
use crate::partition::Partition;
use crate::shard::{Answer, Command, Shard};
use crate::wait::Answers;
use batch::{Aborted, Outcome, Rules};
use key_map::KeyMap;
use output::{Output, SegmentWriter};
use pace::Pace;
pub use pace::Stopping;
use plan::{Plan, plan};
use source::Source;

/// Why a pass does not go on.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("the engine stops")]
    Stopping,
    #[error("{0}")]
    Read(#[from] FetchError),
    #[error("{0}")]
    Write(#[from] io::Error),
}

/// A partition that is to be compacted.
struct Due {
    partition: Arc<Partition>,
    settings: Compaction,
    plan: Plan,
}

impl Inner {
    /// The compaction's thread.
    pub fn keep_compacting(&self) {
        lower_priority();
        let mut compact_at = Instant::now() + self.config.clean_interval;
        while !self.compaction.wait_until(compact_at) {
            self.compact(self.clock.now_ms());
            compact_at = Instant::now() + self.config.clean_interval;
        }
    }

    /// One round: every partition that is due.
    pub fn compact(&self, now_ms: i64) {
        for shard in &self.shards {
            let due = self.due(shard, now_ms);
            if due.is_empty() {
                continue;
            }
            match self.compact_shard(shard, due, now_ms) {
                Ok(()) => {}
                Err(Stop::Stopping) => return,
                Err(error) => tracing::warn!(shard = shard.number, %error, "what was compacted could not be kept"),
            }
        }
    }

    fn due(&self, shard: &Shard, now_ms: i64) -> Vec<Due> {
        let mut due = Vec::new();
        for topic in self.topics() {
            let (compaction, durability) = {
                let settings = topic.settings.read();
                (settings.compaction, settings.durability)
            };
            let Some(settings) = compaction else { continue };
            for partition in topic.partitions.read().iter().filter(|partition| partition.shard == shard.number) {
                match plan(partition, &settings, now_ms) {
                    Ok(Some(plan)) => due.push((Due { partition: partition.clone(), settings, plan }, durability)),
                    Ok(None) => {}
                    Err(error) => log_failure(partition, &error.into()),
                }
            }
        }
        let all_synced = due.iter().all(|(_, durability)| *durability == Durability::Fsync);
        if !all_synced && !self.sync(shard) {
            due.retain(|(_, durability)| *durability == Durability::Fsync);
        }
        // Kept packs have a partition's batches side by side; the order is for those who look at them.
        due.sort_unstable_by_key(|(due, _)| due.partition.id);
        due.into_iter().map(|(due, _)| due).collect()
    }

    /// Has the shard's writer sync what it has published. False: it failed, or stopped.
    fn sync(&self, shard: &Shard) -> bool {
        let (answers, receiver) = Answers::new(vec![false], 1);
        shard.push(vec![Command::Sync { answer: Answer { answers, slot: 0 } }]);
        receiver.blocking_recv().is_ok_and(|answers| answers.first() == Some(&true))
    }

    fn compact_shard(&self, shard: &Shard, due: Vec<Due>, now_ms: i64) -> Result<(), Stop> {
        let mut output = Output::new(self, shard);
        let mut pace = Pace::new(&self.compaction, self.config.compaction_bytes_per_second);
        for due in due {
            let mut plan = due.plan;
            while plan.dirty < plan.until {
                match self.pass(&due, plan, now_ms, &mut output, &mut pace) {
                    Ok(next) if next > plan.dirty => plan.dirty = next,
                    Ok(_) => break,
                    Err(Stop::Stopping) => return Err(Stop::Stopping),
                    Err(error @ Stop::Write(_)) => return Err(error),
                    // The topic is gone.
                    Err(Stop::Read(FetchError::UnknownPartition)) => break,
                    Err(error) => {
                        log_failure(&due.partition, &error);
                        break;
                    }
                }
            }
        }
        output.install()?;
        Ok(())
    }

    /// One pass over a partition. Returns to where it is compacted now.
    fn pass(
        &self,
        due: &Due,
        plan: Plan,
        now_ms: i64,
        output: &mut Output<'_>,
        pace: &mut Pace<'_>,
    ) -> Result<u64, Stop> {
        let partition = &due.partition;
        // Before the batches are read: all that they may be of is decided already, as they lie before the stable offset.
        let aborted = Aborted::new(partition.lock().transactions.aborted_between(0, plan.until));
        let mut keys = KeyMap::new(self.config.compaction_map_bytes);
        let until = self.note_keys(partition, plan, &aborted, &mut keys, pace)?;
        let Some(first) = first_offset(partition) else { return Ok(until) };
        let tombstones_until_ms = now_ms.saturating_add_unsigned(due.settings.tombstone_retention_ms).max(1);
        let aborted_stays = Cell::new(false);
        let rules = Rules {
            formats: &self.formats,
            keys: &keys,
            aborted: &aborted,
            now_ms,
            tombstones_until_ms,
            aborted_stays,
        };
        let mut segment = SegmentWriter::new(partition.clone(), first);
        let mut source = Source::new(partition, first, until);
        while let Some(piece) = source.next()? {
            let mut written = 0;
            for batch in &piece.batches {
                segment.read(&piece.pack, batch.stored_bytes() as u64);
                match rules.apply(batch) {
                    Outcome::Whole(header) => {
                        written += batch.stored_bytes();
                        segment.keep(output, &header, &batch.payload)?;
                    }
                    Outcome::Less(batch) => {
                        written += batch.stored_bytes();
                        segment.keep(output, &batch.header, &batch.payload)?;
                    }
                    Outcome::Gone(rest) => segment.leave_out(rest, aborted.ends_at(&batch.header)),
                }
                if output.is_full() {
                    segment.end(output)?;
                    output.install()?;
                }
            }
            if pace.spend(piece.bytes + written as u64) {
                return Err(Stop::Stopping);
            }
        }
        segment.end(output)?;
        if until < plan.until {
            // The next pass reads what this one wrote.
            output.install()?;
        }
        Ok(until)
    }

    /// Notes where the keys of the dirty part were last seen. Returns where it ends: sooner where there are too many.
    fn note_keys(
        &self,
        partition: &Partition,
        plan: Plan,
        aborted: &Aborted,
        keys: &mut KeyMap,
        pace: &mut Pace<'_>,
    ) -> Result<u64, Stop> {
        let mut source = Source::new(partition, plan.dirty, plan.until);
        let mut found = Vec::new();
        let mut until = plan.dirty;
        while let Some(piece) = source.next()? {
            for batch in &piece.batches {
                let header = &batch.header;
                let format = self.formats.get(header.format);
                let is_data = !header.flags.contains(codec_record::BatchFlags::CONTROL)
                    && header.not_before_ms.is_none()
                    && !aborted.contains(header);
                found.clear();
                let mut readable = is_data && format.has_keys();
                if readable {
                    let read = format.keys(header, &batch.payload, &mut |record| {
                        readable &= record.position < header.count;
                        let offset = header.base_offset + u64::from(record.position);
                        found.extend(record.key.map(|key| (keys.hash(key), offset)));
                    });
                    readable &= read.is_ok();
                }
                // What its format cannot read does not count: it must not make older records go.
                let first = keys.is_empty();
                if readable && !found.iter().all(|(key, offset)| keys.insert(*key, *offset, first)) {
                    return Ok(until);
                }
                until = header.next_offset();
            }
            if pace.spend(piece.bytes) {
                return Err(Stop::Stopping);
            }
        }
        Ok(until)
    }
}

/// Where a partition's first segment begins. None: there is nothing.
fn first_offset(partition: &Partition) -> Option<u64> {
    let state = partition.lock();
    let open = state.open.front().map(|segment| segment.first());
    state.sealed.front().map(|segment| segment.first).or(open)
}

fn log_failure(partition: &Partition, error: &Stop) {
    tracing::warn!(partition = ?partition.id, %error, "a partition could not be compacted");
}

/// Of the processor this thread takes what others leave.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    // SAFETY: it has no pointers; on Linux it is about the calling thread.
    unsafe {
        const NICE: libc::c_int = 10;
        libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
    }
}
