//! A shard's writer: takes what waits in the queue, writes it as one group, syncs once, publishes, answers.
//!
//! It waits for a sync only where somebody in the group does; the rest is left to the [`super::syncer`]. So a pack may be
//! begun while the one before is not on the disk. A `synced` entry in it says that it is, and is written before, or with,
//! the first group of the pack whose durability is promised.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use codec_record::Batch;
use core_rpc::{AppendError, Appended, CursorError, Durability, FetchError, GroupName, PartitionId};

use super::group::{Group, Refusal, Staged, entry_bytes};
use super::housekeeper::{Fill, Job, SealJob};
use super::syncer::SyncJob;
use super::transactions::{Fenced, aborted_of, check_open};
use super::transfers::transferred;
use super::{Answer, Command, Shard};
use crate::disk::is_full;
use crate::engine::Inner;
use crate::pack::Pack;
use crate::pack::entry::{BATCH_ENTRY_BYTES, CursorBody, ENTRY_BYTES, Kind, NO_PARTITION};
use crate::partition::{Partition, Publication};
use crate::producers::Check;
use crate::snapshot::{self, PartitionSnapshot, Place, Snapshot};

/// Room at a pack's end that batches may not use, so that a full disk leaves room to commit cursors and to trim.
pub const RESERVE_BYTES: u64 = 64 << 10;

/// Room at a pack's end for the seal and the start entries of many runs.
pub const END_BYTES: u64 = 4 << 10;

/// The disk is asked to begin writing after so many bytes that nobody waits for.
const WRITE_BACK_BYTES: u64 = 4 << 20;

/// Zeros are worth their writing if there is a sync for each so many bytes: each saves it a part of its time.
const FILL_BYTES_PER_SYNC: u64 = 256 << 10;

/// The memory that a batch in the cache takes beside its payload.
const CACHED_BATCH_BYTES: u64 = 128;

pub struct Writer {
    pub inner: Arc<Inner>,
    pub shard: Arc<Shard>,
    pub active: Arc<Pack>,
    /// Where the next entry goes.
    pub position: u64,
    pub run: u32,
    /// Partitions with a segment in the active pack, perhaps more than once.
    pub touched: Vec<Arc<Partition>>,
    pub group: Group,
    /// Generations of the cursors in the group: the shard's cursors hold only what is durable.
    pub(super) generations: HashMap<(GroupName, PartitionId), u64>,
    /// Batches in the tail cache, oldest first: (partition, base offset, bytes).
    cached: VecDeque<(Arc<Partition>, u64, u64)>,
    cached_bytes: u64,
    cached_bytes_max: u64,
    /// Since when something is written to the active pack that no sync was asked for.
    unsynced: Option<Instant>,
    /// The active pack says that those before it are synced.
    marked: bool,
    /// Syncs that somebody waited for, since the active pack was begun.
    syncs: u64,
    /// To where the disk was asked to begin writing.
    written_back: u64,
    /// A write or sync failed: nobody knows what is on the disk, so nothing is written any more.
    failed: bool,
}

/// Takes no more commands, and drops those that wait, when the writer ends; the syncer ends with it.
struct Closing(Arc<Shard>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
        // With what it staged: who waits for that is told.
        drop(self.0.writer.lock().take());
        self.0.syncer.stop();
    }
}

impl Writer {
    pub fn new(
        inner: Arc<Inner>,
        shard: Arc<Shard>,
        active: Arc<Pack>,
        position: u64,
        run: u32,
        touched: Vec<Arc<Partition>>,
    ) -> Writer {
        let cached_bytes_max = inner.config.cache_bytes / inner.shards.len() as u64;
        Writer {
            inner,
            shard,
            active,
            position,
            run,
            touched,
            group: Group::default(),
            generations: HashMap::new(),
            cached: VecDeque::new(),
            cached_bytes: 0,
            cached_bytes_max,
            unsynced: None,
            marked: false,
            syncs: 0,
            written_back: position,
            failed: false,
        }
    }

