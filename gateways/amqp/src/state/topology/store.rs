//! The topology's way to and from meta: two watches, and writes that are in the image before they return.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use core_rpc::{
    Core, MetaChanges, MetaCondition, MetaEntry, MetaError, MetaEvent, MetaPut, MetaWatch, SessionId, TOPIC_PREFIX,
    Topic,
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Resource, Topology, keys};
use crate::errors::Refusal;
use crate::translate::names;

/// How long one watch stands; it is renewed at once.
const WATCH_WAIT: Duration = Duration::from_secs(30);

/// How long to wait before asking a core again that could not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What is watched. Records before topics, so that a vhost is known before its queues.
const PREFIXES: [&str; 2] = [keys::PREFIX, TOPIC_PREFIX];

pub async fn start<C: Core>(topology: &Topology<C>, stop: CancellationToken) -> anyhow::Result<()> {
    for prefix in PREFIXES {
        let revision = loop {
            match list(topology, prefix).await {
                Ok(revision) => break revision,
                Err(MetaError::Unavailable) => tokio::time::sleep(RETRY_AFTER).await,
                Err(error) => return Err(error).context("cannot read what is declared"),
            }
        };
        let (watching, stop) = (topology.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = watch(&watching, prefix, revision) => {}
            }
        });
    }
    Ok(())
}

async fn list<C: Core>(topology: &Topology<C>, prefix: &str) -> Result<u64, MetaError> {
    let list = topology.core().meta_list(prefix.into()).await?;
    topology.change(|image| image.relist(&list.entries, list.revision, |key| key.starts_with(prefix)));
    Ok(list.revision)
}

async fn watch<C: Core>(topology: &Topology<C>, prefix: &str, mut revision: u64) {
    loop {
        let watch = MetaWatch { prefix: prefix.into(), after_revision: revision, wait: WATCH_WAIT };
        let listed = match topology.core().meta_watch(watch).await {
            Ok(MetaChanges::Events { events, revision }) => {
                apply(topology, events);
                Ok(revision)
            }
            Ok(MetaChanges::Relist) => list(topology, prefix).await,
            Err(error) => Err(error),
        };
        match listed {
            Ok(next) => revision = next,
            Err(error) => {
                tracing::debug!(%error, prefix, "cannot watch what is declared");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

fn apply<C: Core>(topology: &Topology<C>, events: Vec<MetaEvent>) {
    // What this gateway wrote itself comes back here, and is no news: the generation stays.
    let is_news = |event: &MetaEvent| match event {
        MetaEvent::Put(entry) => topology.image().version(&entry.key).is_none_or(|known| known < entry.version),
        MetaEvent::Deleted { .. } => true,
    };
    if !events.iter().any(is_news) {
        return;
    }
    topology.change(|image| {
        for event in events {
            match event {
                MetaEvent::Put(entry) => image.put(&entry),
                MetaEvent::Deleted { key, revision } => image.delete(&key, revision),
            };
        }
    });
}

impl<C: Core> Topology<C> {
    /// Writes a record and knows it at once.
    pub async fn put(&self, key: String, value: &impl Serialize, condition: MetaCondition) -> Result<u64, MetaError> {
        self.put_under(key, value, condition, None).await
    }

    /// The same, to vanish with a session.
    pub(super) async fn put_under(
        &self,
        key: String,
        value: &impl Serialize,
        condition: MetaCondition,
        session: Option<SessionId>,
    ) -> Result<u64, MetaError> {
        let value = Bytes::from(serde_json::to_vec(value).map_err(|_| MetaError::TooLarge)?);
        let put = MetaPut { key: key.clone(), value: value.clone(), condition, session };
        match self.core().meta_put(put).await {
            Ok(version) => {
                self.change(|image| image.put(&MetaEntry { key, value, version, session }));
                Ok(version)
            }
            Err(error) => {
                // Somebody else was there first: it is known from now on.
                if let MetaError::Conflict(Some(entry)) = &error {
                    self.change(|image| image.put(entry));
                }
                Err(error)
            }
        }
    }

    /// Removes a record; what is not there is no error.
    pub async fn remove(&self, key: &str) -> Result<(), MetaError> {
        self.core().meta_delete(key.into(), MetaCondition::Always).await?;
        self.change(|image| image.delete_own(key));
        Ok(())
    }

    /// Removes several records, at once.
    pub(super) async fn remove_all(&self, keys: Vec<String>) -> Result<(), Refusal> {
        let mut removals = tokio::task::JoinSet::new();
        for key in &keys {
            let (core, key) = (self.core().clone(), key.clone());
            removals.spawn(async move { core.meta_delete(key, MetaCondition::Always).await });
        }
        for removed in removals.join_all().await {
            removed?;
        }
        if !keys.is_empty() {
            self.change(|image| keys.iter().for_each(|key| image.delete_own(key)));
        }
        Ok(())
    }

    /// Asks the core for a queue or an exchange that is not known here: another gateway may have made it a moment ago.
    pub async fn look_for(&self, resource: Resource<'_>) -> Result<(), Refusal> {
        let key = match resource {
            Resource::Queue(vhost, name) if self.queue(vhost, name).is_none() => {
                Topic::key(&names::namespace(vhost), name)
            }
            Resource::Exchange(vhost, name) if self.exchange(vhost, name).is_none() => keys::exchange(vhost, name),
            _ => return Ok(()),
        };
        match self.core().meta_get(key).await {
            Ok(Some(entry)) => {
                self.change(|image| image.put(&entry));
                Ok(())
            }
            // What has no key is not there.
            Ok(None) | Err(MetaError::InvalidKey) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks the core for a topic that somebody else is known to have changed.
    pub(super) async fn refresh_topic(&self, namespace: &str, name: &str) -> Result<(), MetaError> {
        let key = Topic::key(namespace, name);
        match self.core().meta_get(key.clone()).await? {
            Some(entry) => {
                self.change(|image| image.put(&entry));
            }
            None => self.change(|image| image.delete_own(&key)),
        }
        Ok(())
    }
}
