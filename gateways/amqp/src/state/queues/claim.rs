//! What a gateway tells the others of its consumers, in keys under its session.
//!
//! ```text
//! amqp/consumers/<vhost>/<queue>/<gateway>   there are consumers at this gateway; exclusive: only one, which wants to be alone
//! amqp/consumer/<vhost>/<queue>              the gateway that has the single active consumer
//! ```
//! A gateway that dies loses its session, and with it the keys: whoever waits for the second is woken, and delivers on.
//! An exclusive queue has no keys, for only its connection can consume from it.

use std::time::Duration;

use bytes::Bytes;
use core_rpc::{Core, MetaChanges, MetaCondition, MetaError, MetaEvent, MetaPut, MetaWatch, SessionId};
use serde::{Deserialize, Serialize};

use super::dealer::Mode;
use super::live::LiveQueue;
use crate::state::topology::{Queue, keys};

/// How long one watch stands; it is renewed at once.
const WATCH_WAIT: Duration = Duration::from_secs(30);
/// How long to wait before asking a core again that could not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// At both keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClaimRecord {
    /// The gateway's node id.
    pub gateway: i32,
    #[serde(default)]
    pub exclusive: bool,
}

/// A dispatcher's keys.
pub(super) struct Claim<C> {
    core: C,
    node_id: i32,
    session: SessionId,
    /// None: nobody else can have consumers.
    presence: Option<Key>,
    /// Of a queue with a single active consumer.
    single_active: Option<Key>,
    held: bool,
}

/// A key, and its version if it was put.
struct Key {
    name: String,
    put: Option<u64>,
}

impl From<String> for Key {
    fn from(name: String) -> Key {
        Key { name, put: None }
    }
}

impl<C: Core> Claim<C> {
    pub fn new(core: C, node_id: i32, live: &LiveQueue, session: SessionId) -> Claim<C> {
        let queue = &live.queue;
        let single_active = live.dealing.lock().dealer.mode() != Mode::All;
        let shared = queue.record.exclusive.is_none();
        Claim {
            core,
            node_id,
            session,
            presence: shared.then(|| presence_key(queue, node_id).into()),
            single_active: (shared && single_active)
                .then(|| keys::key("consumer", &[&queue.vhost, &queue.name]).into()),
            held: !shared,
        }
    }

    /// Whether this gateway may deliver.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Waits until this gateway may deliver.
    pub async fn hold(&mut self, live: &LiveQueue) {
        let presence = self.presence.as_ref().map(|key| key.name.clone());
        if let Some(name) = presence {
            let exclusive = live.dealing.lock().dealer.is_exclusive();
            // Only others' exclusive consumers, and what the others show, depend on it.
            match self.put(name, exclusive, MetaCondition::Always).await {
                Ok(version) => self.presence.iter_mut().for_each(|key| key.put = Some(version)),
                Err(error) => tracing::debug!(%error, "the other gateways were not told of a consumer"),
            }
        }
        let Some(name) = self.single_active.as_ref().map(|key| key.name.clone()) else {
            self.held = true;
            return;
        };
        let version = loop {
            match self.put(name.clone(), false, MetaCondition::Absent).await {
                Ok(version) => break version,
                // Ours, left from before.
                Err(MetaError::Conflict(Some(entry)))
                    if serde_json::from_slice(&entry.value)
                        .is_ok_and(|record: ClaimRecord| record.gateway == self.node_id) =>
                {
                    if let Ok(version) = self.put(name.clone(), false, MetaCondition::Version(entry.version)).await {
                        break version;
                    }
                }
                Err(MetaError::Conflict(_)) => self.wait_for_change(&name).await,
                Err(error) => {
                    tracing::debug!(%error, "cannot ask for the single active consumer");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        };
        self.single_active.iter_mut().for_each(|key| key.put = Some(version));
        self.held = true;
    }

    /// This gateway has no consumer any more. What others have put at the keys since stays.
    pub async fn give_up(&mut self) {
        self.held = self.presence.is_none();
        // Of the single active consumer only what was won.
        let single_active = self.single_active.iter_mut().filter(|key| key.put.is_some());
        for key in single_active.chain(&mut self.presence) {
            let condition = key.put.take().map_or(MetaCondition::Always, MetaCondition::Version);
            match self.core.meta_delete(key.name.clone(), condition).await {
                Ok(()) | Err(MetaError::Conflict(_)) => {}
                Err(error) => tracing::debug!(%error, "the other gateways were not told that a consumer left"),
            }
        }
    }

    async fn put(&self, key: String, exclusive: bool, condition: MetaCondition) -> Result<u64, MetaError> {
        put(&self.core, key, ClaimRecord { gateway: self.node_id, exclusive }, condition, self.session).await
    }

    /// Waits until the key is changed or gone.
    async fn wait_for_change(&self, key: &str) {
        let waited = async {
            let list = self.core.meta_list(key.to_owned()).await?;
            if list.entries.iter().all(|entry| entry.key != key) {
                return Ok(());
            }
            let mut after_revision = list.revision;
            loop {
                let watch = MetaWatch { prefix: key.to_owned(), after_revision, wait: WATCH_WAIT };
                match self.core.meta_watch(watch).await? {
                    MetaChanges::Relist => return Ok(()),
                    // Other keys may begin alike.
                    MetaChanges::Events { events, revision } => {
                        if events
                            .iter()
                            .any(|event| matches!(event, MetaEvent::Deleted { key: gone, .. } if gone == key))
                        {
                            return Ok(());
                        }
                        after_revision = revision;
                    }
                }
            }
        };
        let waited: Result<(), MetaError> = waited.await;
        if waited.is_err() {
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }
}

/// Says that there is an exclusive consumer at this gateway. False: another gateway has consumers.
pub(super) async fn claim_exclusively<C: Core>(
    core: &C,
    queue: &Queue,
    node_id: i32,
    session: SessionId,
) -> Result<bool, MetaError> {
    let key = presence_key(queue, node_id);
    // Written before it is looked: of two at once at least one sees the other.
    put(core, key.clone(), ClaimRecord { gateway: node_id, exclusive: true }, MetaCondition::Always, session).await?;
    let alone = others(core, queue, node_id).await?.is_empty();
    if !alone {
        core.meta_delete(key, MetaCondition::Always).await?;
    }
    Ok(alone)
}

/// What other gateways say of their consumers of a queue.
pub(super) async fn others<C: Core>(core: &C, queue: &Queue, node_id: i32) -> Result<Vec<ClaimRecord>, MetaError> {
    let prefix = format!("{}/", keys::key("consumers", &[&queue.vhost, &queue.name]));
    let entries = core.meta_list(prefix).await?.entries;
    let records = entries.iter().filter_map(|entry| serde_json::from_slice(&entry.value).ok());
    Ok(records.filter(|record: &ClaimRecord| record.gateway != node_id).collect())
}

async fn put<C: Core>(
    core: &C,
    key: String,
    record: ClaimRecord,
    condition: MetaCondition,
    session: SessionId,
) -> Result<u64, MetaError> {
    let value = serde_json::to_vec(&record).map(Bytes::from).map_err(|_| MetaError::TooLarge)?;
    core.meta_put(MetaPut { key, value, condition, session: Some(session) }).await
}

fn presence_key(queue: &Queue, node_id: i32) -> String {
    keys::key("consumers", &[&queue.vhost, &queue.name, &node_id.to_string()])
}
