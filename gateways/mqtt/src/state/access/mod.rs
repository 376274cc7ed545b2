//! Who a client is, and what it may do.
//!
//! A client logs in with a name and a password, with its TLS certificate, by an enhanced exchange ([`enhanced`]), or not at
//! all where that is allowed. Users are the runtime's, one store for all gateways; mosquitto's password file may add to them.
//! What a client may publish, subscribe to and read, rules say ([`rules`]): mosquitto's ACL file, or else a record of the
//! core's meta that holds on every gateway. They are compiled for a client when it is first asked about, and again when they
//! change.
//!
//! ```text
//! CONNECT ── authenticate / enhanced ──► user ──► Who ── may_publish, may_subscribe, may_read
//!                                                  └ Permissions, of the RuleSet's generation
//! ```

mod acl_file;
mod certificate;
mod enhanced;
mod lines;
mod password_file;
mod permissions;
mod rules;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use codec_mqtt::Reason;
use core_rpc::{Core, MetaEntry, MetaError};
use gateway_runtime::Mirror;
use gateway_runtime::users::{User, Users};
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use crate::state::filter;

pub use certificate::CertificateIdentity;
pub use enhanced::{Enhanced, Step};
pub use permissions::Permissions;
pub use rules::{Action, Permission, RULES_KEY, Rule, RuleSet, RulesError};

/// How clients are let in.
#[derive(Clone, Debug)]
pub struct AccessConfig {
    /// Clients need not log in. A name that no user has is as good as none then, unless there is a password file.
    pub allow_anonymous: bool,
    /// mosquitto's.
    pub password_file: Option<PathBuf>,
    /// mosquitto's. None: the rules are those in meta.
    pub acl_file: Option<PathBuf>,
    pub identity_from_certificate: CertificateIdentity,
}

impl Default for AccessConfig {
    fn default() -> Self {
        AccessConfig {
            allow_anonymous: true,
            password_file: None,
            acl_file: None,
            identity_from_certificate: CertificateIdentity::None,
        }
    }
}

/// Where a client comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    pub address: IpAddr,
    pub is_tls: bool,
    /// Of the certificate that it has shown, as RFC 2253 writes it.
    pub subject: Option<String>,
}

/// Why a client is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("the user name or the password is wrong")]
    BadCredentials,
    #[error("the client has to log in")]
    NotAuthorized,
    #[error("the authentication method is not known")]
    BadMethod,
    #[error("the users cannot be read")]
    Unavailable,
}

impl Denied {
    /// What CONNACK or DISCONNECT says. [`Reason::BadUserNameOrPassword`] is for CONNACK only; re-authentication does not end
    /// with it.
    pub fn reason(self) -> Reason {
        match self {
            Denied::BadCredentials => Reason::BadUserNameOrPassword,
            Denied::NotAuthorized => Reason::NotAuthorized,
            Denied::BadMethod => Reason::BadAuthenticationMethod,
            Denied::Unavailable => Reason::ServerUnavailable,
        }
    }
}

/// A client that was let in.
#[derive(Debug)]
pub struct Who {
    pub client_id: Arc<str>,
    /// `None`: it has not logged in.
    pub user: Option<Arc<str>>,
    /// Of which generation of the rules.
    permissions: Mutex<(u64, Arc<Permissions>)>,
}

impl Who {
    pub fn new(client_id: impl Into<Arc<str>>, user: Option<Arc<str>>) -> Who {
        let none = Permissions::of(&RuleSet::closed(), "", None);
        Who { client_id: client_id.into(), user, permissions: Mutex::new((0, Arc::new(none))) }
    }
}

/// The rules that hold now.
#[derive(Debug)]
struct Current {
    rules: RwLock<Arc<RuleSet>>,
    /// Of `rules`, from 1; 0 while everything is allowed.
    generation: AtomicU64,
    /// The last that was given.
    last: AtomicU64,
}

impl Current {
    fn of(rules: RuleSet) -> Arc<Current> {
        let current = Current {
            rules: RwLock::new(Arc::new(RuleSet::open())),
            generation: AtomicU64::new(0),
            last: AtomicU64::new(0),
        };
        current.set(rules);
        Arc::new(current)
    }

