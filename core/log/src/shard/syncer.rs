//! Syncs that no caller waits for, on a thread of their own, so that the shard's writer goes on meanwhile.
//!
//! The writer hands over what `relaxed` has written for some time, and each pack that it seals. What is done here is done
//! in order; a pack's index and the snapshot behind it are only made when the pack is synced. Who promises durability
//! first waits until all of it is done ([`Inner::settle`]): one sync at a time for a shard, so that none takes away the
//! error that another one ought to see.
//!
//! Without [`crate::Config::background`] the jobs lie until somebody has to wait for them: the latest that is allowed.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::Shard;
use super::housekeeper::{Job, SealJob};
use crate::engine::Inner;
use crate::pack::Pack;

/// Packs that are sealed but not synced, at most: then the writer waits. It bounds what a power cut takes from `relaxed`
/// (1 GiB of full packs), and how long one who needs a sync waits for what others left.
const UNSYNCED_PACKS_MAX: usize = 8;

/// What there is to do.
pub enum SyncJob {
    /// Have the disk begin writing, so that the sync has less to do.
    WriteBack { pack: Arc<Pack>, position: u64, length: u64 },
    /// Sync a pack that is being written.
    Sync { pack: Arc<Pack> },
    /// Sync a sealed pack, then have its index made.
    Seal(Box<SealJob>),
}

/// The jobs of one shard.
#[derive(Default)]
pub struct Syncer {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<SyncJob>,
    working: bool,
    /// Sealed packs among the jobs and in work.
    sealed: usize,
    failed: Option<(io::ErrorKind, String)>,
    stopping: bool,
}

impl State {
    fn result(&self) -> io::Result<()> {
        self.failed.as_ref().map_or(Ok(()), |(kind, text)| Err(io::Error::new(*kind, text.clone())))
    }
}

impl Syncer {
    /// Whether all that was handed over is on the disk.
    pub fn is_settled(&self) -> bool {
        let state = self.state.lock();
        state.jobs.is_empty() && !state.working && state.failed.is_none()
    }

    /// The error of a sync, once one has failed.
    pub fn result(&self) -> io::Result<()> {
        self.state.lock().result()
    }

    /// Lets the thread end after the jobs that wait.
    pub fn stop(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_all();
    }
}

/// Should the thread panic, whoever waits for it must not wait for ever.
struct Ending<'a>(&'a Shard);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = self.0.syncer.state.lock();
        if state.working {
            state.working = false;
            state.failed = Some((io::ErrorKind::Other, "the syncing thread panicked".to_owned()));
        }
        drop(state);
        self.0.syncer.changed.notify_all();
    }
}

impl Inner {
    /// Hands a job over. Waits while too many packs are not synced.
    pub fn ask_sync(&self, shard: &Shard, job: SyncJob) -> io::Result<()> {
        if matches!(job, SyncJob::WriteBack { .. }) && !self.config.background {
            return Ok(());
        }
        let seals = matches!(job, SyncJob::Seal(_));
        let mut state = shard.syncer.state.lock();
        state.sealed += usize::from(seals);
        state.jobs.push_back(job);
        shard.syncer.changed.notify_all();
        while seals && state.sealed > UNSYNCED_PACKS_MAX && state.failed.is_none() {
            if self.config.background {
                shard.syncer.changed.wait(&mut state);
            } else {
                drop(state);
                self.work_off(shard);
                state = shard.syncer.state.lock();
            }
        }
        state.result()
    }

    /// Waits until all sealed packs are synced. The caller then syncs the pack that is being written: what was asked for
    /// it and is not begun is left to him.
    pub fn settle(&self, shard: &Shard) -> io::Result<()> {
        let mut state = shard.syncer.state.lock();
        state.jobs.retain(|job| matches!(job, SyncJob::Seal(_)));
        if !self.config.background {
            drop(state);
            self.work_off(shard);
            return shard.syncer.result();
        }
        while (state.working || !state.jobs.is_empty()) && state.failed.is_none() {
            shard.syncer.changed.wait(&mut state);
        }
        state.result()
    }

    /// The thread of a shard's syncer.
    pub fn keep_synced(&self, shard: &Shard) {
        let _ending = Ending(shard);
        loop {
            let mut state = shard.syncer.state.lock();
            while state.jobs.is_empty() {
                if state.stopping {
                    return;
                }
                shard.syncer.changed.wait(&mut state);
            }
            drop(state);
            self.work_off(shard);
        }
    }

    /// Does all jobs that wait.
    fn work_off(&self, shard: &Shard) {
        loop {
            let job = {
                let mut state = shard.syncer.state.lock();
                if state.failed.is_some() {
                    // What comes behind a failed sync must not look as if it were kept.
                    state.jobs.clear();
                }
                let Some(job) = state.jobs.pop_front() else { return };
                state.working = true;
                job
            };
            let sealed = matches!(job, SyncJob::Seal(_));
            let done = self.do_sync(job);
            let failed = done.is_err();
            {
                let mut state = shard.syncer.state.lock();
                state.working = false;
                state.sealed -= usize::from(sealed);
                if let Err(error) = done {
                    state.failed = Some((error.kind(), error.to_string()));
                }
            }
            shard.syncer.changed.notify_all();
            if failed {
                shard.wake();
            }
        }
    }

    fn do_sync(&self, job: SyncJob) -> io::Result<()> {
        match job {
            SyncJob::WriteBack { pack, position, length } => pack.file.begin_write_back(position, length),
            SyncJob::Sync { pack } => pack.file.sync_data()?,
            SyncJob::Seal(seal) => {
                seal.pack.file.sync_data()?;
                self.housekeep(Job::Seal(seal));
            }
        }
        Ok(())
    }
}
