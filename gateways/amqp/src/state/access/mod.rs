//! Who a client is, and what it may do: users, permissions and topic permissions.
//!
//! Users are the runtime's, one store for all gateways. A user opens a vhost if it has permissions there: three patterns, for
//! what it may configure, write and read, which are looked for anywhere in a resource's name. What was granted is remembered
//! for each user and vhost until permissions change, so that no pattern is matched for a message.

mod grants;

use std::net::IpAddr;
use std::sync::Arc;

use core_rpc::{Core, MetaError};
use dashmap::DashMap;
use gateway_runtime::users::{User as StoredUser, Users};

use crate::errors::Refusal;
use crate::state::Topology;
use crate::state::registry::Connection;
use crate::state::topology::{Exchange, ExchangeKind, Resource};
pub use grants::{Grants, Permission};

/// Who a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub tags: Vec<String>,
}

impl User {
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }
}

/// The client is not who it says it is, or may not come from where it comes. It is not told which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("login refused")]
pub struct Denied;

/// Users, permissions and topic permissions.
pub struct Access<C> {
    topology: Topology<C>,
    users: Users<C>,
    /// By user and vhost; those of an older generation are made anew.
    grants: DashMap<(String, Arc<str>), Arc<Grants>>,
}

impl<C: Core> Access<C> {
    pub fn start(topology: Topology<C>) -> anyhow::Result<Access<C>> {
        let users = Users::new(topology.core().clone(), &[])?;
        Ok(Access { topology, users, grants: DashMap::new() })
    }

    pub fn core(&self) -> &C {
        self.topology.core()
    }

    /// The store of the users.
    pub fn users(&self) -> &Users<C> {
        &self.users
    }

    /// Rises when permissions change: what was granted under another number is to be asked for anew.
    pub fn generation(&self) -> u64 {
        self.topology.access_generation()
    }

    /// Who has this name and password, and may come from there.
    pub async fn authenticate(&self, name: &str, password: &[u8], from: IpAddr) -> Result<Arc<User>, Denied> {
        let user = self.stored(name).await?;
        if !user.may_come_from(from) {
            return Err(Denied);
        }
        let tags = user.tags.clone();
        let password = String::from_utf8(password.to_vec()).map_err(|_| Denied)?;
        // Thousands of rounds of hashing, perhaps: other connections must not wait for them.
        match tokio::task::spawn_blocking(move || user.accepts(&password)).await {
            Ok(true) => Ok(Arc::new(User { name: name.to_owned(), tags })),
            _ => Err(Denied),
        }
    }

    /// The user that a certificate names.
    pub async fn of_certificate(&self, name: &str) -> Result<Arc<User>, Denied> {
        let tags = self.stored(name).await?.tags;
        Ok(Arc::new(User { name: name.to_owned(), tags }))
    }

    async fn stored(&self, name: &str) -> Result<StoredUser, Denied> {
        match self.users.get(name).await {
            Ok(user) => user.ok_or(Denied),
            Err(error) => {
                tracing::warn!(%error, "the users cannot be read; a login is refused");
                Err(Denied)
            }
        }
    }

    /// Whether the user may open the vhost.
    pub async fn may_open(&self, user: &User, vhost: &str) -> Result<(), Refusal> {
        if !self.topology.has_vhost(vhost) {
            return Err(Refusal::not_allowed(format!("vhost {vhost} not found")));
        }
        if self.topology.record("permission", &[vhost, &user.name]).is_some() {
            return Ok(());
        }
        // Perhaps the permission was given by another gateway a moment ago.
        match self.core().meta_get(crate::state::topology::keys::key("permission", &[vhost, &user.name])).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(MetaError::InvalidKey) => {
                Err(Refusal::not_allowed(format!("access to vhost '{vhost}' refused for user '{}'", user.name)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the connection's user may do this with a resource of its vhost: 403 if not.
    pub fn check(
        &self,
        connection: &Connection,
        permission: Permission,
        resource: Resource<'_>,
    ) -> Result<(), Refusal> {
        self.check_user(&connection.user.name, &connection.vhost, permission, resource)
    }

    /// As [`Access::check`], for a user that is not connected.
    pub fn check_user(
        &self,
        user: &str,
        vhost: &Arc<str>,
        permission: Permission,
        resource: Resource<'_>,
    ) -> Result<(), Refusal> {
        let resource = match resource {
            Resource::Exchange(vhost, "") => Resource::Exchange(vhost, "amq.default"),
            resource => resource,
        };
        if self.grants(user, vhost).allow(permission, resource) {
            return Ok(());
        }
        Err(Refusal::access_refused(format!("{} access to {resource} refused for user '{user}'", permission.name())))
    }

    /// Whether the user may do anything at all with the resource: as passive declares ask.
    pub fn check_any(&self, connection: &Connection, resource: Resource<'_>) -> Result<(), Refusal> {
        let allowed = |permission| self.check(connection, permission, resource);
        allowed(Permission::Read).or_else(|_| allowed(Permission::Write)).or_else(|_| allowed(Permission::Configure))
    }

    /// Whether the user may write messages with this routing key to an exchange, or bind them from it. Of other exchanges than topic exchanges
    /// nothing is said.
    pub fn check_topic(
        &self,
        user: &str,
        vhost: &Arc<str>,
        permission: Permission,
        exchange: &Exchange,
        routing_key: &str,
    ) -> Result<(), Refusal> {
        if exchange.record.kind != ExchangeKind::Topic {
            return Ok(());
        }
        let exchange = &*exchange.name;
        if self.grants(user, vhost).allow_topic(permission, exchange, routing_key) {
            return Ok(());
        }
        Err(Refusal::access_refused(format!(
            "{} access to topic '{routing_key}' in exchange '{exchange}' in vhost '{vhost}' refused for user '{user}'",
            permission.name()
        )))
    }

    fn grants(&self, user: &str, vhost: &Arc<str>) -> Arc<Grants> {
        let generation = self.generation();
        let key = (user.to_owned(), vhost.clone());
        if let Some(grants) = self.grants.get(&key).filter(|grants| grants.generation == generation) {
            return grants.clone();
        }
        let permissions = self.topology.record("permission", &[vhost, user]);
        let topics = self.topology.records("topic-permission");
        let own = topics.iter().filter_map(|(parts, value)| match parts.as_slice() {
            [of, named, exchange] if **of == **vhost && named == user => Some((exchange.as_str(), &**value)),
            _ => None,
        });
        let grants = Arc::new(Grants::new(generation, user, vhost, permissions.as_deref(), own));
        self.grants.insert(key, grants.clone());
        grants
    }
}
