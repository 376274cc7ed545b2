//! The SASL exchange of one connection (KIP-43, KIP-84, KIP-152): pure but for the users, which are passed in.
//!
//! ```text
//! Fresh ──handshake──► Chosen(mechanism) ──first message──► Exchanging ──last──► Done
//!                         └──────────── PLAIN's only message ─────────────────► Done
//! ```
//! Whatever goes wrong ends in `Failed`; the connection is of no more use.

use gateway_runtime::scram::{ClientFirst, Exchange, Hash};
use gateway_runtime::users::User;

/// What a client may authenticate with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Plain,
    Scram(Hash),
}

impl Mechanism {
    pub const ALL: [Mechanism; 3] = [Mechanism::Plain, Mechanism::Scram(Hash::Sha256), Mechanism::Scram(Hash::Sha512)];

    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Scram(Hash::Sha256) => "SCRAM-SHA-256",
            Mechanism::Scram(Hash::Sha512) => "SCRAM-SHA-512",
        }
    }

    pub fn of(name: &str) -> Option<Mechanism> {
        Mechanism::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }
}

/// How far a connection has come.
#[derive(Clone, Debug)]
pub enum Sasl {
    Fresh,
    Chosen(Mechanism),
    Exchanging(Mechanism, String, Box<Exchange>),
    Done,
    Failed,
}

/// What a client's message asks of the users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Is this the user's password?
    Password { user: String, password: String },
    /// What is the user's verifier?
    Verifier { hash: Hash, first: ClientFirst },
}

/// A message that is no message of the mechanism, or an identity that is not the user's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// PLAIN (RFC 4616): `[authorization] NUL user NUL password`.
pub fn plain(message: &[u8]) -> Result<Question, Malformed> {
    let text = std::str::from_utf8(message).map_err(|_| Malformed)?;
    let mut parts = text.split('\0');
    let (Some(authorization), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Malformed);
    };
    if user.is_empty() || password.is_empty() || (!authorization.is_empty() && authorization != user) {
        return Err(Malformed);
    }
    Ok(Question::Password { user: user.to_owned(), password: password.to_owned() })
}

/// SCRAM's first message.
pub fn scram_first(hash: Hash, message: &[u8]) -> Result<Question, Malformed> {
    let first = ClientFirst::parse(message).map_err(|_| Malformed)?;
    if !first.authorization.is_empty() && first.authorization != first.user {
        return Err(Malformed);
    }
    Ok(Question::Verifier { hash, first })
}

/// SCRAM's answer to the first message; None where the user has no such verifier.
pub fn begin_scram(
    hash: Hash,
    first: ClientFirst,
    user: Option<&User>,
    nonce: &str,
) -> Option<(Box<Exchange>, Vec<u8>)> {
    let verifier = user?.verifier(hash)?.clone();
    let (exchange, answer) = Exchange::begin(hash, first, verifier, nonce);
    Some((Box::new(exchange), answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_messages() {
        let asked =
            |user: &str, password: &str| Ok(Question::Password { user: user.into(), password: password.into() });
        assert_eq!(plain(b"\0a\0b"), asked("a", "b"));
        assert_eq!(plain(b"a\0a\0b"), asked("a", "b"));
        for bad in [&b""[..], b"\0a", b"\0a\0", b"\0\0b", b"x\0a\0b", b"\0a\0b\0", b"\0\xff\0b"] {
            assert_eq!(plain(bad), Err(Malformed));
        }
    }
}
