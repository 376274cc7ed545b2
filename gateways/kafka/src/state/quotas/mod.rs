//! Quotas (KIP-13, KIP-124, KIP-546, KIP-599, KIP-612): who may produce, fetch, create and connect how fast, and take how much of
//! the gateway's time.
//!
//! They are kept in the core's meta, one key for each entity, and every gateway mirrors them. Each gateway measures by
//! itself, as each Kafka broker does. Who uses more than its share is told for how long to be silent
//! (`throttle_time_ms`), and is not listened to for so long.

mod bucket;
mod entity;
mod limits;
mod mutations;
mod table;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use core_rpc::{Core, MetaCondition, MetaEntry, MetaError, MetaPut, key_part};
use dashmap::DashMap;
use gateway_runtime::Mirror;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use bucket::{Bucket, SAVED_SECONDS};
pub use entity::{CLIENT_ID, Entity, EntityError, IP, Name, USER};
pub use limits::{Kind, Limits, check};
pub use mutations::{Exceeded, Mutations};
use table::{Limit, Sharer, Table};

/// After what time an allowance that nobody used is forgotten: it is full long before.
const FORGOTTEN_MS: i64 = 60_000;
/// Allowances from which on those that are full are looked for.
const BUCKETS_MANY: usize = 10_000;
/// Tries after another gateway changed the quotas at the same time.
const TRIES: usize = 10;
/// The longest silence for the time that requests took: one of Kafka's windows (`quota.window.size.seconds`).
const REQUEST_SILENCE_MAX: Duration = Duration::from_secs(1);
/// How long a change may take to come back.
const REACHED_WAIT: Duration = Duration::from_secs(5);

pub struct Quotas<C> {
    core: C,
    prefix: String,
    mirror: Mirror<(Entity, Limits)>,
    table: Arc<RwLock<Arc<Table>>>,
    buckets: DashMap<(Kind, Sharer), Bucket>,
}