    /// Begins the run: durably, before anything else is written. All packs before the active one are synced.
    pub fn start(&mut self) -> std::io::Result<()> {
        self.write_mark(Kind::Start)?;
        self.active.file.sync_data()?;
        self.unsynced = None;
        self.marked = true;
        if self.position + END_BYTES / 2 > self.active.capacity {
            // Otherwise restarts alone could fill the pack.
            if let Err(Refusal::StorageFailed) = self.roll(0) {
                return Err(std::io::Error::other("the journal could not go on in the next pack"));
            }
        }
        Ok(())
    }

    /// Works until the shard is stopped. Between its rounds others may write ([`super::inline`]).
    pub fn run(self) {
        let shard = self.shard.clone();
        // Should this thread panic, callers must not wait for answers that nobody gives.
        let _closing = Closing(shard.clone());
        *shard.writer.lock() = Some(Box::new(self));
        let mut pending = VecDeque::new();
        loop {
            let mut seat = shard.writer.lock();
            let Some(writer) = seat.as_mut() else { return };
            writer.do_due();
            let mut queue = shard.queue.lock();
            if queue.commands.is_empty() {
                if queue.stopping {
                    drop(queue);
                    return seat.take().into_iter().for_each(|writer| writer.finish());
                }
                let due = writer.due();
                queue.thread_due = due;
                drop(seat);
                match due {
                    Some(due) => drop(shard.ready.wait_until(&mut queue, due)),
                    None => shard.ready.wait(&mut queue),
                }
                continue;
            }
            std::mem::swap(&mut queue.commands, &mut pending);
            drop(queue);
            for command in pending.drain(..) {
                writer.stage(command);
                if writer.group.bytes >= writer.inner.config.group_bytes_max {
                    writer.flush();
                }
            }
            writer.flush();
        }
    }

    /// Syncs what has waited long enough, and ends the leases that have run out.
    fn do_due(&mut self) {
        let due = self.unsynced.map(|since| since + self.inner.config.relaxed_sync);
        if due.is_some_and(|due| due <= Instant::now()) {
            self.unsynced = None;
            self.written_back = self.position;
            // Should it fail, the shard does, by what the syncer says.
            let _ = self.inner.ask_sync(&self.shard, SyncJob::Sync { pack: self.active.clone() });
        }
        self.check_syncer();
        let elapsed = self.inner.clock.elapsed();
        if self.shard.leases.next_deadline().is_some_and(|at| at <= elapsed) {
            self.stage_expired();
            self.flush();
        }
    }

    /// When there is something to do without a command. What is leased from here on wakes the thread if it runs out sooner.
    pub(super) fn due(&self) -> Option<Instant> {
        let elapsed = self.inner.clock.elapsed();
        let lease_due = self.shard.leases.next_deadline();
        let lease_due = lease_due.and_then(|at| Instant::now().checked_add(at.saturating_sub(elapsed)));
        let sync_due = self.unsynced.map(|since| since + self.inner.config.relaxed_sync);
        sync_due.into_iter().chain(lease_due).min()
    }

    /// Whether entries of this length can be written without another pack.
    pub(super) fn has_room(&self, length: u64) -> bool {
        !self.failed && self.fits(length, RESERVE_BYTES)
    }

    /// Whether an entry fits into the active pack with `reserve` bytes behind it, of a small pack fewer.
    fn fits(&self, length: u64, reserve: u64) -> bool {
        let reserve = reserve.min(self.active.capacity / 8);
        self.position + self.group.bytes + length + reserve <= self.active.capacity
    }

