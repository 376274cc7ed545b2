//! The engine: shards, topics, threads. What can be asked of it is in [`crate::append`], [`crate::fetch`],
//! [`crate::offsets`], [`crate::groups`], [`crate::leases`], [`crate::transfer`] and [`crate::clean`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::{self, JoinHandle};

use codec_record::Formats;
use core_rpc::{PartitionId, Topic, TopicId, TopicSettings};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::compact::Stopping;
use crate::config::Config;
use crate::counts::Counts;
use crate::disk::Disk;
use crate::leases::ahead::Runs;
use crate::partition::Partition;
use crate::shard::housekeeper::{Housekeeper, Job};
use crate::shard::writer::Writer;
use crate::shard::{Command, Shard, recover, shard_of, shard_of_namespace};
use crate::snapshot::{read_checked, write_checked};

/// The file that holds what never changes of a data directory.
const FACTS_NAME: &str = "engine";
const FACTS_MAGIC: &[u8; 8] = b"LOGCORE1";

/// The layout of the data directory.
const LAYOUT: u32 = 1;

/// A log engine over a disk. Cloning shares it; it stops when [`Engine::stop`] is called or the last clone is dropped.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
    _stopper: Arc<Stopper>,
}

/// Why an engine cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the storage failed: {0}")]
    Storage(#[from] io::Error),
    #[error("the data directory has layout {0}, this version knows {LAYOUT}")]
    Layout(u32),
    #[error("pack {pack} of shard {shard} is missing")]
    PackMissing { shard: u32, pack: u32 },
    #[error("the journal has an entry of kind {kind}, which this version does not know")]
    UnknownEntry { kind: u8 },
}

/// What the engine's threads share.
pub struct Inner {
    pub config: Config,
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub formats: Formats,
    pub shards: Vec<Arc<Shard>>,
    pub housekeeper: Housekeeper,
    /// Whether the compaction has to stop.
    pub compaction: Stopping,
    /// Where the next fetch begins among its partitions, so that none is always last.
    pub turn: AtomicUsize,
    pub counts: Arc<Counts>,
    /// What cold reads for lease maps have brought.
    pub runs: Runs,
    topics: RwLock<HashMap<TopicId, Arc<TopicState>>>,
}

/// A topic as the engine knows it.
pub struct TopicState {
    pub namespace: String,
    pub settings: RwLock<TopicSettings>,
    pub partitions: RwLock<Vec<Arc<Partition>>>,
}

#[derive(Serialize, Deserialize)]
struct Facts {
    layout: u32,
    shards: u32,
}

struct Stopper {
    inner: Arc<Inner>,
    writers: Mutex<Vec<JoinHandle<()>>>,
    syncers: Mutex<Vec<JoinHandle<()>>>,
    housekeeper: Mutex<Option<JoinHandle<()>>>,
    compaction: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Opens the engine of a disk, making what is not there. `topics` are all there are: what the log holds of others is
    /// dropped. Blocks while it reads what was written last.
    pub fn open(
        config: Config,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        formats: Formats,
        topics: Vec<Topic>,
    ) -> Result<Engine, OpenError> {
        let shards = facts(&*disk, &config)?.shards;
        let inner = Arc::new(Inner {
            config,
            disk,
            clock,
            formats,
            shards: (0..shards).map(|number| Arc::new(Shard::new(number))).collect(),
            housekeeper: Housekeeper::default(),
            compaction: Stopping::default(),
            turn: AtomicUsize::new(0),
            counts: Arc::default(),
            runs: Runs::default(),
            topics: RwLock::default(),
        });
        topics.iter().for_each(|topic| inner.update_topic(topic));
        let background = inner.config.background;
        let housekeeper = background.then(|| {
            let inner = inner.clone();
            thread::Builder::new().name("log-house".to_owned()).spawn(move || inner.keep_house())
        });
        let stopper = Arc::new(Stopper {
            inner: inner.clone(),
            writers: Mutex::default(),
            syncers: Mutex::default(),
            housekeeper: Mutex::new(housekeeper.transpose()?),
            compaction: Mutex::default(),
        });
        let writers = recover_all(&inner)?;
        inner.share_fences();
        for writer in writers {
            if background {
                let (inner, shard) = (inner.clone(), writer.shard.clone());
                let name = format!("log-sync-{}", shard.number);
                let thread = thread::Builder::new().name(name).spawn(move || inner.keep_synced(&shard))?;
                stopper.syncers.lock().push(thread);
            }
            let name = format!("log-shard-{}", writer.shard.number);
            let thread = thread::Builder::new().name(name).spawn(move || writer.run())?;
            stopper.writers.lock().push(thread);
        }
        if background && !inner.config.clean_interval.is_zero() {
            let inner = inner.clone();
            let thread =
                thread::Builder::new().name("log-compact".to_owned()).spawn(move || inner.keep_compacting())?;
            *stopper.compaction.lock() = Some(thread);
        }
        Ok(Engine { inner, _stopper: stopper })
    }

    /// Makes a topic known; no error if it is.
    pub fn add_topic(&self, topic: &Topic) {
        self.inner.update_topic(topic);
    }

    /// Takes over a topic's settings and number of partitions, which only grows.
    pub fn update_topic(&self, topic: &Topic) {
        self.inner.update_topic(topic);
    }

    /// Forgets a topic, its batches and the cursors on it; no error if it is not known.
    pub fn remove_topic(&self, topic: TopicId) {
        self.inner.remove_topic(topic);
    }

    /// Finishes what was asked, writes everything to the disk and ends the threads. What is asked afterwards is answered
    /// `Unavailable`; reads go on. Blocks.
    pub fn stop(&self) {
        self._stopper.stop();
    }
}

