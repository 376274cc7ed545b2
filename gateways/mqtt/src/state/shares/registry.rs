//! Which shares there are, and which gateways have members of them, in meta.
//!
//! ```text
//! mqtt/share/made/<share>              the share; which of its lives, and since when it has no members
//! mqtt/share/at/<share>/<gateway>      there are members at this gateway; under its session
//! ```
//! A share outlives its members: what is published meanwhile waits. It goes when its last member unsubscribes, or when it has
//! been without members for as long as the setting says, whichever gateway finds out. Each life of a share has lease maps of its
//! own, so that whoever clears up behind one never touches the next.
//!
//! The entry stands before the maps do, and goes after them: it says that they are being made, or removed. Whoever finds it so goes on
//! with it, so that a gateway that dies meanwhile leaves nothing behind.
//!
//! A gateway that gets a member first says so and then writes the share's entry anew; one that would remove the share reads the entry
//! first, then looks who is there, and removes it only if the entry is still the one that it read. So one of the two notices the other.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use core_rpc::{AnyCore, Core, GroupName, LeaseError, MetaCondition, MetaEntry, MetaError, MetaPut};
use gateway_runtime::CoreSession;
use gateway_runtime::mirror::{Content, Mirror};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::now_ms;

const PREFIX: &str = "mqtt/share/";
const MADE_PREFIX: &str = "mqtt/share/made/";
const AT_PREFIX: &str = "mqtt/share/at/";

/// Names longer than this, bytes, are hashed: keys are bounded.
const NAME_BYTES_MAX: usize = 1000;

/// How often something is tried again that somebody else has changed meanwhile.
const TRIES: usize = 20;

/// How long to wait before asking a core again that could not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// How long all members may be gone at most, whatever is set: the clock's end is not reached.
const EXPIRY_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The entry of a share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    /// For people: names may be hashed in keys.
    group: String,
    filter: String,
    /// Which of its lives: names its lease maps.
    life: u64,
    /// ms since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gone_since_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Maps::are_there")]
    maps: Maps,
}

/// How far a life is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Maps {
    /// Its maps may not all be there: whoever comes begins those that are not.
    Begin,
    #[default]
    Stand,
    /// It is over; its maps may still be there. Whoever comes removes them first.
    Go,
}

impl Maps {
    fn are_there(&self) -> bool {
        *self == Maps::Stand
    }
}

/// What a share is called in keys: `<group>/<filter>`, where no group has a `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub group: Box<str>,
    pub filter: Box<str>,
}

impl Name {
    fn key(&self) -> String {
        let name = format!("{}/{}", self.group, self.filter);
        if name.len() <= NAME_BYTES_MAX {
            return name;
        }
        // Without a `/` it is nobody else's name.
        let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn made_key(&self) -> String {
        format!("{MADE_PREFIX}{}", self.key())
    }

    /// What the keys of its gateways begin with, and with it those of others: see [`is_gateway`].
    fn at_prefix(&self) -> String {
        format!("{AT_PREFIX}{}/", self.key())
    }
}

/// Whether this is what stands behind [`Name::at_prefix`], and not the rest of a longer name.
fn is_gateway(rest: &str) -> bool {
    !rest.contains('/')
}

/// What the mirror keeps of the entries: shares' and gateways'.
#[derive(Clone, Debug)]
enum Seen {
    Made { made: Made, version: u64 },
    At,
}

fn seen(entry: &MetaEntry) -> Option<Seen> {
    if entry.key.starts_with(AT_PREFIX) {
        return Some(Seen::At);
    }
    Some(Seen::Made { made: made(entry)?, version: entry.version })
}

fn made(entry: &MetaEntry) -> Option<Made> {
    let made = serde_json::from_slice(&entry.value);
    made.inspect_err(|error| tracing::error!(key = entry.key, %error, "a share's entry cannot be read")).ok()
}

/// Begins the maps of a share.
pub(super) type Begin = Pin<Box<dyn Future<Output = Result<(), MetaError>> + Send>>;

/// Shares of this gateway's namespace.
#[derive(Clone)]
pub(super) struct Registry {
    core: AnyCore,
    keys: CoreSession,
    namespace: String,
    node_id: i32,
    /// How long a share stays without members.
    expiry: Duration,
    /// What is known of all shares, once it is.
    mirror: Arc<OnceLock<Mirror<Seen>>>,
}

impl Registry {
    /// It knows of what is elsewhere while [`Registry::keep_house`] runs.
    pub fn new(core: AnyCore, keys: CoreSession, namespace: String, node_id: i32, expiry: Duration) -> Registry {
        Registry { core, keys, namespace, node_id, expiry, mirror: Arc::default() }
    }

