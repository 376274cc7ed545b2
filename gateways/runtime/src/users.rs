//! The users: one store for all gateways, in the core's meta at `user/<name>`.
//!
//! Of a password only SCRAM verifiers are kept; a password that arrives in the clear (over TLS, one hopes) is checked
//! against the same.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use bytes::Bytes;
use core_rpc::{Core, MetaCondition, MetaEntry, MetaError, MetaPut};
use serde::{Deserialize, Serialize};

use crate::identity::random_16_bytes;
use crate::scram::{Hash, Verifier};

/// The prefix of the users' keys.
pub const USER_PREFIX: &str = "user/";

/// Iterations of verifiers that are made here, as RFC 7677 asks for at least.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).unwrap();

/// Attempts to change a record that others change too.
const ATTEMPTS: usize = 16;

/// What is kept of a user. JSON in meta: a later version may add fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scram_sha_256: Option<Verifier>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scram_sha_512: Option<Verifier>,
}

impl User {
    /// Of a password; the salt is random.
    pub fn of_password(password: &str) -> std::io::Result<User> {
        let verifier = |hash| {
            let salt = random_16_bytes()?.to_vec();
            Ok::<_, std::io::Error>(Some(Verifier::of_password(hash, password, salt, ITERATIONS)))
        };
        Ok(User { scram_sha_256: verifier(Hash::Sha256)?, scram_sha_512: verifier(Hash::Sha512)? })
    }

    pub fn verifier(&self, hash: Hash) -> Option<&Verifier> {
        match hash {
            Hash::Sha256 => self.scram_sha_256.as_ref(),
            Hash::Sha512 => self.scram_sha_512.as_ref(),
        }
    }

    pub fn verifier_mut(&mut self, hash: Hash) -> &mut Option<Verifier> {
        match hash {
            Hash::Sha256 => &mut self.scram_sha_256,
            Hash::Sha512 => &mut self.scram_sha_512,
        }
    }

    /// Whether this is the user's password. Takes milliseconds: not for a thread that must not wait.
    pub fn accepts(&self, password: &str) -> bool {
        match (&self.scram_sha_256, &self.scram_sha_512) {
            (Some(verifier), _) => verifier.accepts(Hash::Sha256, password),
            (None, Some(verifier)) => verifier.accepts(Hash::Sha512, password),
            (None, None) => false,
        }
    }

    fn is_empty(&self) -> bool {
        *self == User::default()
    }
}

/// The store. Reads ask the core, so that a changed password holds at once on every gateway.
#[derive(Clone, Debug)]
pub struct Users<C> {
    core: C,
    /// Users given on the command line: they go before the stored ones and cannot be changed.
    given: BTreeMap<String, User>,
}

impl<C: Core> Users<C> {
    /// `given`: (name, password).
    pub fn new(core: C, given: &[(String, String)]) -> std::io::Result<Users<C>> {
        let given = given.iter().map(|(name, password)| Ok((name.clone(), User::of_password(password)?)));
        Ok(Users { core, given: given.collect::<std::io::Result<_>>()? })
    }

    pub async fn get(&self, name: &str) -> Result<Option<User>, MetaError> {
        match self.given.get(name) {
            Some(user) => Ok(Some(user.clone())),
            None => Ok(self.core.meta_get(key(name)).await?.as_ref().and_then(decode)),
        }
    }

    /// All users, by name.
    pub async fn all(&self) -> Result<BTreeMap<String, User>, MetaError> {
        let list = self.core.meta_list(USER_PREFIX.into()).await?;
        let stored = list
            .entries
            .iter()
            .filter_map(|entry| Some((entry.key.strip_prefix(USER_PREFIX)?.to_owned(), decode(entry)?)));
        Ok(stored.chain(self.given.clone()).collect())
    }

    /// Whether a user was given on the command line.
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// Changes a user; one with nothing left is removed. `change` may be called more than once.
    pub async fn change(&self, name: &str, change: impl Fn(&mut User)) -> Result<(), MetaError> {
        let mut conflict = MetaError::Unavailable;
        for _ in 0..ATTEMPTS {
            let entry = self.core.meta_get(key(name)).await?;
            let mut user = entry.as_ref().and_then(decode).unwrap_or_default();
            change(&mut user);
            let condition = entry.as_ref().map_or(MetaCondition::Absent, |entry| MetaCondition::Version(entry.version));
            let changed = match (user.is_empty(), entry) {
                (true, None) => return Ok(()),
                (true, Some(_)) => self.core.meta_delete(key(name), condition).await,
                (false, _) => {
                    let value = serde_json::to_vec(&user).map(Bytes::from).map_err(|_| MetaError::TooLarge)?;
                    let put = MetaPut { key: key(name), value, condition, session: None };
                    self.core.meta_put(put).await.map(drop)
                }
            };
            match changed {
                Err(error @ MetaError::Conflict(_)) => conflict = error,
                changed => return changed,
            }
        }
        Err(conflict)
    }
}

fn key(name: &str) -> String {
    format!("{USER_PREFIX}{name}")
}

fn decode(entry: &MetaEntry) -> Option<User> {
    serde_json::from_slice(&entry.value).ok()
}