    pub(super) fn stage(&mut self, command: Command) {
        match command {
            Command::Append { partition, batch, durability, answer } => {
                if let Err((answer, error)) = self.stage_append(partition, batch, durability, answer) {
                    answer.give(Err(error));
                }
            }
            Command::Trim { partition, before, answer } => self.stage_trim(partition, before, answer),
            Command::Commit { partition, body, transaction: None, answer } => {
                self.stage_commit(partition, body, answer);
            }
            Command::Commit { partition, body, transaction: Some(producer), answer } => {
                if let Err((answer, error)) = self.stage_pending(partition, body, producer, answer) {
                    answer.give(Err(error));
                }
            }
            Command::Forget { partition, group, answer } => self.stage_forget(partition, group, answer),
            Command::End { end, answer } => self.stage_end(&end, answer),
            Command::Fence { body } => self.stage_fence(body),
            Command::Sync { answer } => {
                self.group.needs_sync = true;
                self.group.staged.push(Staged::Sync { answer });
            }
            Command::Lease(command) => self.stage_lease(command),
            Command::Transfer(transfer) => self.stage_transfer(*transfer),
        }
    }

    #[allow(clippy::type_complexity)] // The answer comes back with the error, or is kept.
    fn stage_append(
        &mut self,
        partition: Arc<Partition>,
        mut batch: Batch,
        durability: Durability,
        answer: Answer<Result<Appended, AppendError>>,
    ) -> Result<(), (Answer<Result<Appended, AppendError>>, AppendError)> {
        let length = (BATCH_ENTRY_BYTES + batch.payload.len()) as u64;
        let room = self.make_room(length, RESERVE_BYTES);
        let now_ms = self.inner.clock.now_ms();
        let header = &mut batch.header;
        if let Err(refusal) = room {
            if let Some(producer) = header.producer {
                partition.producers.lock().refused(producer, now_ms);
            }
            return Err((answer, refusal.into()));
        }
        if let Some(producer) = header.producer {
            let open = match self.check_fence(producer.id, producer.epoch, partition.id) {
                Ok(open) => open,
                Err(Fenced) => return Err((answer, AppendError::ProducerFenced)),
            };
            let producers = partition.producers.lock();
            // Who has a transaction open is not forgotten.
            let expiry_ms = if open.is_some() { i64::MAX } else { self.inner.config.producer_expiry_ms };
            match producers.check(producer, header.count, now_ms, expiry_ms) {
                Ok(Check::Append) => {
                    if let Err(error) = check_open(open, producer, header.flags) {
                        return Err((answer, error));
                    }
                    self.group.undo.push((partition.clone(), producer.id, producers.get(producer.id).cloned()));
                }
                Ok(Check::Duplicate(appended)) => {
                    drop(producers);
                    self.group.needs_sync |= durability == Durability::Fsync;
                    self.group.staged.push(Staged::Duplicate { partition, appended, answer });
                    return Ok(());
                }
                Err(error) => return Err((answer, error)),
            }
        }
        header.base_offset = partition.next_offset();
        header.append_time_ms = now_ms;
        let transaction = match self.open_transaction(partition.id, header) {
            Ok(transaction) => transaction,
            Err(Fenced) => return Err((answer, AppendError::ProducerFenced)),
        };
        partition.next.store(header.next_offset(), Ordering::Relaxed);
        if let Some(producer) = header.producer {
            partition.producers.lock().appended(producer, header);
        }
        let position = self.position + self.group.bytes;
        self.group.push_batch(self.active.number, self.run, partition.id, &batch);
        self.group.needs_sync |= durability == Durability::Fsync;
        self.group.has_memory |= durability == Durability::Memory;
        let answer = Some(answer);
        let published = false;
        self.group.staged.push(Staged::Batch {
            partition,
            batch,
            position,
            durability,
            transaction,
            published,
            answer,
        });
        Ok(())
    }

