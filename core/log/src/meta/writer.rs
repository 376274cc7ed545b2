//! The thread through which all changes of meta go.
//!
//! It takes all calls that wait, decides them in order, commits once, tells the engine of topics, shows the changes
//! and answers. It also ends the sessions whose time is over.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use core_rpc::{SessionId, TopicId};
use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::oneshot;

use super::sessions::Deadlines;
use super::space::Space;
use super::store::{Failure, Store};
use super::transaction::{Changes, TopicChange, Transaction};
use super::watchers::Watchers;
use super::{MetaOptions, SessionClock, TopicOwner};
use crate::clock::Clock;

/// Calls decided in one transaction, so that the first does not wait for an endless stream of others.
const GROUP_MAX: usize = 4096;

/// After a failure the ends of sessions are tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Decides one call; what it returns answers it when the outcome of the commit is known.
pub type Job = Box<dyn FnOnce(&mut Transaction<'_>) -> Reply + Send>;
pub type Reply = Box<dyn FnOnce(Result<(), Failure>) + Send>;

/// What callers and the writer share.
pub struct Shared {
    pub space: RwLock<Space>,
    pub deadlines: Mutex<Deadlines>,
    pub watchers: Watchers,
    pub clock: Arc<dyn Clock>,
    pub session_clock: Arc<dyn SessionClock>,
    pub random: Mutex<Box<dyn FnMut() -> u128 + Send>>,
    /// Sessions up to this one were opened before the start.
    pub session_last_before: u64,
    /// No change is taken any more until the core is opened again.
    pub failed: AtomicBool,
    queue: Mutex<Queue>,
    ready: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    /// Look at the clock.
    woken: bool,
    stopped: bool,
}

pub struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Shared {
    /// Queues a call and waits for its answer.
    pub async fn submit<T, E>(
        &self,
        decide: impl FnOnce(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Failure> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let job: Job = Box::new(move |transaction| {
            let decided = decide(transaction);
            Box::new(move |committed| {
                // A refusal may rest on changes of the same group; if those failed, so did it.
                let result = committed.map_err(E::from).and(decided);
                // Who asked may have gone.
                let _ = sender.send(result);
            })
        });
        {
            let mut queue = self.queue.lock();
            if queue.stopped {
                return Err(Failure::Stopped.into());
            }
            queue.jobs.push(job);
        }
        self.ready.notify_one();
        answer.await.unwrap_or_else(|_| Err(Failure::Stopped.into()))
    }

    pub fn wake(&self) {
        self.queue.lock().woken = true;
        self.ready.notify_one();
    }

    pub fn new_topic_id(&self) -> TopicId {
        let mut random = self.random.lock();
        loop {
            match random() {
                0 => {}
                id => return TopicId(id),
            }
        }
    }
}

impl Writer {
    pub fn start(
        store: Store,
        space: Space,
        options: MetaOptions,
        owner: Arc<dyn TopicOwner>,
    ) -> io::Result<(Arc<Shared>, Writer)> {
        let MetaOptions { clock, session_clock, random } = options;
        let mut deadlines = Deadlines::default();
        let now = session_clock.elapsed();
        for (session, time_to_live) in space.sessions() {
            deadlines.add(session, time_to_live, now);
        }
        let shared = Arc::new(Shared {
            watchers: Watchers::default(),
            session_last_before: space.session_last(),
            failed: AtomicBool::new(false),
            space: RwLock::new(space),
            deadlines: Mutex::new(deadlines),
            clock,
            session_clock,
            random: Mutex::new(random),
            queue: Mutex::default(),
            ready: Condvar::new(),
        });
        let mut work = Work { shared: shared.clone(), store, owner, ending: Vec::new() };
        let thread = std::thread::Builder::new().name("meta-writer".into()).spawn(move || work.run())?;
        Ok((shared.clone(), Writer { shared, thread: Mutex::new(Some(thread)) }))
    }

    pub fn stop(&self) {
        self.shared.queue.lock().stopped = true;
        self.shared.ready.notify_one();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("meta's writer panicked");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The thread's own.
struct Work {
    shared: Arc<Shared>,
    store: Store,
    owner: Arc<dyn TopicOwner>,
    /// Sessions that are over, but not yet durably.
    ending: Vec<SessionId>,
}

/// However the thread ends, nobody waits for it in vain.
impl Drop for Work {
    fn drop(&mut self) {
        let jobs = {
            let mut queue = self.shared.queue.lock();
            queue.stopped = true;
            std::mem::take(&mut queue.jobs)
        };
        drop(jobs);
        self.shared.watchers.stop();
    }
}

impl Work {
    fn run(&mut self) {
        loop {
            let (jobs, stopped) = self.gather();
            let now = self.shared.session_clock.elapsed();
            self.ending.extend(self.shared.deadlines.lock().take_over(now));
            if jobs.is_empty() && stopped {
                return;
            }
            self.commit(jobs);
        }
    }

    /// Waits for calls or for the end of a session.
    fn gather(&self) -> (Vec<Job>, bool) {
        let mut retry = (!self.ending.is_empty()).then(|| Instant::now() + RETRY_AFTER);
        let mut queue = self.shared.queue.lock();
        while queue.jobs.is_empty() && !queue.stopped && !std::mem::take(&mut queue.woken) {
            // Renewing moves deadlines away without a word, opening brings them here by a job.
            let now = self.shared.session_clock.elapsed();
            let wait = self.shared.deadlines.lock().next().map(|at| at.saturating_sub(now));
            if wait == Some(Duration::ZERO) {
                break;
            }
            let until = wait.and_then(|wait| Instant::now().checked_add(wait));
            match until.into_iter().chain(retry).min() {
                Some(until) => {
                    let timed_out = self.shared.ready.wait_until(&mut queue, until).timed_out();
                    if timed_out && retry.take_if(|retry| *retry <= Instant::now()).is_some() {
                        break;
                    }
                }
                None => self.shared.ready.wait(&mut queue),
            }
        }
        let count = queue.jobs.len().min(GROUP_MAX);
        (queue.jobs.drain(..count).collect(), queue.stopped)
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        let space = self.shared.space.read();
        let mut transaction = Transaction::new(&space);
        for session in &self.ending {
            // It may have been closed meanwhile.
            let _ = transaction.session_end(*session);
        }
        let replies: Vec<Reply> = jobs.into_iter().map(|job| job(&mut transaction)).collect();
        let is_change = transaction.is_change();
        let changes = transaction.changes;
        let revision = space.revision();
        drop(space);

        let committed = match is_change {
            true => self.store.commit(&changes, revision),
            false => Ok(None),
        };
        let outcome = match committed {
            Ok(None) => {
                self.ending.clear();
                if is_change {
                    self.publish(changes);
                }
                Ok(())
            }
            Ok(Some(space)) => {
                self.replace(space);
                // Decided on a space that was not: whoever asks again finds the right one.
                Err(Failure::DiskFull)
            }
            Err(failure) => {
                self.shared.failed.store(failure == Failure::StorageFailed, Ordering::Release);
                Err(failure)
            }
        };
        for reply in replies {
            reply(outcome);
        }
    }

    /// Shows what is durable: to the engine first, which must know a topic before anybody can name it.
    fn publish(&self, mut changes: Changes) {
        for change in std::mem::take(&mut changes.topics) {
            match change {
                TopicChange::Added(topic) => self.owner.add_topic(&topic),
                TopicChange::Updated(topic) => self.owner.update_topic(&topic),
                TopicChange::Removed(id) => self.owner.remove_topic(id),
            }
        }
        let now = self.shared.session_clock.elapsed();
        let mut deadlines = self.shared.deadlines.lock();
        for (session, time_to_live) in &changes.sessions {
            match time_to_live {
                Some(time_to_live) => deadlines.add(*session, *time_to_live, now),
                None => deadlines.remove(*session),
            }
        }
        drop(deadlines);
        let revision = changes.revision;
        let ended: Vec<SessionId> =
            changes.sessions.iter().filter(|(_, lives)| lives.is_none()).map(|(session, _)| *session).collect();
        let keys: Vec<String> = changes.entries.keys().cloned().collect();
        self.shared.space.write().apply(changes);
        // After nobody finds it alive any more: who leases to it meanwhile looks afterwards.
        ended.into_iter().for_each(|session| self.owner.end_session(session));
        self.shared.watchers.tell(&keys, revision);
    }

    /// The database turned out to hold a commit that was thought to have failed: all of it is shown.
    fn replace(&self, new: Space) {
        let mut space = self.shared.space.write();
        let old_topics = space.topics();
        let new_topics = new.topics();
        for topic in &new_topics {
            match old_topics.iter().find(|old| old.id == topic.id) {
                None => self.owner.add_topic(topic),
                Some(old) if old != topic => self.owner.update_topic(topic),
                Some(_) => {}
            }
        }
        for old in old_topics.iter().filter(|old| !new_topics.iter().any(|topic| topic.id == old.id)) {
            self.owner.remove_topic(old.id);
        }
        let now = self.shared.session_clock.elapsed();
        let mut deadlines = self.shared.deadlines.lock();
        for (session, time_to_live) in new.sessions().filter(|(session, _)| !space.has_session(*session)) {
            deadlines.add(session, time_to_live, now);
        }
        let ended: Vec<SessionId> =
            space.sessions().map(|(session, _)| session).filter(|session| !new.has_session(*session)).collect();
        ended.iter().for_each(|session| deadlines.remove(*session));
        drop(deadlines);
        let revision = new.revision();
        *space = new;
        drop(space);
        ended.into_iter().for_each(|session| self.owner.end_session(session));
        self.shared.watchers.tell_all(revision);
    }
}
