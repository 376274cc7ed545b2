//! The work on packs that no caller should wait for: preparing the next, making the index of a sealed one, reclaiming
//! those that nobody needs; and the clock of the cleaner.
//!
//! One thread does it for all shards; without [`crate::Config::background`] whoever asks does it on the spot.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::group::Refusal;
use super::{Next, Shard};
use crate::disk::is_full;
use crate::engine::Inner;
use crate::pack::index::{PackIndex, PartEntries};
use crate::pack::{Pack, index_name, kept_index_name, kept_log_name, log_name, spare_name};
use crate::partition::Partition;
use crate::snapshot::{self, Snapshot};

/// Packs kept to be filled again, per shard: one is being prepared while another falls free.
const SPARES_MAX: usize = 2;

/// Zeros are written and synced in steps of this size, so that the writers' syncs need not wait for all of them.
const ZERO_STEP_BYTES: u64 = 8 << 20;

/// When a pack that could not be prepared is tried again, if somebody wants to write.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How often it is told that none can be prepared.
const TELL_AFTER: Duration = Duration::from_secs(10);

/// What there is to do.
pub enum Job {
    Prepare { shard: Arc<Shard>, number: u32, capacity: u64, fill: Fill },
    Seal(Box<SealJob>),
    Reclaim { shard: Arc<Shard> },
}

/// What a new pack's file is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Zeros, written and synced: each later sync costs less.
    Zeros,
    /// Nothing: it is there at once, and the disk writes each byte only once.
    Nothing,
}

/// Write the index of a sealed pack, then the snapshot of the shard behind it.
pub struct SealJob {
    pub shard: Arc<Shard>,
    pub pack: Arc<Pack>,
    /// The partitions that may have batches in the pack, perhaps more than once.
    pub touched: Vec<Arc<Partition>>,
    pub snapshot: Option<Snapshot>,
    /// The index is written: should the snapshot find no room, it must not be written again, as the partitions have
    /// given up what it is made of.
    pub indexed: bool,
}

/// The jobs that wait.
#[derive(Default)]
pub struct Housekeeper {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Seals that found no room, to be tried again before any later one.
    deferred: Mutex<VecDeque<SealJob>>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    stopping: bool,
}

impl Housekeeper {
    /// Lets the thread end after the jobs that wait.
    pub fn stop(&self) {
        self.queue.lock().stopping = true;
        self.changed.notify_one();
    }
}

impl Inner {
    /// Does a job, or has it done.
    pub fn housekeep(&self, job: Job) {
        if !self.config.background {
            return self.do_job(job);
        }
        self.housekeeper.queue.lock().jobs.push_back(job);
        self.housekeeper.changed.notify_one();
    }

    /// The housekeeper's thread.
    pub fn keep_house(&self) {
        let mut clean_at = Instant::now() + self.config.clean_interval;
        loop {
            let job = {
                let mut queue = self.housekeeper.queue.lock();
                loop {
                    if let Some(job) = queue.jobs.pop_front() {
                        break Some(job);
                    }
                    if queue.stopping {
                        return;
                    }
                    if self.config.clean_interval.is_zero() {
                        self.housekeeper.changed.wait(&mut queue);
                    } else if self.housekeeper.changed.wait_until(&mut queue, clean_at).timed_out() {
                        break None;
                    }
                }
            };
            match job {
                Some(job) => self.do_job(job),
                None => {
                    crate::buffers::trim();
                    self.runs.expire();
                    self.clean(self.clock.now_ms());
                    clean_at = Instant::now() + self.config.clean_interval;
                }
            }
        }
    }

    fn do_job(&self, job: Job) {
        match job {
            Job::Prepare { shard, number, capacity, fill } => {
                let made = self.prepare(&shard, number, capacity, fill);
                let next = match made {
                    Ok(pack) => {
                        *shard.next_failure_told.lock() = None;
                        Next::Ready(pack)
                    }
                    Err(error) => {
                        let mut told = shard.next_failure_told.lock();
                        // It is tried as often as somebody wants to write.
                        if told.is_none_or(|told| told.elapsed() >= TELL_AFTER) {
                            *told = Some(Instant::now());
                            tracing::warn!(shard = shard.number, %error, "no next pack could be prepared");
                        }
                        Next::Failed { disk_full: is_full(&error), at: Instant::now() }
                    }
                };
                *shard.next.lock() = next;
                shard.next_changed.notify_all();
            }
            Job::Seal(seal) => {
                self.housekeeper.deferred.lock().push_back(*seal);
                self.seal_deferred();
            }
            Job::Reclaim { shard } => self.reclaim(&shard),
        }
    }