    fn stage_trim(&mut self, partition: Arc<Partition>, before: Option<u64>, answer: Answer<Result<u64, FetchError>>) {
        if let Err(refusal) = self.make_room(entry_bytes(8), END_BYTES) {
            return answer.give(Err(refusal.into()));
        }
        let bounds = match partition.bounds() {
            Ok(bounds) => bounds,
            Err(error) => return answer.give(Err(error)),
        };
        let start = before.unwrap_or(partition.next_offset());
        if start > partition.next_offset() {
            return answer.give(Err(FetchError::OutOfRange(bounds)));
        }
        if start <= bounds.start_offset {
            return answer.give(Ok(bounds.start_offset));
        }
        self.group.push_entry(self.active.number, self.run, Kind::Trim, partition.id, &start.to_le_bytes());
        self.group.needs_sync = true;
        self.group.staged.push(Staged::Trim { partition, start, answer });
    }

    fn stage_commit(&mut self, partition: Arc<Partition>, body: CursorBody, answer: Answer<Result<(), CursorError>>) {
        let key = (body.group.clone(), partition.id);
        if body.generation.is_some_and(|generation| self.is_older_generation(&key, generation)) {
            return answer.give(Err(CursorError::Fenced));
        }
        let Ok(bytes) = postcard::to_stdvec(&body) else { return answer.give(Err(CursorError::StorageFailed)) };
        if let Err(refusal) = self.make_room(entry_bytes(bytes.len()), END_BYTES) {
            return answer.give(Err(refusal.into()));
        }
        // After making room, which may have ended the group before.
        if let Some(generation) = body.generation {
            self.generations.insert(key, generation);
        }
        self.group.push_entry(self.active.number, self.run, Kind::Cursor, partition.id, &bytes);
        self.group.needs_sync = true;
        self.group.staged.push(Staged::Cursor { partition, body, answer });
    }

    fn stage_forget(&mut self, partition: PartitionId, group: GroupName, answer: Answer<Result<(), CursorError>>) {
        let Ok(bytes) = postcard::to_stdvec(&group) else { return answer.give(Err(CursorError::StorageFailed)) };
        if let Err(refusal) = self.make_room(entry_bytes(bytes.len()), END_BYTES) {
            return answer.give(Err(refusal.into()));
        }
        self.generations.remove(&(group.clone(), partition));
        self.group.push_entry(self.active.number, self.run, Kind::Forget, partition, &bytes);
        self.group.needs_sync = true;
        self.group.staged.push(Staged::Forget { partition, group, answer });
    }

    /// Sees to it that an entry fits into the active pack with `reserve` bytes behind it, in the next pack if need be.
    pub fn make_room(&mut self, length: u64, reserve: u64) -> Result<(), Refusal> {
        if self.failed {
            return Err(Refusal::StorageFailed);
        }
        if self.fits(length, reserve) {
            return Ok(());
        }
        self.flush();
        if self.failed {
            return Err(Refusal::StorageFailed);
        }
        self.roll(length)
    }

    /// Writes the group and does what was staged.
    pub fn flush(&mut self) {
        if self.group.is_empty() {
            return;
        }
        self.check_syncer();
        if self.failed {
            return self.refuse(Refusal::StorageFailed);
        }
        let mark = !self.marked && self.may_mark();
        if self.failed {
            return;
        }
        if mark {
            self.group.push_entry(self.active.number, self.run, Kind::Synced, NO_PARTITION, &[]);
        }
        if self.group.publishes_early() {
            self.publish_memory();
        }
        if self.group.bytes > 0 {
            if let Err(error) = self.group.write(&*self.active.file, self.position, self.active.capacity) {
                if is_full(&error) && !self.group.publishes_early() && self.undo().is_ok() {
                    return self.refuse(Refusal::DiskFull);
                }
                return self.fail("write", &error);
            }
            self.position += self.group.bytes;
            self.marked |= mark;
            self.unsynced.get_or_insert_with(Instant::now);
            self.begin_write_back();
        }
        if self.group.needs_sync && !self.is_synced() && !self.sync() {
            return self.refuse(Refusal::StorageFailed);
        }
        let mut staged = std::mem::take(&mut self.group.staged);
        for staged in staged.drain(..) {
            self.publish(staged);
        }
        self.group.staged = staged;
        self.group.clear();
        self.generations.clear();
        self.shard.transactions.lock().settle();
        self.evict();
        self.look_ahead();
    }