impl<C: Core> Quotas<C> {
    /// Reads the quotas of a namespace, then follows them until `stop`. Waits until the core answers.
    pub async fn start(core: C, namespace: &str, stop: CancellationToken) -> Result<Self, MetaError> {
        let prefix = format!("kafka/{}/quota/", key_part(namespace));
        let mirror = Mirror::start(core.clone(), prefix.clone(), decode, stop.clone()).await?;
        let table = Arc::new(RwLock::new(table_of(&mirror)));
        let (following, shared) = (mirror.clone(), table.clone());
        tokio::spawn(async move {
            let mut changes = following.changes();
            let follow = async {
                while changes.changed().await.is_ok() {
                    changes.borrow_and_update();
                    *shared.write() = table_of(&following);
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = follow => {}
            }
        });
        Ok(Quotas { core, prefix, mirror, table, buckets: DashMap::new() })
    }

    /// All entities that have limits.
    pub fn all(&self) -> Vec<(Entity, Limits)> {
        self.mirror.content().entries.values().cloned().collect()
    }

    /// Notes what a client used; returns for how long it has to be silent.
    pub fn used(&self, kind: Kind, user: &str, client_id: &str, amount: usize, now_ms: i64) -> Duration {
        match self.limit(kind, user, client_id) {
            Some(limit) => {
                self.with_bucket(kind, limit, now_ms, |bucket, rate| bucket.take(amount as f64, rate, now_ms))
            }
            None => Duration::ZERO,
        }
    }

    /// Whether anybody's requests are limited by their time.
    pub fn limits_requests(&self) -> bool {
        self.table.read().limits_requests()
    }

    /// Notes what time of threads a client's request took; returns for how long the client has to be silent. That is a second at
    /// most, as in Kafka (KIP-124): the time that clients wait for answers must not run out because of it.
    pub fn took(&self, user: &str, client_id: &str, time: Duration, now_ms: i64) -> Duration {
        match self.limit(Kind::Request, user, client_id) {
            Some(limit) => {
                let percent_seconds = time.as_secs_f64() * 100.0;
                let silence = self.with_bucket(Kind::Request, limit, now_ms, |bucket, rate| {
                    bucket.take_bounded(percent_seconds, rate, REQUEST_SILENCE_MAX, now_ms)
                });
                silence.min(REQUEST_SILENCE_MAX)
            }
            None => Duration::ZERO,
        }
    }

    /// Notes that a client uses something, unless it has used too much already; then for how long that is so.
    pub fn use_if_allowed(
        &self,
        kind: Kind,
        user: &str,
        client_id: &str,
        amount: usize,
        now_ms: i64,
    ) -> Result<(), Duration> {
        match self.limit(kind, user, client_id) {
            Some(limit) => self
                .with_bucket(kind, limit, now_ms, |bucket, rate| bucket.take_if_allowed(amount as f64, rate, now_ms)),
            None => Ok(()),
        }
    }

    /// The most that a client may use at once; None: without limit.
    pub fn at_once(&self, kind: Kind, user: &str, client_id: &str) -> Option<u64> {
        self.limit(kind, user, client_id).map(|limit| (limit.rate * SAVED_SECONDS) as u64)
    }

    /// Notes that an address connects; returns for how long it has to wait.
    pub fn connected(&self, address: IpAddr, now_ms: i64) -> Duration {
        let table = self.table.read().clone();
        if table.is_empty() {
            return Duration::ZERO;
        }
        match table.of_address(Kind::Connection, &address.to_canonical().to_string()) {
            Some(limit) => {
                self.with_bucket(Kind::Connection, limit, now_ms, |bucket, rate| bucket.take(1.0, rate, now_ms))
            }
            None => Duration::ZERO,
        }
    }

    fn limit(&self, kind: Kind, user: &str, client_id: &str) -> Option<Limit> {
        let table = self.table.read();
        if table.is_empty() { None } else { table.of_client(kind, user, client_id) }
    }

    fn with_bucket<T>(&self, kind: Kind, limit: Limit, now_ms: i64, act: impl FnOnce(&mut Bucket, f64) -> T) -> T {
        if self.buckets.len() >= BUCKETS_MANY {
            self.buckets.retain(|_, bucket| now_ms.saturating_sub(bucket.used_ms()) < FORGOTTEN_MS);
        }
        let mut bucket = self.buckets.entry((kind, limit.sharer)).or_insert_with(|| Bucket::new(limit.rate, now_ms));
        act(&mut bucket, limit.rate)
    }

    /// Sets (Some) and removes (None) limits of an entity, durably.
    pub async fn alter(&self, entity: &Entity, changes: &[(String, Option<f64>)]) -> Result<(), MetaError> {
        let key = format!("{}{}", self.prefix, entity.to_key());
        let mut current = self.core.meta_get(key.clone()).await?;
        for _ in 0..TRIES {
            let before = match &current {
                // What cannot be read must not be overwritten.
                Some(entry) => limits::decode(&entry.value).ok_or(MetaError::StorageFailed)?,
                None => Limits::new(),
            };
            let mut after = before.clone();
            for (name, value) in changes {
                match value {
                    Some(value) => drop(after.insert(name.clone(), *value)),
                    None => drop(after.remove(name)),
                }
            }
            if after == before {
                return Ok(());
            }
            match self.write(&key, after, current.as_ref()).await {
                Err(MetaError::Conflict(entry)) => current = entry,
                result => return result,
            }
        }
        Err(MetaError::Unavailable)
    }

    async fn write(&self, key: &str, limits: Limits, current: Option<&MetaEntry>) -> Result<(), MetaError> {
        let condition = current.map_or(MetaCondition::Absent, |entry| MetaCondition::Version(entry.version));
        if limits.is_empty() {
            return self.core.meta_delete(key.to_owned(), condition).await;
        }
        let value = limits::encode(&limits).map_err(|_| MetaError::TooLarge)?;
        let put = MetaPut { key: key.to_owned(), value, condition, session: None };
        let version = self.core.meta_put(put).await?;
        // So that whoever asks next sees it.
        self.mirror.reached(version, REACHED_WAIT).await;
        Ok(())
    }
}

fn table_of(mirror: &Mirror<(Entity, Limits)>) -> Arc<Table> {
    Arc::new(Table::new(mirror.content().entries.values().cloned().collect()))
}

fn decode(entry: &MetaEntry) -> Option<(Entity, Limits)> {
    let read = || {
        let (_, key) = entry.key.split_once("/quota/")?;
        Some((Entity::from_key(key)?, limits::decode(&entry.value)?))
    };
    let read = read();
    if read.is_none() {
        tracing::error!(key = entry.key, "a quota cannot be read, and is not obeyed");
    }
    read
}
