//! What the gateway does with share groups beyond their members: names in the core, whether a group exists, letting go.

use core_rpc::{Core, GroupName, ReleaseRequest};

use super::group::ShareGroupDescription;
use super::sessions::SessionKey;
use crate::Gateway;
use crate::errors::ErrorCode;

impl<C: Core> Gateway<C> {
    /// The core's name of a share group.
    pub fn share_group_name(&self, group: &str) -> GroupName {
        GroupName { namespace: self.config.namespace.clone(), group: group.to_owned() }
    }

    /// A share group: with its members, or empty if only the core knows of it. None: there is no such group.
    pub async fn share_group(&self, group: &str) -> Result<Option<ShareGroupDescription>, ErrorCode> {
        if let Some(description) = self.share_groups.describe(group) {
            return Ok(Some(description));
        }
        let names = self.share_group_names().await?;
        let is_known = names.iter().any(|name| name == group);
        Ok(is_known.then(|| ShareGroupDescription { epoch: 0, members: Vec::new() }))
    }

    /// The share groups that have read something.
    pub async fn share_group_names(&self) -> Result<Vec<String>, ErrorCode> {
        self.core.lease_groups(self.config.namespace.clone()).await.map_err(|error| ErrorCode::from(&error))
    }

    /// The share groups that this gateway coordinates, by name, and whether somebody is in them.
    pub async fn list_share_groups(&self) -> Result<Vec<(String, bool)>, ErrorCode> {
        let mut groups = self.share_groups.list();
        for name in self.share_group_names().await? {
            if !groups.iter().any(|(other, _)| *other == name) {
                groups.push((name, false));
            }
        }
        groups.retain(|(name, _)| self.groups.coordinates(name));
        groups.sort_unstable();
        Ok(groups)
    }

    /// Refuses what may be done only to a share group that is there and has no members.
    pub async fn check_empty_share_group(&self, group: &str) -> Result<(), ErrorCode> {
        if !self.groups.coordinates(group) {
            return Err(ErrorCode::NotCoordinator);
        }
        match self.share_group(group).await? {
            None => Err(ErrorCode::GroupIdNotFound),
            Some(description) if !description.members.is_empty() => Err(ErrorCode::NonEmptyGroup),
            Some(_) => Ok(()),
        }
    }

    /// Deletes a share group without members, and all that it has read.
    pub async fn delete_share_group(&self, group: &str) -> Result<(), ErrorCode> {
        self.check_empty_share_group(group).await?;
        let forgotten = self.core.lease_forget(self.share_group_name(group), None).await;
        forgotten.map_err(|error| ErrorCode::from(&error))?;
        if self.share_groups.delete(group) { Ok(()) } else { Err(ErrorCode::NonEmptyGroup) }
    }

    /// Gives back what a member has acquired. Should the core not answer, its locks run out.
    pub async fn release_share(&self, key: SessionKey) {
        let request = ReleaseRequest { group: self.share_group_name(&key.group), holder: key.member, partitions: None };
        if let Err(error) = self.core.release(request).await {
            tracing::debug!(group = key.group, %error, "records of a share session that ended stay locked for a while");
        }
    }

    /// Ends the share sessions of a connection that has ended.
    pub async fn disconnected(&self, connection: std::net::SocketAddr) {
        for key in self.share_sessions.disconnected(connection) {
            self.release_share(key).await;
        }
    }
}