    fn set(&self, rules: RuleSet) {
        let is_open = rules.is_open();
        let mut held = self.rules.write();
        *held = Arc::new(rules);
        let generation = if is_open { 0 } else { self.last.fetch_add(1, Ordering::Relaxed) + 1 };
        // Under the lock: whoever reads rules and generation under it finds those that belong together.
        self.generation.store(generation, Ordering::Release);
    }
}

/// Users and rules.
pub struct Access<C> {
    users: Users<C>,
    config: AccessConfig,
    current: Arc<Current>,
    /// For what strangers are told of users that do not exist.
    secret: [u8; 16],
}

impl<C: Core> Access<C> {
    /// Reads the files, and the rules in meta, which are followed until `stop`.
    pub async fn start(core: C, config: AccessConfig, stop: CancellationToken) -> anyhow::Result<Access<C>> {
        let mut users = Users::new(core.clone(), &[])?;
        if let Some(path) = &config.password_file {
            users.give(read_password_file(path)?);
        }
        let current = match &config.acl_file {
            Some(path) => Current::of(read_acl_file(path)?),
            None => follow_meta(core, stop).await.context("cannot read the access rules")?,
        };
        Ok(Access { users, config, current, secret: gateway_runtime::identity::random_16_bytes()? })
    }

    /// The store of the users.
    pub fn users(&self) -> &Users<C> {
        &self.users
    }

    /// Who logs in with what CONNECT says: the user's name, or `None` for a client that need not have one. Checking a
    /// password takes milliseconds, on another thread.
    pub async fn authenticate(
        &self,
        name: Option<&str>,
        password: Option<&[u8]>,
        origin: &Origin,
    ) -> Result<Option<Arc<str>>, Denied> {
        if self.config.identity_from_certificate != CertificateIdentity::None && origin.is_tls {
            return self.of_certificate(origin).await.map(Some);
        }
        let Some(name) = name else {
            return if self.config.allow_anonymous { Ok(None) } else { Err(Denied::NotAuthorized) };
        };
        let Some(user) = self.stored(name).await? else {
            // Like a mosquitto without a password file, whose clients often send a name all the same. It was not proved: no
            // rule takes it for that user.
            let is_open = self.config.allow_anonymous && self.config.password_file.is_none();
            return if is_open { Ok(None) } else { Err(Denied::BadCredentials) };
        };
        let password = password.and_then(|password| String::from_utf8(password.to_vec()).ok());
        let password = password.ok_or(Denied::BadCredentials)?;
        if !user.may_come_from(origin.address) {
            return Err(Denied::BadCredentials);
        }
        match tokio::task::spawn_blocking(move || user.accepts(&password)).await {
            Ok(true) => Ok(Some(name.into())),
            _ => Err(Denied::BadCredentials),
        }
    }

    /// The user that a certificate names. It need not be stored; one that is may come only from where it may.
    async fn of_certificate(&self, origin: &Origin) -> Result<Arc<str>, Denied> {
        let named = origin.subject.as_deref().and_then(|subject| self.config.identity_from_certificate.user(subject));
        let name = named.ok_or(Denied::NotAuthorized)?;
        match self.stored(&name).await? {
            Some(user) if !user.may_come_from(origin.address) => Err(Denied::NotAuthorized),
            _ => Ok(name.into()),
        }
    }

    async fn stored(&self, name: &str) -> Result<Option<User>, Denied> {
        match self.users.get(name).await {
            Ok(user) => Ok(user),
            // A name that is too long for a key is nobody's.
            Err(MetaError::InvalidKey) => Ok(None),
            Err(error) => {
                tracing::warn!(%error, "the users cannot be read; a login is refused");
                Err(Denied::Unavailable)
            }
        }
    }