    /// Lets the disk begin with what nobody waits for: the sync at the pack's end would stall all that comes then.
    fn begin_write_back(&mut self) {
        let length = self.position - self.written_back;
        if !self.group.needs_sync && length >= WRITE_BACK_BYTES {
            let (pack, position) = (self.active.clone(), self.written_back);
            self.written_back = self.position;
            // An error is an earlier one's, which the next look finds.
            let _ = self.inner.ask_sync(&self.shard, SyncJob::WriteBack { pack, position, length });
        }
    }

    /// Whether the group can say that the packs before the active one are synced. It waits until they are, and the shard
    /// may fail, if the group needs that.
    fn may_mark(&mut self) -> bool {
        if self.group.needs_sync
            && let Err(error) = self.inner.settle(&self.shard)
        {
            self.fail("sync", &error);
            return false;
        }
        self.shard.syncer.is_settled()
    }

    /// Whether all that was written is on the disk.
    fn is_synced(&self) -> bool {
        self.unsynced.is_none() && self.shard.syncer.is_settled()
    }

    /// Fails if a sync has failed that nobody waited for.
    fn check_syncer(&mut self) {
        if !self.failed
            && let Err(error) = self.shard.syncer.result()
        {
            self.fail("sync", &error);
        }
    }

    /// Batches that need no disk are visible and answered before they are written.
    fn publish_memory(&mut self) {
        let mut staged = std::mem::take(&mut self.group.staged);
        for staged in &mut staged {
            let Staged::Batch { partition, batch, position, durability, transaction, published, answer } = staged
            else {
                continue;
            };
            if *durability == Durability::Memory {
                *published = true;
                self.publish_batch(partition, batch, *position, *transaction, answer.take());
            }
        }
        self.group.staged = staged;
    }

    fn publish(&mut self, staged: Staged) {
        match staged {
            Staged::Batch { published: true, .. } => {}
            Staged::Batch { partition, batch, position, transaction, answer, .. } => {
                self.publish_batch(&partition, &batch, position, transaction, answer);
            }
            Staged::Duplicate { partition, appended, answer } => answer.give(match partition.bounds() {
                Ok(bounds) => Ok(Appended { start_offset: bounds.start_offset, ..appended }),
                Err(_) => Err(AppendError::UnknownPartition),
            }),
            Staged::Trim { partition, start, answer } => {
                if partition.advance_start(start) {
                    self.inner.housekeep(Job::Reclaim { shard: self.shard.clone() });
                }
                answer.give(partition.bounds().map(|bounds| bounds.start_offset));
            }
            Staged::Cursor { partition, body, answer } => {
                let mut cursors = self.shard.cursors.lock();
                // A topic is removed first, then its cursors: none may come after them.
                if partition.bounds().is_err() {
                    return answer.give(Err(CursorError::UnknownPartition));
                }
                cursors.commit(partition.id, body);
                answer.give(Ok(()));
            }
            Staged::Forget { partition, group, answer } => {
                self.shard.cursors.lock().forget(&group, partition);
                answer.give(Ok(()));
            }
            Staged::Pending { partition, body, answer } => {
                let mut cursors = self.shard.cursors.lock();
                if partition.bounds().is_err() {
                    return answer.give(Err(CursorError::UnknownPartition));
                }
                cursors.commit_pending(partition.id, body);
                answer.give(Ok(()));
            }
            Staged::End { ended, answer } => self.publish_end(ended, answer),
            Staged::Fence => {}
            Staged::Sync { answer } => answer.give(true),
            Staged::Lease(staged) => staged.publish(&self.shard, &*self.inner.clock),
            Staged::Transfer { partitions, appended, answer } => {
                answer.give(Ok(transferred(&partitions, appended)));
            }
        }
    }