    /// Has the next pack prepared, unless it is.
    pub fn ask_next(&self, shard: &Arc<Shard>, number: u32, capacity: u64, fill: Fill) {
        {
            let mut next = shard.next.lock();
            if !matches!(*next, Next::Idle) {
                return;
            }
            *next = Next::Asked;
        }
        self.housekeep(Job::Prepare { shard: shard.clone(), number, capacity, fill });
    }

    /// The next pack, with at least the needed capacity. Waits until it is prepared; `capacity` and `fill` are for one that
    /// is not.
    pub fn take_next(
        &self,
        shard: &Arc<Shard>,
        number: u32,
        capacity: u64,
        needed: u64,
        fill: Fill,
    ) -> Result<Pack, Refusal> {
        {
            let mut next = shard.next.lock();
            if let Next::Failed { disk_full, at } = &*next {
                // Where many want to write, the disk is not asked for each of them.
                if self.config.background && at.elapsed() < TRY_AGAIN_AFTER {
                    return Err(refusal(*disk_full));
                }
                *next = Next::Idle;
            }
        }
        self.ask_next(shard, number, capacity, fill);
        let pack = {
            let mut next = shard.next.lock();
            loop {
                match std::mem::replace(&mut *next, Next::Idle) {
                    Next::Ready(pack) => break pack,
                    Next::Failed { disk_full, at } => {
                        *next = Next::Failed { disk_full, at };
                        return Err(refusal(disk_full));
                    }
                    waiting => {
                        *next = waiting;
                        shard.next_changed.wait(&mut next);
                    }
                }
            }
        };
        if pack.capacity >= needed {
            return Ok(pack);
        }
        self.grow(shard, pack, needed)
    }

    /// Makes a prepared pack larger; puts it back if that fails.
    fn grow(&self, shard: &Arc<Shard>, pack: Pack, capacity: u64) -> Result<Pack, Refusal> {
        let grown = zero(&pack, pack.capacity, capacity);
        match grown {
            Ok(()) => Ok(Pack::new(pack.number, capacity, pack.file)),
            Err(error) => {
                let refusal = if is_full(&error) { Refusal::DiskFull } else { Refusal::Unavailable };
                // What was added is of no use; should cutting it fail, the pack is only larger than it says.
                let _ = pack.file.set_len(pack.capacity);
                *shard.next.lock() = Next::Ready(pack);
                Err(refusal)
            }
        }
    }

    /// Makes a pack file: a spare one, whose blocks were all written, or a new one.
    pub fn prepare(&self, shard: &Shard, number: u32, capacity: u64, fill: Fill) -> io::Result<Pack> {
        let directory = &shard.directory;
        let name = log_name(directory, number);
        let spare = {
            let mut spares = shard.spares.lock();
            let fitting = spares.iter().position(|(_, spare)| *spare >= capacity);
            fitting.map(|at| spares.swap_remove(at).0)
        };
        if let Some(spare) = spare {
            self.disk.rename(&spare_name(directory, spare), &name)?;
            self.disk.sync_directory(directory)?;
            return Pack::open(&*self.disk, directory, number);
        }
        let temporary = format!("{name}.tmp");
        let pack = Pack::new(number, capacity, self.disk.open(&temporary)?);
        let made = (pack.file.set_len(0))
            .and_then(|()| match fill {
                Fill::Zeros => zero(&pack, 0, capacity),
                Fill::Nothing => pack.file.reserve(0, capacity).and_then(|()| pack.file.sync_data()),
            })
            .and_then(|()| self.disk.rename(&temporary, &name))
            .and_then(|()| self.disk.sync_directory(directory));
        if let Err(error) = made {
            // Gives the space back; what cannot be removed now is when the engine opens next.
            let _ = self.disk.remove(&temporary);
            return Err(error);
        }
        Ok(pack)
    }

    /// Works off the seals in order. One that finds no room waits for the next occasion: its pack is indexed in memory.
    pub fn seal_deferred(&self) {
        // Locked to the end: a shard's seals must be done in order.
        let mut deferred = self.housekeeper.deferred.lock();
        while let Some(mut seal) = deferred.pop_front() {
            if let Err(error) = self.seal(&mut seal) {
                tracing::warn!(pack = seal.pack.number, %error, "a pack's index could not be written; it will be tried again");
                deferred.push_front(seal);
                return;
            }
            let shard = seal.shard.clone();
            // A pack that somebody holds is not recycled.
            drop(seal);
            self.reclaim(&shard);
        }
    }