    /// Whether the client may publish to this name. `$share/…` and `$SYS/…` are nobody's, but for what bridges say of
    /// themselves; of `$delayed/…` and `$exclusive/…`, the name behind is asked about.
    pub fn may_publish(&self, who: &Who, name: &str) -> bool {
        let is_reserved = match name.strip_prefix("$SYS/") {
            Some(_) => !filter::matches("$SYS/broker/connection/+/state", name),
            None => name == "$SYS" || name == "$share" || name.starts_with("$share/"),
        };
        !is_reserved && self.permissions(who).is_none_or(|permissions| permissions.may_publish(published(name)))
    }

    /// Whether the client may subscribe to this filter: of `$share/GROUP/FILTER` and `$exclusive/FILTER`, to the filter.
    pub fn may_subscribe(&self, who: &Who, filter: &str) -> bool {
        self.permissions(who).is_none_or(|permissions| permissions.may_subscribe(subscribed(filter)))
    }

    /// Whether a message of this name may be delivered to the client: asked for every delivery, also of retained messages
    /// and of what waited for it.
    pub fn may_read(&self, who: &Who, name: &str) -> bool {
        self.permissions(who).is_none_or(|permissions| permissions.may_read(name))
    }

    /// What the client may do, as the rules are now. `None`: everything.
    pub fn permissions(&self, who: &Who) -> Option<Arc<Permissions>> {
        let generation = self.current.generation.load(Ordering::Acquire);
        if generation == 0 {
            return None;
        }
        let mut held = who.permissions.lock();
        if held.0 != generation {
            let rules = self.current.rules.read();
            let generation = self.current.generation.load(Ordering::Acquire);
            *held = (generation, Arc::new(Permissions::of(&rules, &who.client_id, who.user.as_deref())));
        }
        Some(held.1.clone())
    }
}

/// The name that a message gets that is published to `$delayed/SECONDS/NAME`.
fn published(name: &str) -> &str {
    let behind = name.strip_prefix("$delayed/").and_then(|rest| rest.split_once('/'));
    behind.map_or(name, |(_, behind)| behind)
}

fn subscribed(filter: &str) -> &str {
    if let Some((_, behind)) = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/')) {
        return behind;
    }
    filter.strip_prefix("$exclusive/").unwrap_or(filter)
}

/// The users of mosquitto's password file, by name. The error says all that is wrong in it.
pub fn read_password_file(path: &Path) -> anyhow::Result<BTreeMap<String, User>> {
    password_file::parse(&read(path)?).with_context(|| format!("in {}", path.display()))
}

/// The rules of mosquitto's ACL file. The error says all that is wrong in it.
pub fn read_acl_file(path: &Path) -> anyhow::Result<RuleSet> {
    acl_file::parse(&read(path)?).with_context(|| format!("in {}", path.display()))
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

async fn follow_meta<C: Core>(core: C, stop: CancellationToken) -> Result<Arc<Current>, MetaError> {
    let mirror = Mirror::start(core, RULES_KEY.to_owned(), decode, stop).await?;
    let rules = |content: &gateway_runtime::mirror::Content<Arc<RuleSet>>| {
        content.entries.get(RULES_KEY).map_or_else(|| Arc::new(RuleSet::open()), Arc::clone)
    };
    let mut changes = mirror.changes();
    let mut known = rules(&changes.borrow_and_update());
    let current = Current::of(RuleSet::clone(&known));
    let followed = Arc::downgrade(&current);
    tokio::spawn(async move {
        // Ends with the mirror.
        while changes.changed().await.is_ok() {
            let new = rules(&changes.borrow_and_update());
            let Some(current) = followed.upgrade() else { return };
            if new != known {
                current.set(RuleSet::clone(&new));
                known = new;
            }
        }
    });
    Ok(current)
}

/// Rules that cannot be read allow nothing: whoever wrote them meant to forbid something.
fn decode(entry: &MetaEntry) -> Option<Arc<RuleSet>> {
    let parsed = RuleSet::parse(&entry.value);
    Some(Arc::new(parsed.unwrap_or_else(|error| {
        tracing::error!(key = entry.key, %error, "the access rules are not usable; nothing is allowed");
        RuleSet::closed()
    })))
}

#[cfg(test)]
mod tests;