    fn publish_batch(
        &mut self,
        partition: &Arc<Partition>,
        batch: &Batch,
        position: u64,
        transaction: Option<u64>,
        answer: Option<Answer<Result<Appended, AppendError>>>,
    ) {
        let header = &batch.header;
        let publication = partition.publish(&self.active, position, batch, transaction);
        if publication == Publication::FirstInPack {
            self.touched.push(partition.clone());
        }
        if publication != Publication::Gone {
            self.inner.counts.appended(batch);
            let bytes = batch.payload.len() as u64 + CACHED_BATCH_BYTES;
            self.cached.push_back((partition.clone(), header.base_offset, bytes));
            self.cached_bytes += bytes;
        }
        let Some(answer) = answer else { return };
        answer.give(match partition.bounds() {
            Ok(bounds) => Ok(Appended {
                base_offset: header.base_offset,
                append_time_ms: header.append_time_ms,
                start_offset: bounds.start_offset,
                duplicate: false,
            }),
            Err(_) => Err(AppendError::UnknownPartition),
        });
    }

    /// Drops the oldest batches from memory while there are too many. All of them are written.
    fn evict(&mut self) {
        while self.cached_bytes > self.cached_bytes_max {
            let Some((partition, base_offset, bytes)) = self.cached.pop_front() else { return };
            partition.evict(base_offset);
            self.cached_bytes -= bytes;
        }
    }

    /// Has the next pack prepared before it is needed.
    fn look_ahead(&self) {
        if self.inner.config.background && self.position > self.active.capacity / 4 {
            self.inner.ask_next(&self.shard, self.active.number + 1, self.next_capacity(), self.next_fill());
        }
    }

    /// Whether the next pack is to be filled: where syncs are rare, that costs more than it saves.
    fn next_fill(&self) -> Fill {
        if self.syncs * FILL_BYTES_PER_SYNC >= self.position { Fill::Zeros } else { Fill::Nothing }
    }

    /// Capacity of the next pack.
    fn next_capacity(&self) -> u64 {
        (self.active.capacity * 4).min(self.inner.config.pack_bytes)
    }

    /// Seals the active pack and goes on in the next, which can hold an entry of this length. The group is empty.
    fn roll(&mut self, length: u64) -> Result<(), Refusal> {
        // The reserves are an eighth of a pack or less; a batch that is larger than a usual pack gets one of its own.
        let needed = length * 8 / 7 + 1;
        let capacity = self.next_capacity().max(needed);
        let fill = self.next_fill();
        let next = self.inner.take_next(&self.shard, self.active.number + 1, capacity, needed, fill)?;
        if let Err(error) = self.write_mark(Kind::Seal) {
            self.fail("seal", &error);
            return Err(Refusal::StorageFailed);
        }
        let next = Arc::new(next);
        let sealed = std::mem::replace(&mut self.active, next.clone());
        self.position = 0;
        self.written_back = 0;
        self.unsynced = None;
        self.marked = false;
        self.syncs = 0;
        self.shard.packs.lock().insert(next.number, next);
        let snapshot = Some(self.snapshot());
        let touched = std::mem::take(&mut self.touched);
        let shard = self.shard.clone();
        let seal = SealJob { shard, pack: sealed, touched, snapshot, indexed: false };
        if let Err(error) = self.inner.ask_sync(&self.shard, SyncJob::Seal(Box::new(seal))) {
            self.fail("sync", &error);
            return Err(Refusal::StorageFailed);
        }
        Ok(())
    }

    /// Writes an entry that says only what it is.
    fn write_mark(&mut self, kind: Kind) -> std::io::Result<()> {
        self.group.push_entry(self.active.number, self.run, kind, NO_PARTITION, &[]);
        let written = self.group.write(&*self.active.file, self.position, self.active.capacity);
        if written.is_ok() {
            self.position += self.group.bytes;
            self.unsynced.get_or_insert_with(Instant::now);
        }
        self.group.clear();
        written
    }