    fn seal(&self, seal: &mut SealJob) -> io::Result<()> {
        if !seal.indexed {
            self.write_index(seal)?;
            seal.indexed = true;
        }
        if let Some(snapshot) = &seal.snapshot {
            let oldest = snapshot::write(&*self.disk, &seal.shard.directory, snapshot)?;
            seal.shard.snapshot_pack.store(oldest.pack, Ordering::Release);
        }
        Ok(())
    }

    fn write_index(&self, seal: &SealJob) -> io::Result<()> {
        let mut touched = seal.touched.clone();
        touched.sort_unstable_by_key(|partition| partition.id);
        touched.dedup_by_key(|partition| partition.id);
        let with_entries = |partition: &Arc<Partition>| {
            let entries = partition.open_entries(seal.pack.number)?;
            Some(PartEntries { partition: partition.id, entries, cover: None })
        };
        let parts: Vec<PartEntries> = touched.iter().filter_map(with_entries).collect();
        let name = index_name(&seal.shard.directory, seal.pack.number);
        let (index, directory) = PackIndex::write(&*self.disk, &name, seal.pack.number, &parts)?;
        seal.pack.set_index(index);
        let mut parts = directory.iter().peekable();
        for partition in &touched {
            if let Some(part) = parts.next_if(|part| part.partition == partition.id) {
                partition.sealed(part, &seal.pack);
            }
        }
        Ok(())
    }

    /// Deletes the packs in which nothing is kept and that recovery does not need, or keeps them to be filled again.
    pub fn reclaim(&self, shard: &Shard) {
        let snapshot_pack = shard.snapshot_pack.load(Ordering::Acquire);
        let dead: Vec<Arc<Pack>> = {
            let mut packs = shard.packs.lock();
            let dead: Vec<u32> =
                packs.range(..snapshot_pack).filter(|(_, pack)| pack.is_dead()).map(|(number, _)| *number).collect();
            dead.iter().filter_map(|number| packs.remove(number)).collect()
        };
        let dead_kept: Vec<Arc<Pack>> = {
            let mut kept = shard.kept.lock();
            let dead: Vec<u32> = kept.iter().filter(|(_, pack)| pack.is_dead()).map(|(number, _)| *number).collect();
            dead.iter().filter_map(|number| kept.remove(number)).collect()
        };
        if !dead.is_empty() || !dead_kept.is_empty() {
            let mut next = shard.next.lock();
            if matches!(*next, Next::Failed { .. }) {
                // There may be room now.
                *next = Next::Idle;
            }
        }
        for pack in dead.into_iter().chain(dead_kept) {
            if let Err(error) = self.reclaim_pack(shard, &pack) {
                tracing::warn!(pack = pack.number, %error, "a pack could not be reclaimed; it will be when the engine opens next");
            }
        }
    }

    fn reclaim_pack(&self, shard: &Shard, pack: &Arc<Pack>) -> io::Result<()> {
        let directory = &shard.directory;
        if pack.kept {
            // The index goes last: a log without one would be read to make it again.
            self.disk.remove(&kept_log_name(directory, pack.number))?;
            return self.disk.remove(&kept_index_name(directory, pack.number));
        }
        let index = index_name(directory, pack.number);
        if self.disk.exists(&index)? {
            self.disk.remove(&index)?;
        }
        let mut spares = shard.spares.lock();
        // A reader may still hold the pack: its bytes must then not change.
        let unused = Arc::strong_count(pack) == 1;
        if unused && pack.capacity == self.config.pack_bytes && spares.len() < SPARES_MAX {
            self.disk.rename(&log_name(directory, pack.number), &spare_name(directory, pack.number))?;
            spares.push((pack.number, pack.capacity));
        } else {
            self.disk.remove(&log_name(directory, pack.number))?;
        }
        Ok(())
    }
}

fn refusal(disk_full: bool) -> Refusal {
    if disk_full { Refusal::DiskFull } else { Refusal::Unavailable }
}

/// Writes zeros from `begin` to `end` and syncs them.
fn zero(pack: &Pack, begin: u64, end: u64) -> io::Result<()> {
    let mut at = begin;
    while at < end {
        let step = (end - at).min(ZERO_STEP_BYTES);
        pack.file.zero(at, step)?;
        pack.file.sync_data()?;
        at += step;
    }
    Ok(())
}
