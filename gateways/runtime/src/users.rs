//! The users: one store for all gateways, in the core's meta at `user/<name>`.
//!
//! Of a password only SCRAM verifiers and a salted hash are kept. A password that arrives in the clear (over TLS, one hopes)
//! is checked against the hash, which may come from a RabbitMQ or a mosquitto, where the user has one, and else against
//! the verifiers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use core_rpc::{Core, MetaCondition, MetaEntry, MetaError, MetaPut};
use ring::digest;
use serde::{Deserialize, Serialize};

use crate::identity::random_16_bytes;
use crate::md5;
use crate::mosquitto::MosquittoHash;
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
    /// Goes before the verifiers where both are there. Whoever changes the one changes or clears the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salted: Option<SaltedHash>,
    /// As mosquitto keeps it. Goes before the verifiers, behind [`User::salted`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mosquitto: Option<MosquittoHash>,
    /// What the user is (`administrator`, `monitoring` …), for gateways that ask.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// May only connect from the machine itself. All gateways obey.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub loopback_only: bool,
}

/// A password as RabbitMQ keeps it: the salt, then the hash of salt and password; base64 when stored. Empty: no
/// password is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaltedHash {
    pub algorithm: HashAlgorithm,
    pub hash: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashAlgorithm {
    Sha256,
    Sha512,
    /// What RabbitMQ used before 3.6.
    Md5,
}

impl HashAlgorithm {
    fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            HashAlgorithm::Sha256 => digest::digest(&digest::SHA256, message).as_ref().to_vec(),
            HashAlgorithm::Sha512 => digest::digest(&digest::SHA512, message).as_ref().to_vec(),
            HashAlgorithm::Md5 => md5::digest(message).to_vec(),
        }
    }
}

/// So long is the salt, bytes.
const SALT_BYTES: usize = 4;

impl SaltedHash {
    /// Of a password; the salt is random.
    pub fn of_password(password: &str) -> std::io::Result<SaltedHash> {
        let random = random_16_bytes()?;
        Ok(SaltedHash::with_salt(HashAlgorithm::Sha256, &random[..SALT_BYTES], password.as_bytes()))
    }

    fn with_salt(algorithm: HashAlgorithm, salt: &[u8], password: &[u8]) -> SaltedHash {
        let digest = algorithm.digest(&[salt, password].concat());
        SaltedHash { algorithm, hash: STANDARD.encode([salt, digest.as_slice()].concat()) }
    }

    /// Whether this is the password.
    pub fn accepts(&self, password: &[u8]) -> bool {
        let Ok(kept) = STANDARD.decode(&self.hash) else { return false };
        if kept.len() <= SALT_BYTES || password.is_empty() {
            return false;
        }
        let (salt, kept) = kept.split_at(SALT_BYTES);
        let digest = self.algorithm.digest(&[salt, password].concat());
        // Not telling by its time where they differ.
        kept.len() == digest.len() && kept.iter().zip(&digest).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
    }
}

impl User {
    /// Of a password; the salts are random.
    pub fn of_password(password: &str) -> std::io::Result<User> {
        let verifier = |hash| {
            let salt = random_16_bytes()?.to_vec();
            Ok::<_, std::io::Error>(Some(Verifier::of_password(hash, password, salt, ITERATIONS)))
        };
        Ok(User {
            scram_sha_256: verifier(Hash::Sha256)?,
            scram_sha_512: verifier(Hash::Sha512)?,
            salted: Some(SaltedHash::of_password(password)?),
            ..User::default()
        })
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
        match (&self.salted, &self.mosquitto, &self.scram_sha_256, &self.scram_sha_512) {
            (Some(salted), ..) => salted.accepts(password.as_bytes()),
            (None, Some(hash), ..) => hash.accepts(password.as_bytes()),
            (None, None, Some(verifier), _) => verifier.accepts(Hash::Sha256, password),
            (None, None, None, Some(verifier)) => verifier.accepts(Hash::Sha512, password),
            (None, None, None, None) => false,
        }
    }

    /// Whether the user may come from this address.
    pub fn may_come_from(&self, address: IpAddr) -> bool {
        !self.loopback_only || address.to_canonical().is_loopback()
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

    /// Adds users to those that were given on the command line; they go before the stored ones.
    pub fn give(&mut self, users: impl IntoIterator<Item = (String, User)>) {
        self.given.extend(users);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_of_rabbitmqs_documentation() {
        // The example of "Computing a password hash": salt 908DC60A, password test12.
        let kept = SaltedHash {
            algorithm: HashAlgorithm::Sha256,
            hash: "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR".into(),
        };
        assert!(kept.accepts(b"test12"));
        assert!(!kept.accepts(b"test13") && !kept.accepts(b""));
    }

    #[test]
    fn every_algorithm_accepts_its_own() {
        for algorithm in [HashAlgorithm::Sha256, HashAlgorithm::Sha512, HashAlgorithm::Md5] {
            let kept = SaltedHash::with_salt(algorithm, b"salt", b"secret");
            assert!(kept.accepts(b"secret") && !kept.accepts(b"Secret"));
        }
        let none = SaltedHash { algorithm: HashAlgorithm::Sha256, hash: String::new() };
        assert!(!none.accepts(b"") && !none.accepts(b"x"));
    }

    #[test]
    fn a_user_of_mosquittos_keeps_its_password() {
        let hash = "$7$101$68gsrh5sEvZK9W4Y$4HeKlGiYctjAhtjfJhKdeczpiCMt2TFUa6JeZMz7dIRqK/ih44mpDetJ7ot6GVN81SGyMqhVuXE9Lm/Q6etnnA==";
        let user = User { mosquitto: MosquittoHash::parse(hash).ok(), ..User::default() };
        assert!(user.accepts("secret") && !user.accepts("Secret"));
        let stored = serde_json::to_string(&user).unwrap();
        assert_eq!(stored, format!("{{\"mosquitto\":\"{hash}\"}}"));
        assert_eq!(serde_json::from_str::<User>(&stored).unwrap(), user);
    }

    #[test]
    fn some_come_from_here_only() {
        let anybody = User::default();
        let local = User { loopback_only: true, ..User::default() };
        for (address, is_local) in [("127.0.0.1", true), ("::1", true), ("::ffff:127.0.0.1", true), ("10.0.0.1", false)]
        {
            let address = address.parse().unwrap();
            assert!(anybody.may_come_from(address));
            assert_eq!(local.may_come_from(address), is_local);
        }
    }

    #[test]
    fn users_of_before_are_read() {
        let user: User = serde_json::from_str("{}").unwrap();
        assert!(user.is_empty());
        assert_eq!(serde_json::to_string(&User::default()).unwrap(), "{}");
    }
}