/// Recovers the shards side by side: on a cold disk one waits for the other's reads otherwise.
fn recover_all(inner: &Arc<Inner>) -> Result<Vec<Writer>, OpenError> {
    if !inner.config.background || inner.shards.len() == 1 {
        return inner.shards.iter().map(|shard| recover::recover(inner, shard)).collect();
    }
    thread::scope(|scope| {
        let recover = |shard| scope.spawn(move || recover::recover(inner, shard));
        let threads: Vec<_> = inner.shards.iter().map(recover).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err(OpenError::Storage(io::Error::other("recovery panicked"))))
        };
        threads.into_iter().map(join).collect()
    })
}

fn facts(disk: &dyn Disk, config: &Config) -> Result<Facts, OpenError> {
    if disk.exists(FACTS_NAME)? {
        let facts: Facts = read_checked(disk, FACTS_NAME, FACTS_MAGIC)?;
        return if facts.layout == LAYOUT && facts.shards > 0 {
            Ok(facts)
        } else {
            Err(OpenError::Layout(facts.layout))
        };
    }
    let cores = || thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let facts = Facts { layout: LAYOUT, shards: config.shards.unwrap_or_else(cores).max(1) };
    write_checked(disk, FACTS_NAME, FACTS_MAGIC, &facts)?;
    Ok(facts)
}

impl Inner {
    pub fn partition(&self, id: PartitionId) -> Option<Arc<Partition>> {
        let topics = self.topics.read();
        let partitions = topics.get(&id.topic)?.partitions.read();
        partitions.get(id.index as usize).cloned()
    }

    pub fn topic_and_partition(&self, id: PartitionId) -> Option<(Arc<TopicState>, Arc<Partition>)> {
        let topics = self.topics.read();
        let topic = topics.get(&id.topic)?;
        let partition = topic.partitions.read().get(id.index as usize).cloned()?;
        Some((topic.clone(), partition))
    }

    pub fn topics(&self) -> Vec<Arc<TopicState>> {
        self.topics.read().values().cloned().collect()
    }

    /// All partitions of all topics.
    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        self.topics.read().values().flat_map(|topic| topic.partitions.read().clone()).collect()
    }

    /// All partitions of a shard.
    pub fn partitions_of(&self, shard: u32) -> Vec<Arc<Partition>> {
        let mut partitions = self.partitions();
        partitions.retain(|partition| partition.shard == shard);
        partitions
    }

    /// Hands commands to the writers: (shard, command), in order for each shard.
    pub fn push(&self, commands: Vec<(u32, Command)>) {
        if let [(shard, _), rest @ ..] = &commands[..]
            && rest.iter().all(|(other, _)| other == shard)
        {
            let shard = &self.shards[*shard as usize];
            return shard.push(commands.into_iter().map(|(_, command)| command).collect());
        }
        let mut by_shard: BTreeMap<u32, Vec<Command>> = BTreeMap::new();
        commands.into_iter().for_each(|(shard, command)| by_shard.entry(shard).or_default().push(command));
        by_shard.into_iter().for_each(|(shard, commands)| self.shards[shard as usize].push(commands));
    }

    fn update_topic(&self, topic: &Topic) {
        let mut topics = self.topics.write();
        let state = topics.entry(topic.id).or_insert_with(|| {
            let (namespace, settings) = (topic.namespace.clone(), RwLock::new(topic.settings.clone()));
            Arc::new(TopicState { namespace, settings, partitions: RwLock::default() })
        });
        *state.settings.write() = topic.settings.clone();
        let mut partitions = state.partitions.write();
        let shards = self.shards.len() as u32;
        for index in partitions.len() as u32..topic.partitions {
            let id = PartitionId { topic: topic.id, index };
            let together = topic.settings.together;
            let shard = if together { shard_of_namespace(&topic.namespace, shards) } else { shard_of(id, shards) };
            partitions.push(Arc::new(Partition::new(id, shard)));
        }
    }

    fn remove_topic(&self, id: TopicId) {
        let Some(topic) = self.topics.write().remove(&id) else { return };
        // Where it was the last that a pack lived for; a topic without batches gives the housekeeper nothing to do.
        let mut freed = BTreeSet::new();
        for partition in topic.partitions.read().iter() {
            if partition.remove() {
                freed.insert(partition.shard);
            }
        }
        for shard in &self.shards {
            shard.cursors.lock().forget_topic(id);
            shard.transactions.lock().forget_topic(id);
            shard.leases.forget_topic(id);
            if freed.contains(&shard.number) {
                self.housekeep(Job::Reclaim { shard: shard.clone() });
            }
        }
    }
}

impl Stopper {
    fn stop(&self) {
        let mut panicked = false;
        // First, as it may wait for a writer.
        self.inner.compaction.stop();
        if let Some(thread) = self.compaction.lock().take() {
            panicked |= thread.join().is_err();
        }
        self.inner.shards.iter().for_each(|shard| shard.stop());
        for thread in self.writers.lock().drain(..) {
            panicked |= thread.join().is_err();
        }
        // They end after the writers; those that have none because the engine could not be opened, now.
        self.inner.shards.iter().for_each(|shard| shard.syncer.stop());
        for thread in self.syncers.lock().drain(..) {
            panicked |= thread.join().is_err();
        }
        // The others wait for it, so it ends last.
        self.inner.housekeeper.stop();
        if let Some(thread) = self.housekeeper.lock().take() {
            panicked |= thread.join().is_err();
        }
        if panicked {
            tracing::error!("a thread of the log engine panicked");
        }
    }
}

impl Drop for Stopper {
    fn drop(&mut self) {
        self.stop();
    }
}
