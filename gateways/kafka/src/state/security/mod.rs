//! Who clients are and what they may do.
//!
//! [`Peer`] is one connection's client, [`sasl`] how it proves who it is, [`acl`] the rules of what it may do, and
//! [`Acls`] where the rules are kept. Without an authorizer everybody may do everything.

pub mod acl;
mod acls;
mod peer;
pub mod sasl;

use std::time::Duration;

use anyhow::Context;
use core_rpc::{Core, MetaError};
use gateway_runtime::token::{TokenConfig, Tokens};
use gateway_runtime::users::Users;
use tokio_util::sync::CancellationToken;

pub use acl::{Acl, AclFilter, Operation, ResourceType};
pub use acls::Acls;
pub use peer::{ANONYMOUS, Listener, OtherUser, Peer};
pub use sasl::Mechanism;

use acl::{CLUSTER_NAME, Verdict};

/// How the gateway guards itself.
#[derive(Clone, Debug, Default)]
pub struct SecurityConfig {
    /// Not empty: every client must authenticate by one of these.
    pub sasl_mechanisms: Vec<Mechanism>,
    /// For OAUTHBEARER.
    pub tokens: TokenConfig,
    /// How long an authentication holds; a token's also ends with the token. None: as long as the connection.
    pub reauthentication_max: Option<Duration>,
    /// (name, password) of users that are known beside the stored ones.
    pub users: Vec<(String, String)>,
    /// Whether access rules are applied.
    pub authorizer: bool,
    /// Principals (`User:name`) that may do everything.
    pub super_users: Vec<String>,
    /// Whether everybody may use a resource that no rule is about.
    pub allow_everyone_if_no_acl_found: bool,
}

/// A thing that may be used or not.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    Topic(&'a str),
    Group(&'a str),
    TransactionalId(&'a str),
    Cluster,
}

impl<'a> Resource<'a> {
    fn parts(self) -> (ResourceType, &'a str) {
        match self {
            Resource::Topic(name) => (ResourceType::Topic, name),
            Resource::Group(name) => (ResourceType::Group, name),
            Resource::TransactionalId(name) => (ResourceType::TransactionalId, name),
            Resource::Cluster => (ResourceType::Cluster, CLUSTER_NAME),
        }
    }
}

/// What connections share of security.
pub struct Security<C> {
    pub config: SecurityConfig,
    pub users: Users<C>,
    /// None: there is no OAUTHBEARER.
    pub tokens: Option<Tokens>,
    /// None: no rules are applied.
    pub acls: Option<Acls<C>>,
}

impl<C: Core> Security<C> {
    pub async fn start(
        core: C,
        namespace: &str,
        config: SecurityConfig,
        stop: CancellationToken,
    ) -> anyhow::Result<Security<C>> {
        let users = Users::new(core.clone(), &config.users)?;
        let tokens = match config.sasl_mechanisms.contains(&Mechanism::OauthBearer) {
            true => Some(Tokens::load(config.tokens.clone()).context("OAUTHBEARER cannot be offered")?),
            false => None,
        };
        let acls = match config.authorizer {
            true => Some(
                Acls::start(core, namespace, stop)
                    .await
                    .map_err(|error: MetaError| anyhow::Error::new(error).context("cannot read the access rules"))?,
            ),
            false => None,
        };
        Ok(Security { config, users, tokens, acls })
    }

    /// Whether the client may do this.
    pub fn allows(&self, peer: &Peer, operation: Operation, resource: Resource<'_>) -> bool {
        let Some(acls) = &self.acls else { return true };
        let principal = peer.principal();
        if self.is_super_user(&principal) {
            return true;
        }
        let (resource_type, name) = resource.parts();
        let host = peer.address.ip().to_string();
        match acls.set().verdict(&principal, &host, operation, resource_type, name) {
            Verdict::Allowed => true,
            Verdict::NoRule => self.config.allow_everyone_if_no_acl_found,
            Verdict::Denied => false,
        }
    }

    /// Whether the client may do this with some resource of the type.
    pub fn allows_some(&self, peer: &Peer, operation: Operation, resource_type: ResourceType) -> bool {
        let Some(acls) = &self.acls else { return true };
        let principal = peer.principal();
        self.is_super_user(&principal)
            || self.config.allow_everyone_if_no_acl_found
            || acls.set().allows_some(&principal, &peer.address.ip().to_string(), operation, resource_type)
    }

    /// Of these operations those that the client may do, as bits by their numbers.
    pub fn operations(&self, peer: &Peer, all: i32, resource: Resource<'_>) -> i32 {
        if self.acls.is_none() {
            return all;
        }
        let allowed = |code: &i8| {
            all & (1 << code) != 0
                && Operation::of(*code).is_some_and(|operation| self.allows(peer, operation, resource))
        };
        (0..31).filter(allowed).fold(0, |bits, code| bits | 1 << code)
    }

    fn is_super_user(&self, principal: &str) -> bool {
        self.config.super_users.iter().any(|name| name == principal)
    }
}
