//! Making and deleting vhosts, and what a fresh store begins with.

use core_rpc::{Core, MetaCondition, MetaError, key_part};
use gateway_runtime::users::{User, Users};
use serde_json::json;

use super::records::VhostRecord;
use super::{Topology, keys};
use crate::FirstUser;
use crate::errors::Refusal;
use crate::translate::names::DEFAULT_VHOST;

/// What belongs to a vhost beside its queues.
const KINDS: [&str; 9] = [
    "binding",
    "exchange",
    "policy",
    "operator-policy",
    "permission",
    "topic-permission",
    "parameter",
    "limit",
    "exclusive",
];

impl<C: Core> Topology<C> {
    /// Gives a store that no gateway used before the vhost `/` and its user, who may come from this machine only if its name is
    /// among those. What was begun is finished; what was deleted since stays so.
    pub async fn first_start(&self, first: &FirstUser, loopback_users: &[String]) -> anyhow::Result<()> {
        if self.core().meta_get(keys::READY.into()).await?.is_some() {
            return Ok(());
        }
        let record = VhostRecord { description: "Default virtual host".into(), ..VhostRecord::default() };
        kept(self.put(keys::vhost(DEFAULT_VHOST), &record, MetaCondition::Absent).await)?;
        let users = Users::new(self.core().clone(), &[])?;
        if users.get(&first.name).await?.is_none() {
            let loopback_only = loopback_users.contains(&first.name);
            let tags = vec!["administrator".into()];
            let user = User { tags, loopback_only, ..User::of_password(&first.password)? };
            users.change(&first.name, |kept| *kept = user.clone()).await?;
        }
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        let permission = keys::key("permission", &[DEFAULT_VHOST, &first.name]);
        kept(self.put(permission, &all, MetaCondition::Absent).await)?;
        kept(self.put(keys::READY.into(), &true, MetaCondition::Absent).await)?;
        Ok(())
    }

    /// Makes a vhost, or changes what is said of it. True: it is new.
    pub async fn put_vhost(&self, name: &str, record: &VhostRecord) -> Result<bool, Refusal> {
        let is_new = !self.has_vhost(name);
        if is_new {
            // What a deletion that was cut off has left.
            self.clear_vhost(name).await?;
        }
        self.put(keys::vhost(name), record, MetaCondition::Always).await?;
        Ok(is_new)
    }

    /// Deletes a vhost with all that was declared in it. Topics that other protocols made in its namespace stay.
    pub async fn delete_vhost(&self, name: &str) -> Result<(), Refusal> {
        self.remove(&keys::vhost(name)).await?;
        self.clear_vhost(name).await
    }

    async fn clear_vhost(&self, name: &str) -> Result<(), Refusal> {
        let queues: Vec<_> = {
            let image = self.image();
            let all = image.vhosts.get(name).into_iter().flat_map(|vhost| vhost.queues.values());
            all.filter(|queue| !queue.is_adopted).cloned().collect()
        };
        for queue in queues {
            self.drop_queue(&queue).await?;
        }
        for kind in KINDS {
            let prefix = format!("{}{kind}/{}/", keys::PREFIX, key_part(name));
            let list = self.core().meta_list(prefix).await?;
            self.remove_all(list.entries.into_iter().map(|entry| entry.key).collect()).await?;
        }
        Ok(())
    }
}

/// What is there already may stay.
fn kept(put: Result<u64, MetaError>) -> Result<(), MetaError> {
    match put {
        Ok(_) | Err(MetaError::Conflict(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
