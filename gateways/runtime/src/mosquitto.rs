//! Password hashes as mosquitto keeps them, so that its users can be taken over with the passwords they have.
//!
//! ```text
//! $6$salt$hash               SHA-512 of the password, then the salt    (mosquitto up to 1.6, `-H sha512`)
//! $7$iterations$salt$hash    PBKDF2 with HMAC-SHA-512, 64 bytes        (mosquitto 2.0)
//! ```
//! Salt and hash are base64. mosquitto 2.1 also writes `$argon2id$…`, which is not read here.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, pbkdf2};
use serde::{Deserialize, Serialize};

/// What PBKDF2 makes, bytes.
const HASH_BYTES: usize = digest::SHA512_OUTPUT_LEN;

/// More iterations than this are refused: checking a password would hold a thread for seconds.
const ITERATIONS_MAX: u32 = 10_000_000;

/// A hash as it stands in mosquitto's password file behind the user's name; checked when it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MosquittoHash {
    text: String,
    kind: Kind,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sha512,
    Pbkdf2(NonZeroU32),
}

/// Why a hash cannot be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MosquittoHashError {
    #[error("the password is not hashed; run `mosquitto_passwd -U` on the file first")]
    Plain,
    #[error("argon2id hashes of mosquitto 2.1 cannot be read; set the password again with `-H sha512-pbkdf2`")]
    Argon2,
    #[error("a hash of a kind that is not known; `$6$` and `$7$` are")]
    UnknownKind,
    #[error("the hash is damaged")]
    Damaged,
    #[error("more than {ITERATIONS_MAX} iterations")]
    TooManyIterations,
}

impl MosquittoHash {
    /// Reads what stands behind the user's name.
    pub fn parse(text: &str) -> Result<MosquittoHash, MosquittoHashError> {
        let Some(rest) = text.strip_prefix('$') else { return Err(MosquittoHashError::Plain) };
        let mut fields = rest.split('$');
        let kind = match fields.next() {
            Some("6") => Kind::Sha512,
            Some("7") => {
                let iterations = fields.next().and_then(|field| field.parse().ok());
                let iterations: NonZeroU32 = iterations.ok_or(MosquittoHashError::Damaged)?;
                if iterations.get() > ITERATIONS_MAX {
                    return Err(MosquittoHashError::TooManyIterations);
                }
                Kind::Pbkdf2(iterations)
            }
            Some(other) if other.starts_with("argon2") => return Err(MosquittoHashError::Argon2),
            _ => return Err(MosquittoHashError::UnknownKind),
        };
        let mut decoded = || STANDARD.decode(fields.next()?).ok();
        let (salt, hash) = decoded().zip(decoded()).ok_or(MosquittoHashError::Damaged)?;
        if fields.next().is_some() || hash.len() != HASH_BYTES || salt.is_empty() {
            return Err(MosquittoHashError::Damaged);
        }
        Ok(MosquittoHash { text: text.to_owned(), kind, salt, hash })
    }

    /// Whether this is the password. Takes as long as the iterations do: not for a thread that must not wait.
    pub fn accepts(&self, password: &[u8]) -> bool {
        match self.kind {
            Kind::Sha512 => {
                let made = digest::digest(&digest::SHA512, &[password, &self.salt].concat());
                let differing = made.as_ref().iter().zip(&self.hash).fold(0, |differing, (a, b)| differing | (a ^ b));
                made.as_ref().len() == self.hash.len() && differing == 0
            }
            Kind::Pbkdf2(iterations) => {
                let algorithm = pbkdf2::PBKDF2_HMAC_SHA512;
                pbkdf2::verify(algorithm, iterations, &self.salt, password, &self.hash).is_ok()
            }
        }
    }
}

impl TryFrom<String> for MosquittoHash {
    type Error = MosquittoHashError;

    fn try_from(text: String) -> Result<MosquittoHash, MosquittoHashError> {
        MosquittoHash::parse(&text)
    }
}

impl From<MosquittoHash> for String {
    fn from(hash: MosquittoHash) -> String {
        hash.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made by Debian's mosquitto_passwd 2.0.11: as it does by default, with `-H sha512`, and with `-I 1000`.
    const PBKDF2: &str = "$7$101$68gsrh5sEvZK9W4Y$4HeKlGiYctjAhtjfJhKdeczpiCMt2TFUa6JeZMz7dIRqK/ih44mpDetJ7ot6GVN81SGyMqhVuXE9Lm/Q6etnnA==";
    const SHA512: &str =
        "$6$wVBZfeeJ7OJzzG4W$blftQHSflwAg5qZwktNjG4/PFFS7dY9f/4Sg0jlbeNutencFKuxUox5NK7qM9yMPYhBhcgPK3rMGdllJQyAvhQ==";
    const UNICODE: &str = "$7$1000$d8/G3qrrG0Gf/Ug0$D+QlWRk+wKaF9AdPxlgkWPQ565SpTOJkre1W2A/ep7e31gJHsXgKC/uCzh4G63z5zftG22BcvupNG8iFdkHgdA==";

    #[test]
    fn hashes_of_the_real_tool_accept_their_passwords() {
        for (text, password) in [(PBKDF2, "secret"), (SHA512, "pa:ss w"), (UNICODE, "ünï")] {
            let hash = MosquittoHash::parse(text).unwrap();
            assert!(hash.accepts(password.as_bytes()), "{text}");
            assert!(!hash.accepts(b"Secret") && !hash.accepts(b""), "{text}");
            assert_eq!(String::from(hash), text);
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_reason() {
        for (text, error) in [
            ("secret", MosquittoHashError::Plain),
            ("", MosquittoHashError::Plain),
            ("$argon2id$v=19$m=47104,t=1,p=1$c2FsdA$aGFzaA", MosquittoHashError::Argon2),
            ("$5$a$b", MosquittoHashError::UnknownKind),
            ("$6$c2FsdA==$aGFzaA==", MosquittoHashError::Damaged),
            ("$7$0$c2FsdA==$aGFzaA==", MosquittoHashError::Damaged),
            ("$7$x", MosquittoHashError::Damaged),
            ("$7$4000000000$a$b", MosquittoHashError::TooManyIterations),
        ] {
            assert_eq!(MosquittoHash::parse(text), Err(error), "{text}");
        }
        assert_eq!(MosquittoHash::parse(&format!("{SHA512}$more")), Err(MosquittoHashError::Damaged));
    }

    #[test]
    fn json_is_the_text() {
        let hash = MosquittoHash::parse(PBKDF2).unwrap();
        let json = serde_json::to_string(&hash).unwrap();
        assert_eq!(json, format!("\"{PBKDF2}\""));
        assert_eq!(serde_json::from_str::<MosquittoHash>(&json).unwrap(), hash);
        assert!(serde_json::from_str::<MosquittoHash>("\"secret\"").is_err());
    }
}
