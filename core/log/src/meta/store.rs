//! The durable half of meta: three tables of one redb database.
//!
//! ```text
//! entries   key → postcard of StoredEntry
//! sessions  session id → time to live, ms
//! counters  "revision", "session" (the last id given out), "format"
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use core_rpc::{MetaEntry, MetaError, SessionId, TopicError};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::backend::Backend;
use super::space::Space;
use super::transaction::Changes;
use crate::disk::{Disk, is_full};

const FILE: &str = "meta.redb";
/// The database is made under this name: what a crash leaves half made is made anew.
const NEW_FILE: &str = "meta.redb.new";

const ENTRIES: TableDefinition<&str, &[u8]> = TableDefinition::new("entries");
const SESSIONS: TableDefinition<u64, u64> = TableDefinition::new("sessions");
const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");
const REVISION: &str = "revision";
const SESSION: &str = "session";
const FORMAT: &str = "format";

const FORMAT_NOW: u64 = 1;

/// The database's cache. The space is held in memory anyway; this serves the writes' walks through the tree.
const CACHE_BYTES: usize = 4 << 20;

#[derive(Serialize, Deserialize)]
struct StoredEntry<'a> {
    version: u64,
    session: Option<SessionId>,
    value: &'a [u8],
}

/// Why a change was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Another try may succeed.
    DiskFull,
    /// Meta takes no changes any more.
    StorageFailed,
    /// Meta has been stopped.
    Stopped,
}

impl From<Failure> for MetaError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::DiskFull => MetaError::DiskFull,
            Failure::StorageFailed => MetaError::StorageFailed,
            Failure::Stopped => MetaError::Unavailable,
        }
    }
}

impl From<Failure> for TopicError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::DiskFull => TopicError::DiskFull,
            Failure::StorageFailed => TopicError::StorageFailed,
            Failure::Stopped => TopicError::Unavailable,
        }
    }
}

pub struct Store {
    disk: Arc<dyn Disk>,
    state: State,
    sync_failed: Arc<AtomicBool>,
}

enum State {
    Open(Database),
    /// The disk was full; the database is opened again for the next change.
    Closed,
    Failed,
}

impl Store {
    /// Opens the database, making it if there is none, and reads all of it.
    pub fn open(disk: Arc<dyn Disk>) -> io::Result<(Store, Space)> {
        let sync_failed = Arc::new(AtomicBool::new(false));
        if !disk.exists(FILE)? {
            make(&*disk, &sync_failed)?;
        }
        let (database, space) = open(&*disk, &sync_failed).map_err(to_io)?;
        Ok((Store { disk, state: State::Open(database), sync_failed }, space))
    }

    /// Makes changes durable, all or none. `Ok(Some)`: the database was opened again and is further than `revision`:
    /// the last commit, which failed for want of space, is there after all. The changes were not made; this is the
    /// space that they must be decided on.
    pub fn commit(&mut self, changes: &Changes, revision: u64) -> Result<Option<Space>, Failure> {
        if let State::Closed = self.state {
            let (database, space) = open(&*self.disk, &self.sync_failed).map_err(|error| self.fail(error))?;
            self.state = State::Open(database);
            if space.revision() != revision {
                return Ok(Some(space));
            }
        }
        let State::Open(database) = &self.state else { return Err(Failure::StorageFailed) };
        write(database, changes).map_err(|error| self.fail(error))?;
        Ok(None)
    }

    fn fail(&mut self, error: redb::Error) -> Failure {
        let full = matches!(&error, redb::Error::Io(error) if is_full(error));
        // After a failed sync nobody knows what the file holds, whatever the reason was.
        if full && !self.sync_failed.load(Ordering::SeqCst) {
            tracing::warn!(%error, "no space for meta");
            self.state = State::Closed;
            Failure::DiskFull
        } else {
            tracing::error!(%error, "meta's storage failed; it takes no changes until the core is restarted");
            self.state = State::Failed;
            Failure::StorageFailed
        }
    }
}

fn make(disk: &dyn Disk, sync_failed: &Arc<AtomicBool>) -> io::Result<()> {
    if disk.exists(NEW_FILE)? {
        disk.remove(NEW_FILE)?;
    }
    let database = database(disk, NEW_FILE, sync_failed).map_err(to_io)?;
    write(&database, &Changes::default()).map_err(to_io)?;
    drop(database);
    disk.rename(NEW_FILE, FILE)?;
    disk.sync_directory("")
}

fn database(disk: &dyn Disk, name: &str, sync_failed: &Arc<AtomicBool>) -> Result<Database, redb::Error> {
    let backend = Backend::new(disk.open(name)?, sync_failed.clone());
    Ok(Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend)?)
}

fn open(disk: &dyn Disk, sync_failed: &Arc<AtomicBool>) -> Result<(Database, Space), redb::Error> {
    let database = database(disk, FILE, sync_failed)?;
    let space = read(&database)?;
    Ok((database, space))
}

fn read(database: &Database) -> Result<Space, redb::Error> {
    let transaction = database.begin_read()?;
    let counters = transaction.open_table(COUNTERS)?;
    let counter = |name: &str| Ok::<u64, redb::Error>(counters.get(name)?.map_or(0, |value| value.value()));
    let format = counter(FORMAT)?;
    if format != FORMAT_NOW {
        return Err(redb::Error::Corrupted(format!("meta has format {format}, this build reads {FORMAT_NOW}")));
    }

    let mut entries = Vec::new();
    for row in transaction.open_table(ENTRIES)?.iter()? {
        let (key, value) = row?;
        let stored: StoredEntry<'_> = postcard::from_bytes(value.value())
            .map_err(|_| redb::Error::Corrupted(format!("meta's entry {:?} cannot be read", key.value())))?;
        entries.push(MetaEntry {
            key: key.value().to_owned(),
            value: Bytes::copy_from_slice(stored.value),
            version: stored.version,
            session: stored.session,
        });
    }
    let mut sessions = Vec::new();
    for row in transaction.open_table(SESSIONS)?.iter()? {
        let (id, time_to_live) = row?;
        sessions.push((SessionId(id.value()), Duration::from_millis(time_to_live.value())));
    }
    Ok(Space::new(entries, sessions, counter(REVISION)?, counter(SESSION)?))
}

fn write(database: &Database, changes: &Changes) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut entries = transaction.open_table(ENTRIES)?;
        for (key, entry) in &changes.entries {
            match entry {
                Some(MetaEntry { value, version, session, .. }) => {
                    let stored = StoredEntry { version: *version, session: *session, value };
                    let stored = postcard::to_stdvec(&stored)
                        .map_err(|error| redb::Error::Io(io::Error::other(error.to_string())))?;
                    entries.insert(key.as_str(), stored.as_slice())?;
                }
                None => {
                    entries.remove(key.as_str())?;
                }
            }
        }
        let mut sessions = transaction.open_table(SESSIONS)?;
        for (session, time_to_live) in &changes.sessions {
            match time_to_live {
                Some(time_to_live) => {
                    let millis = u64::try_from(time_to_live.as_millis()).unwrap_or(u64::MAX);
                    sessions.insert(session.0, millis)?
                }
                None => sessions.remove(session.0)?,
            };
        }
        let mut counters = transaction.open_table(COUNTERS)?;
        counters.insert(REVISION, changes.revision)?;
        counters.insert(SESSION, changes.session_last)?;
        counters.insert(FORMAT, FORMAT_NOW)?;
    }
    transaction.commit()?;
    Ok(())
}

fn to_io(error: redb::Error) -> io::Error {
    match error {
        redb::Error::Io(error) => error,
        error => io::Error::other(error),
    }
}