    fn at_key(&self, name: &Name) -> String {
        format!("{}{}", name.at_prefix(), self.node_id)
    }

    fn lease_group(&self, name: &Name, life: u64) -> GroupName {
        GroupName { namespace: self.namespace.clone(), group: format!("mqtt/$share/{}/{life:x}", name.key()) }
    }

    /// There are members here. Returns whose the lease maps are. Where there is no such share yet, `begin` begins its maps.
    pub async fn enter(
        &self,
        name: &Name,
        begin: &(dyn Fn(GroupName) -> Begin + Sync),
    ) -> Result<GroupName, MetaError> {
        self.say_here(name).await?;
        for _ in 0..TRIES {
            let entry = self.core.meta_get(name.made_key()).await?;
            let version = entry.as_ref().map_or(MetaCondition::Absent, |entry| MetaCondition::Version(entry.version));
            let known = match entry.as_ref().and_then(made) {
                Some(known) if known.maps == Maps::Go => {
                    self.core.lease_forget(self.lease_group(name, known.life), None).await.map_err(forgetting)?;
                    None
                }
                known => known,
            };
            let (next, version) = match known {
                Some(known) if known.maps == Maps::Stand => (known, version),
                known => {
                    let made = known.unwrap_or_else(|| Made {
                        group: name.group.to_string(),
                        filter: name.filter.to_string(),
                        life: RandomState::new().hash_one(now_ms()),
                        gone_since_ms: None,
                        maps: Maps::Begin,
                    });
                    match self.put(name, &made, version).await {
                        Ok(version) => {
                            begin(self.lease_group(name, made.life)).await?;
                            (made, MetaCondition::Version(version))
                        }
                        Err(MetaError::Conflict(_)) => continue,
                        Err(error) => return Err(error),
                    }
                }
            };
            let group = self.lease_group(name, next.life);
            match self.put(name, &Made { gone_since_ms: None, maps: Maps::Stand, ..next }, version).await {
                Ok(_) => return Ok(group),
                // Another has come, or has finished what was begun: the maps are the same.
                Err(MetaError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(MetaError::Unavailable)
    }

    /// Says again that there are members here: the keys of a session go with it.
    pub async fn say_here(&self, name: &Name) -> Result<(), MetaError> {
        for _ in 0..TRIES {
            let session = self.keys.id();
            let put = MetaPut {
                key: self.at_key(name),
                value: Bytes::new(),
                condition: MetaCondition::Always,
                session: Some(session),
            };
            match self.core.meta_put(put).await {
                Ok(_) => return Ok(()),
                // Another is being opened.
                Err(MetaError::UnknownSession) => {
                    let mut changes = self.keys.changes();
                    let opened = changes.wait_for(|id| *id != session);
                    let _ = tokio::time::timeout(RETRY_AFTER, opened).await;
                }
                Err(error) => return Err(error),
            }
        }
        Err(MetaError::UnknownSession)
    }

    /// Whether there are members at other gateways, as far as is known yet.
    pub fn is_elsewhere(&self, name: &Name) -> bool {
        self.mirror.get().is_some_and(|mirror| has_other(&mirror.content(), name, self.node_id))
    }

    /// There are no members here any more. If there are none anywhere, the share is removed now or in time.
    pub async fn leave(&self, name: &Name, unsubscribed: bool) -> Result<(), MetaError> {
        self.core.meta_delete(self.at_key(name), MetaCondition::Always).await?;
        for _ in 0..TRIES {
            let Some(entry) = self.core.meta_get(name.made_key()).await? else { return Ok(()) };
            let Some(made) = made(&entry) else { return Ok(()) };
            let prefix = name.at_prefix();
            let there = self.core.meta_list(prefix.clone()).await?.entries;
            if there.iter().any(|entry| entry.key.strip_prefix(&prefix).is_some_and(is_gateway)) {
                return Ok(());
            }
            let left = if unsubscribed || self.expiry.is_zero() {
                self.remove(name, &made, entry.version).await
            } else {
                let gone = Made { gone_since_ms: made.gone_since_ms.or(Some(now_ms())), ..made };
                self.put(name, &gone, MetaCondition::Version(entry.version)).await.map(drop)
            };
            match left {
                // Somebody has come, or has only noted that nobody is there.
                Err(MetaError::Conflict(_)) => {}
                left => return left,
            }
        }
        Err(MetaError::Unavailable)
    }

    /// The entry's new version.
    async fn put(&self, name: &Name, made: &Made, condition: MetaCondition) -> Result<u64, MetaError> {
        let value = serde_json::to_vec(made).map(Bytes::from).map_err(|_| MetaError::TooLarge)?;
        self.core.meta_put(MetaPut { key: name.made_key(), value, condition, session: None }).await
    }

    /// Removes a share that nobody has come to since its entry was read; else it is a conflict.
    async fn remove(&self, name: &Name, made: &Made, version: u64) -> Result<(), MetaError> {
        let going = Made { maps: Maps::Go, ..made.clone() };
        let version = self.put(name, &going, MetaCondition::Version(version)).await?;
        self.core.lease_forget(self.lease_group(name, made.life), None).await.map_err(forgetting)?;
        match self.core.meta_delete(name.made_key(), MetaCondition::Version(version)).await {
            // Somebody has come, and goes on with its next life.
            Err(MetaError::Conflict(_)) => Ok(()),
            deleted => deleted,
        }
    }

    /// Keeps an eye on all shares until `stop`: notes which have no members any more, and removes those in time.
    pub async fn keep_house(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.watch(stop.clone()) => {}
        }
    }

    async fn watch(&self, stop: CancellationToken) {
        let mirror = match Mirror::start(self.core.clone(), PREFIX.to_owned(), seen, stop.clone()).await {
            Ok(mirror) => mirror,
            Err(error) => return tracing::error!(%error, "shared subscriptions without members will not be removed"),
        };
        let mut changes = mirror.changes();
        let _ = self.mirror.set(mirror);
        loop {
            let content: Arc<Content<Seen>> = changes.borrow_and_update().clone();
            let failed = self.look(&content).await;
            let due_ms = deadlines(&content, self.expiry).min();
            let due = async {
                match due_ms {
                    _ if failed => tokio::time::sleep(RETRY_AFTER).await,
                    Some(due_ms) => {
                        let left_ms = u64::try_from(due_ms.saturating_sub(now_ms())).unwrap_or(0);
                        // What was removed is seen with the next change: not before is there more to do.
                        tokio::time::sleep(Duration::from_millis(left_ms).max(RETRY_AFTER)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = due => {}
            }
        }
    }

    /// Does what is to be done now. True: something could not be.
    async fn look(&self, content: &Content<Seen>) -> bool {
        let now_ms = now_ms();
        let mut failed = false;
        for (made, version) in memberless(content) {
            let name = Name { group: made.group.as_str().into(), filter: made.filter.as_str().into() };
            let done = match made.gone_since_ms {
                None => {
                    let gone = Made { gone_since_ms: Some(now_ms), ..made.clone() };
                    self.put(&name, &gone, MetaCondition::Version(version)).await.map(drop)
                }
                Some(since_ms) if made.maps == Maps::Go || due_ms(since_ms, self.expiry) <= now_ms => {
                    self.remove(&name, made, version).await
                }
                Some(_) => Ok(()),
            };
            failed |= !matches!(done, Ok(()) | Err(MetaError::Conflict(_)));
        }
        failed
    }
}

/// Whether a share has members at another gateway than this.
fn has_other(content: &Content<Seen>, name: &Name, node_id: i32) -> bool {
    let (prefix, own) = (name.at_prefix(), node_id.to_string());
    let behind = content.entries.range(prefix.clone()..).map_while(|(key, _)| key.strip_prefix(&prefix));
    behind.into_iter().any(|rest| is_gateway(rest) && rest != own)
}

/// What it means that a share's maps were not removed.
fn forgetting(error: LeaseError) -> MetaError {
    match error {
        LeaseError::DiskFull => MetaError::DiskFull,
        LeaseError::StorageFailed | LeaseError::Corrupt => MetaError::StorageFailed,
        _ => MetaError::Unavailable,
    }
}

fn due_ms(since_ms: i64, expiry: Duration) -> i64 {
    since_ms.saturating_add(i64::try_from(expiry.min(EXPIRY_MAX).as_millis()).unwrap_or(i64::MAX))
}

/// When shares that have no members are to go.
fn deadlines(content: &Content<Seen>, expiry: Duration) -> impl Iterator<Item = i64> {
    memberless(content).filter_map(move |(made, _)| Some(due_ms(made.gone_since_ms?, expiry)))
}

/// The shares that no gateway has members of, with the versions of their entries.
fn memberless(content: &Content<Seen>) -> impl Iterator<Item = (&Made, u64)> {
    let mut gateways: HashMap<&str, u32> = HashMap::new();
    for (key, _) in content.entries.range(AT_PREFIX.to_owned()..).take_while(|(key, _)| key.starts_with(AT_PREFIX)) {
        let share = key[AT_PREFIX.len()..].rsplit_once('/').map_or("", |(share, _)| share);
        *gateways.entry(share).or_default() += 1;
    }
    content.entries.iter().filter_map(move |(key, seen)| match seen {
        Seen::Made { made, version } if !gateways.contains_key(key.strip_prefix(MADE_PREFIX)?) => {
            Some((made, *version))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(group: &str, filter: &str) -> Name {
        Name { group: group.into(), filter: filter.into() }
    }

    #[test]
    fn names_do_not_meet_in_keys() {
        let (short, long) = (name("g", "a"), name("g", "a/3"));
        assert!(
            format!("{}3", long.at_prefix()).strip_prefix(&short.at_prefix()).is_some_and(|rest| !is_gateway(rest))
        );
        let deep = name("g", &"a/".repeat(2000));
        assert_eq!(deep.key().len(), 64);
        assert!(!deep.key().contains('/'));
        assert_ne!(deep.key(), name("g", &"a/".repeat(2001)).key());
    }

    #[test]
    fn who_has_no_gateway_is_memberless() {
        let entry =
            |key: String, value: &[u8]| MetaEntry { key, value: value.to_vec().into(), version: 7, session: None };
        let made_of = |name: &Name, gone_since_ms| {
            let (group, filter) = (name.group.to_string(), name.filter.to_string());
            let made = Made { group, filter, life: 1, gone_since_ms, maps: Maps::Stand };
            entry(name.made_key(), &serde_json::to_vec(&made).unwrap())
        };
        let (one, other, third) = (name("g", "a"), name("g", "a/b"), name("h", "#"));
        let entries = [
            made_of(&one, None),
            made_of(&other, None),
            made_of(&third, Some(500)),
            entry(format!("{}12", other.at_prefix()), b""),
        ];
        let entries = entries.iter().map(|entry| (entry.key.clone(), seen(entry).unwrap())).collect();
        let content = Content { entries, revision: 9 };
        let found: Vec<_> = memberless(&content).map(|(made, version)| (made.filter.as_str(), version)).collect();
        assert_eq!(found, [("a", 7), ("#", 7)]);
        assert_eq!(deadlines(&content, Duration::from_secs(2)).collect::<Vec<_>>(), [2500]);
        assert_eq!(deadlines(&content, Duration::MAX).count(), 1);
        // The key of `a/b` begins as one of `a` would.
        assert!(!has_other(&content, &one, 3) && has_other(&content, &other, 3) && !has_other(&content, &other, 12));
    }
}
