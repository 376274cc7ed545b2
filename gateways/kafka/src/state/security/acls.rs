//! The access rules as they are stored: each an entry of the core's meta, mirrored by every gateway.
//!
//! The key is a digest of the rule, so that the same rule is the same entry.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use core_rpc::{Core, MetaCondition, MetaEntry, MetaError, MetaPut};
use gateway_runtime::Mirror;
use gateway_runtime::mirror::Content;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use super::acl::{Acl, AclFilter, AclSet};

/// How long a change waits to be seen by this gateway itself. It holds either way.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// The rules of a namespace.
pub struct Acls<C> {
    core: C,
    prefix: String,
    mirror: Mirror<Acl>,
    /// What the mirror held when it was last looked at, and the rules made of it.
    compiled: RwLock<(Arc<Content<Acl>>, Arc<AclSet>)>,
}

impl<C: Core> Acls<C> {
    pub async fn start(core: C, namespace: &str, stop: CancellationToken) -> Result<Acls<C>, MetaError> {
        let prefix = format!("kafka/{namespace}/acl/");
        let mirror = Mirror::start(core.clone(), prefix.clone(), decode, stop).await?;
        let content = mirror.content();
        let compiled = RwLock::new((content.clone(), Arc::new(compile(&content))));
        Ok(Acls { core, prefix, mirror, compiled })
    }

    /// The rules as they are now.
    pub fn set(&self) -> Arc<AclSet> {
        let content = self.mirror.content();
        {
            let compiled = self.compiled.read();
            if Arc::ptr_eq(&compiled.0, &content) {
                return compiled.1.clone();
            }
        }
        let set = Arc::new(compile(&content));
        *self.compiled.write() = (content, set.clone());
        set
    }

    pub fn matching(&self, filter: &AclFilter) -> Vec<Acl> {
        self.mirror.content().entries.values().filter(|acl| filter.accepts(acl)).cloned().collect()
    }

    pub async fn add(&self, acl: &Acl) -> Result<(), MetaError> {
        let value = serde_json::to_vec(acl).map(Bytes::from).map_err(|_| MetaError::TooLarge)?;
        let put = MetaPut { key: self.key(&value), value, condition: MetaCondition::Always, session: None };
        let version = self.core.meta_put(put).await?;
        self.mirror.reached(version, SEEN_WITHIN).await;
        Ok(())
    }

    pub async fn remove(&self, acl: &Acl) -> Result<(), MetaError> {
        let value = serde_json::to_vec(acl).map_err(|_| MetaError::TooLarge)?;
        let key = self.key(&value);
        self.core.meta_delete(key.clone(), MetaCondition::Always).await?;
        let mut changes = self.mirror.changes();
        let gone = changes.wait_for(|content| !content.entries.contains_key(&key));
        let _ = tokio::time::timeout(SEEN_WITHIN, gone).await;
        Ok(())
    }

    fn key(&self, value: &[u8]) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, value);
        let hex: String = digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}{hex}", self.prefix)
    }
}

fn decode(entry: &MetaEntry) -> Option<Acl> {
    let acl = serde_json::from_slice(&entry.value);
    if let Err(error) = &acl {
        tracing::error!(key = entry.key, %error, "an access rule cannot be read and is not applied");
    }
    acl.ok()
}

fn compile(content: &Content<Acl>) -> AclSet {
    AclSet::of(content.entries.values().cloned())
}