    /// The shard's state at this place. Everything staged is published.
    fn snapshot(&self) -> Snapshot {
        let partitions = self.inner.partitions_of(self.shard.number);
        let mut partitions: Vec<PartitionSnapshot> = (partitions.iter())
            .filter_map(|partition| {
                let bounds = partition.bounds().ok()?;
                let producers = partition.producers.lock().entries();
                let (start, end) = (bounds.start_offset, bounds.end_offset);
                (end > 0).then_some(PartitionSnapshot { id: partition.id, start, end, producers })
            })
            .collect();
        partitions.sort_unstable_by_key(|partition| partition.id);
        let place = Place { pack: self.active.number, position: self.position as u32 };
        let aborted = aborted_of(&self.inner.partitions_of(self.shard.number));
        let cursors = self.shard.cursors.lock();
        let transactions = self.shard.transactions.lock();
        Snapshot {
            place,
            run: self.run,
            partitions,
            cursors: cursors.entries(),
            pending: cursors.pending_entries(),
            fences: transactions.fences(),
            open: transactions.all().collect(),
            aborted,
            leases: Vec::new(),
            maps: self.shard.leases.entries(),
            decisions: transactions.decisions(),
            handed_out: Vec::new(),
        }
    }

    /// Syncs the active pack, and waits for those before it. False: it failed, and so has the shard.
    fn sync(&mut self) -> bool {
        let begun = Instant::now();
        match self.inner.settle(&self.shard).and_then(|()| self.active.file.sync_data()) {
            Ok(()) => {
                self.inner.counts.syncs.record(begun.elapsed());
                self.syncs += 1;
                self.unsynced = None;
                self.written_back = self.position;
                true
            }
            Err(error) => {
                self.fail("sync", &error);
                false
            }
        }
    }

    /// Stops taking writes until the engine is opened again.
    pub(super) fn fail(&mut self, what: &str, error: &std::io::Error) {
        tracing::error!(shard = self.shard.number, %error, "{what} failed: the shard takes no more writes");
        self.failed = true;
        self.shard.failed.store(true, Ordering::Release);
        self.unsynced = None;
        self.refuse(Refusal::StorageFailed);
    }

    /// Refuses all that is staged.
    fn refuse(&mut self, refusal: Refusal) {
        let mut staged = std::mem::take(&mut self.group.staged);
        staged.drain(..).for_each(|staged| staged.refuse(&self.shard, refusal));
        self.group.staged = staged;
        self.group.clear();
        self.generations.clear();
    }

    /// Makes as if the group had never been, in memory and on the disk: a part of it may have been written.
    fn undo(&mut self) -> std::io::Result<()> {
        let blank = [0; ENTRY_BYTES];
        self.active.file.write_at(self.position, &[std::io::IoSlice::new(&blank)])?;
        self.inner.settle(&self.shard)?;
        self.active.file.sync_data()?;
        for (partition, id, entry) in self.group.undo.drain(..).rev() {
            partition.producers.lock().restore(id, entry);
        }
        self.undo_transactions();
        for staged in &self.group.staged {
            if let Staged::Batch { partition, batch, .. } = staged {
                let end = partition.lock().end;
                partition.next.store(end, Ordering::Relaxed);
                if let Some(producer) = batch.header.producer {
                    partition.producers.lock().refused(producer, batch.header.append_time_ms);
                }
            }
        }
        Ok(())
    }

    /// The last things: everything to the disk, and a snapshot so that the next start is quick.
    fn finish(mut self) {
        if self.failed || (!self.is_synced() && !self.sync()) {
            return;
        }
        // From here on nothing is handed out, so that the next run knows what was.
        let handed_out = self.shard.leases.end();
        let snapshot = Snapshot { handed_out, ..self.snapshot() };
        if let Err(error) = snapshot::write(&*self.inner.disk, &self.shard.directory, &snapshot) {
            tracing::warn!(shard = self.shard.number, %error, "no snapshot at the end: the next start reads more");
        }
    }
}
