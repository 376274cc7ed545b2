//! A copy of everything under a prefix of the core's meta, kept fresh by a watch, read without waiting.
//!
//! For small spaces that every request looks at (access rules, quotas, the gateways themselves). What this gateway
//! changes arrives like what others change: with the watch, a moment later; [`Mirror::reached`] waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use core_rpc::{Core, MetaChanges, MetaEntry, MetaError, MetaEvent, MetaWatch};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long one watch stands; it is renewed at once.
const WATCH_WAIT: Duration = Duration::from_secs(30);

/// How long to wait before asking a core again that could not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What is mirrored at one moment: values by their whole key.
#[derive(Clone, Debug)]
pub struct Content<V> {
    pub entries: BTreeMap<String, V>,
    /// All changes up to this revision are in `entries`.
    pub revision: u64,
}

/// The copy. Cheap to clone; every clone is the same.
#[derive(Debug)]
pub struct Mirror<V> {
    content: watch::Receiver<Arc<Content<V>>>,
}

impl<V> Clone for Mirror<V> {
    fn clone(&self) -> Self {
        Mirror { content: self.content.clone() }
    }
}

/// Makes a value of an entry; None leaves the entry out.
pub type Decode<V> = fn(&MetaEntry) -> Option<V>;

impl<V: Clone + Send + Sync + 'static> Mirror<V> {
    /// Reads everything under `prefix`, then keeps watching in a task that ends with `stop`. Waits until the core answers.
    pub async fn start(
        core: impl Core,
        prefix: String,
        decode: Decode<V>,
        stop: CancellationToken,
    ) -> Result<Self, MetaError> {
        let first = loop {
            match list(&core, &prefix, decode).await {
                Ok(content) => break content,
                Err(MetaError::Unavailable) => tokio::time::sleep(RETRY_AFTER).await,
                Err(error) => return Err(error),
            }
        };
        let (sender, content) = watch::channel(Arc::new(first));
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = follow(core, prefix, decode, sender) => {}
            }
        });
        Ok(Mirror { content })
    }

    /// What is there now.
    pub fn content(&self) -> Arc<Content<V>> {
        self.content.borrow().clone()
    }

    /// To be woken when the content changes.
    pub fn changes(&self) -> watch::Receiver<Arc<Content<V>>> {
        self.content.clone()
    }

    /// Waits until changes up to `revision` (an entry's version) are seen, so that a client that changed something
    /// reads its own write. False: not within `wait`.
    pub async fn reached(&self, revision: u64, wait: Duration) -> bool {
        let mut changes = self.content.clone();
        let seen = changes.wait_for(|content| content.revision >= revision);
        matches!(tokio::time::timeout(wait, seen).await, Ok(Ok(_)))
    }
}

async fn list<V>(core: &impl Core, prefix: &str, decode: Decode<V>) -> Result<Content<V>, MetaError> {
    let list = core.meta_list(prefix.to_owned()).await?;
    let entries = list.entries.iter().filter_map(|entry| Some((entry.key.clone(), decode(entry)?))).collect();
    Ok(Content { entries, revision: list.revision })
}

async fn follow<V: Clone>(core: impl Core, prefix: String, decode: Decode<V>, sender: watch::Sender<Arc<Content<V>>>) {
    loop {
        let after_revision = sender.borrow().revision;
        let watch = MetaWatch { prefix: prefix.clone(), after_revision, wait: WATCH_WAIT };
        let next = match core.meta_watch(watch).await {
            Ok(MetaChanges::Events { events, revision }) if events.is_empty() => {
                sender.send_modify(|content| Arc::make_mut(content).revision = revision);
                continue;
            }
            Ok(MetaChanges::Events { events, revision }) => {
                let mut content = Content::clone(&sender.borrow());
                events.into_iter().for_each(|event| apply(&mut content, event, decode));
                content.revision = revision;
                Ok(content)
            }
            Ok(MetaChanges::Relist) => list(&core, &prefix, decode).await,
            Err(error) => Err(error),
        };
        match next {
            Ok(content) => {
                sender.send_replace(Arc::new(content));
            }
            // The copy goes on being read, older than it might be.
            Err(_) => tokio::time::sleep(RETRY_AFTER).await,
        }
    }
}

fn apply<V>(content: &mut Content<V>, event: MetaEvent, decode: Decode<V>) {
    match event {
        MetaEvent::Put(entry) => match decode(&entry) {
            Some(value) => drop(content.entries.insert(entry.key, value)),
            None => drop(content.entries.remove(&entry.key)),
        },
        MetaEvent::Deleted { key, .. } => drop(content.entries.remove(&key)),
    }
}
