//! Configurations that clients set for things of one kind (groups, brokers, client metrics): entries
//! `config/<kind>/<namespace>/<name>` of the core's meta, mirrored here.
//!
//! ```text
//! value: one `key=value` a line; neither has a line break
//! ```
//! A thing for which nothing is set any more keeps an empty entry, so that its change is seen like any other.

use std::sync::Arc;
use std::time::Duration;

use core_rpc::{Core, MetaCondition, MetaEntry, MetaError, MetaPut, key_part};
use gateway_runtime::Mirror;
use gateway_runtime::mirror::Content;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Labels;
use crate::errors::{ErrorCode, Refusal};

/// How long a change waits to be seen by this gateway's own requests.
const SEEN_WAIT: Duration = Duration::from_secs(5);

/// Tries after another gateway changed the configuration at the same time.
const TRIES: usize = 10;

#[derive(Clone)]
pub struct StoredConfigs<C> {
    core: C,
    prefix: String,
    mirror: Mirror<Labels>,
}

impl<C: Core> StoredConfigs<C> {
    pub async fn start(core: C, kind: &str, namespace: &str, stop: CancellationToken) -> Result<Self, MetaError> {
        let prefix = format!("config/{kind}/{}/", key_part(namespace));
        let mirror = Mirror::start(core.clone(), prefix.clone(), decode, stop).await?;
        Ok(StoredConfigs { core, prefix, mirror })
    }

    /// The things for which something is set.
    pub fn names(&self) -> Vec<String> {
        let content = self.mirror.content();
        let set = content.entries.iter().filter(|(_, labels)| !labels.is_empty());
        set.filter_map(|(key, _)| key.strip_prefix(&self.prefix)).map(str::to_owned).collect()
    }

    /// What is set.
    pub fn labels(&self, name: &str) -> Labels {
        self.mirror.content().entries.get(&format!("{}{name}", self.prefix)).cloned().unwrap_or_default()
    }

    /// To be woken when something changes.
    pub fn changes(&self) -> watch::Receiver<Arc<Content<Labels>>> {
        self.mirror.changes()
    }

    /// Changes what is set; `change` makes the new from the old, or refuses, and may be called several times.
    pub async fn alter(
        &self,
        name: &str,
        validate_only: bool,
        change: impl Fn(&Labels) -> Result<Labels, Refusal>,
    ) -> Result<(), Refusal> {
        let key = format!("{}{name}", self.prefix);
        for _ in 0..TRIES {
            let found = self.core.meta_get(key.clone()).await.map_err(|error| ErrorCode::from(&error))?;
            let before = found.as_ref().and_then(decode).unwrap_or_default();
            let labels = change(&before)?;
            let is_storable = |(name, value): (&String, &String)| !name.contains(['=', '\n']) && !value.contains('\n');
            if !labels.iter().all(is_storable) {
                return Err(Refusal::new(ErrorCode::InvalidConfig, "A value has more than one line"));
            }
            if validate_only || labels == before {
                return Ok(());
            }
            let put = MetaPut {
                key: key.clone(),
                value: encode(&labels).into(),
                condition: found.map_or(MetaCondition::Absent, |entry| MetaCondition::Version(entry.version)),
                session: None,
            };
            match self.core.meta_put(put).await {
                Ok(version) => {
                    self.mirror.reached(version, SEEN_WAIT).await;
                    return Ok(());
                }
                Err(MetaError::Conflict(_)) => {}
                Err(error) => return Err(ErrorCode::from(&error).into()),
            }
        }
        Err(ErrorCode::RequestTimedOut.into())
    }
}

fn encode(labels: &Labels) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

fn decode(entry: &MetaEntry) -> Option<Labels> {
    let text = std::str::from_utf8(&entry.value).ok()?;
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    Some(text.lines().filter_map(pair).collect())
}
