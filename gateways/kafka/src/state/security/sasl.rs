//! The SASL exchange of one connection (KIP-43, KIP-84, KIP-152, KIP-255): pure but for the users, which are passed in.
//!
//! ```text
//! Fresh ──handshake──► Chosen(mechanism) ──first message──► Exchanging ──last──► Done
//!                         ├──────── PLAIN's only message, a good token ───────► Done
//!                         └──── a bad token ──► TokenRefused ──the client's answer──► Failed
//! ```
//! Whatever goes wrong ends in `Failed`; the connection is of no more use. From `Done` it may begin again (KIP-368), as the same
//! user by the same mechanism.

use gateway_runtime::scram::{ClientFirst, Exchange, Hash};
use gateway_runtime::users::User;

/// What a client may authenticate with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Plain,
    Scram(Hash),
    OauthBearer,
}

impl Mechanism {
    pub const ALL: [Mechanism; 4] =
        [Mechanism::Plain, Mechanism::Scram(Hash::Sha256), Mechanism::Scram(Hash::Sha512), Mechanism::OauthBearer];

    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Scram(Hash::Sha256) => "SCRAM-SHA-256",
            Mechanism::Scram(Hash::Sha512) => "SCRAM-SHA-512",
            Mechanism::OauthBearer => "OAUTHBEARER",
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
    /// The client was told why its token is refused; whatever it answers is the end.
    TokenRefused,
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
    /// Whose token is this? It must be this user's, if one is named.
    Bearer { token: String, authorization: String },
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

/// OAUTHBEARER (RFC 7628 section 3.1): `n,[a=<authorization>],` and pairs `<key>=<value>`, each begun by 0x01, all ended by two. One is
/// `auth`: `Bearer <token>`. Others (host, port, extensions of KIP-342) mean nothing here.
pub fn bearer(message: &[u8]) -> Result<Question, Malformed> {
    let text = std::str::from_utf8(message).map_err(|_| Malformed)?;
    let (header, pairs) = text.split_once('\x01').ok_or(Malformed)?;
    let pairs = pairs.strip_suffix("\x01\x01").ok_or(Malformed)?;
    let authorization = header.strip_prefix("n,").and_then(|rest| rest.strip_suffix(',')).ok_or(Malformed)?;
    let authorization = match authorization.strip_prefix("a=") {
        Some(name) if !name.is_empty() => scram_name(name)?,
        Some(_) => return Err(Malformed),
        None if authorization.is_empty() => String::new(),
        None => return Err(Malformed),
    };
    let mut token = None;
    for pair in pairs.split('\x01') {
        match pair.split_once('=').ok_or(Malformed)? {
            ("auth", _) if token.is_some() => return Err(Malformed),
            ("auth", value) => token = Some(value),
            (key, _) if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphabetic()) => return Err(Malformed),
            _ => {}
        }
    }
    let (scheme, token) = token.and_then(|value| value.split_once(' ')).ok_or(Malformed)?;
    let token = token.trim_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(Malformed);
    }
    Ok(Question::Bearer { token: token.to_owned(), authorization })
}

/// A name in which `=2C` stands for a comma and `=3D` for an equals sign (RFC 5802 section 5.1).
fn scram_name(name: &str) -> Result<String, Malformed> {
    let mut parts = name.split('=');
    let mut read = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (character, rest) = match part.get(..2) {
            Some("2C") => (',', &part[2..]),
            Some("3D") => ('=', &part[2..]),
            _ => return Err(Malformed),
        };
        read.push(character);
        read.push_str(rest);
    }
    if read.contains('\0') || name.contains(',') { Err(Malformed) } else { Ok(read) }
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
    fn bearer_messages() {
        let asked = |token: &str, authorization: &str| {
            Ok(Question::Bearer { token: token.into(), authorization: authorization.into() })
        };
        assert_eq!(bearer(b"n,,\x01auth=Bearer a.b.c\x01\x01"), asked("a.b.c", ""));
        assert_eq!(bearer(b"n,a=x=2Cy=3D,\x01host=h\x01auth=bEARER  t\x01port=1\x01\x01"), asked("t", "x,y="));
        for bad in [
            "",
            "n,,",
            "n,,\x01\x01",
            "n,,\x01\x01\x01",
            "n,,\x01auth=Bearer a\x01",
            "y,,\x01auth=Bearer a\x01\x01",
            "n,a=,\x01auth=Bearer a\x01\x01",
            "n,a==4,\x01auth=Bearer a\x01\x01",
            "n,x,\x01auth=Bearer a\x01\x01",
            "n,,\x01auth=Basic a\x01\x01",
            "n,,\x01auth=Bearer \x01\x01",
            "n,,\x01auth=Bearer\x01\x01",
            "n,,\x01auth=Bearer a\x01auth=Bearer b\x01\x01",
            "n,,\x01host=h\x01\x01",
            "n,,\x01a1=h\x01auth=Bearer a\x01\x01",
        ] {
            assert_eq!(bearer(bad.as_bytes()), Err(Malformed), "{bad:?}");
        }
        assert_eq!(bearer(b"n,,\x01auth=Bearer \xff\x01\x01"), Err(Malformed));
    }

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
