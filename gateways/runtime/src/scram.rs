//! SCRAM on the server's side (RFC 5802, RFC 7677), as a pure state machine: messages in, messages out.
//!
//! ```text
//! client ── n,,n=user,r=cnonce ─────────────────► first()
//!        ◄─ r=cnonce+snonce,s=salt,i=iterations ──
//!        ── c=biws,r=cnonce+snonce,p=proof ──────► finish()
//!        ◄─ v=signature ──────────────────────────
//! ```
//! Channel binding is not offered.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;

/// The hash that a mechanism is named after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn hmac(self) -> hmac::Algorithm {
        match self {
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha512 => &digest::SHA512,
        }
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Hash::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Hash::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }
}

/// What is kept of a password: enough to check it, not to use it elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verifier {
    pub iterations: u32,
    pub salt: Vec<u8>,
    pub stored_key: Vec<u8>,
    pub server_key: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    #[error("the message is malformed")]
    Malformed,
    #[error("an extension that is not known is required")]
    UnknownExtension,
    #[error("channel binding is not supported")]
    ChannelBinding,
    #[error("the proof does not match")]
    WrongProof,
}

impl Verifier {
    /// Of a password. RFC 5802's SaltedPassword is PBKDF2 with the mechanism's hash.
    pub fn of_password(hash: Hash, password: &str, salt: Vec<u8>, iterations: NonZeroU32) -> Verifier {
        let salted = salted(hash, password, &salt, iterations);
        Verifier::of_salted(hash, &salted, salt, iterations.get())
    }

    /// Of a password that was salted elsewhere.
    pub fn of_salted(hash: Hash, salted: &[u8], salt: Vec<u8>, iterations: u32) -> Verifier {
        let key = hmac::Key::new(hash.hmac(), salted);
        let client_key = hmac::sign(&key, b"Client Key");
        Verifier {
            iterations,
            salt,
            stored_key: digest::digest(hash.digest(), client_key.as_ref()).as_ref().to_vec(),
            server_key: hmac::sign(&key, b"Server Key").as_ref().to_vec(),
        }
    }

    /// Whether this is the password. Takes as long as the iterations do: not for a thread that must not wait.
    pub fn accepts(&self, hash: Hash, password: &str) -> bool {
        let Some(iterations) = NonZeroU32::new(self.iterations) else { return false };
        let salted = salted(hash, password, &self.salt, iterations);
        let client_key = hmac::sign(&hmac::Key::new(hash.hmac(), &salted), b"Client Key");
        same(digest::digest(hash.digest(), client_key.as_ref()).as_ref(), &self.stored_key)
    }
}

fn salted(hash: Hash, password: &str, salt: &[u8], iterations: NonZeroU32) -> Vec<u8> {
    let mut salted = vec![0; hash.digest().output_len()];
    pbkdf2::derive(hash.pbkdf2(), iterations, salt, password.as_bytes(), &mut salted);
    salted
}

/// Compares without telling by its time where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

/// The client's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFirst {
    pub user: String,
    /// Empty: as the user itself.
    pub authorization: String,
    nonce: String,
    gs2_header: String,
    bare: String,
}

impl ClientFirst {
    pub fn parse(message: &[u8]) -> Result<ClientFirst, ScramError> {
        let text = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
        let mut parts = text.splitn(3, ',');
        let (Some(binding), Some(authorization), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(ScramError::Malformed);
        };
        match binding {
            // "y": the client could, but believes that the server cannot, which is so.
            "n" | "y" => {}
            _ if binding.starts_with("p=") => return Err(ScramError::ChannelBinding),
            _ => return Err(ScramError::Malformed),
        }
        let authorization = match authorization {
            "" => String::new(),
            named => name(named.strip_prefix("a=").ok_or(ScramError::Malformed)?)?,
        };
        if bare.starts_with("m=") {
            return Err(ScramError::UnknownExtension);
        }
        let mut fields = bare.split(',');
        let user = fields.next().and_then(|field| field.strip_prefix("n=")).ok_or(ScramError::Malformed)?;
        let nonce = fields.next().and_then(|field| field.strip_prefix("r=")).ok_or(ScramError::Malformed)?;
        if nonce.is_empty() || user.is_empty() {
            return Err(ScramError::Malformed);
        }
        Ok(ClientFirst {
            user: name(user)?,
            authorization,
            nonce: nonce.to_owned(),
            gs2_header: text[..text.len() - bare.len()].to_owned(),
            bare: bare.to_owned(),
        })
    }
}

/// RFC 5802's saslname: `=2C` is a comma, `=3D` an equals sign.
fn name(escaped: &str) -> Result<String, ScramError> {
    let mut parts = escaped.split('=');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(ScramError::Malformed),
        };
        name.push(rest.0);
        name.push_str(rest.1);
    }
    Ok(name)
}

/// A server that has answered the first message and waits for the last.
#[derive(Clone, Debug)]
pub struct Exchange {
    hash: Hash,
    verifier: Verifier,
    gs2_header: String,
    /// The first messages of both sides, as the proof covers them.
    first_messages: String,
    nonce: String,
}

impl Exchange {
    /// The answer to the first message, and what waits for the last. `server_nonce` is random and printable.
    pub fn begin(hash: Hash, first: ClientFirst, verifier: Verifier, server_nonce: &str) -> (Exchange, Vec<u8>) {
        let nonce = format!("{}{server_nonce}", first.nonce);
        let answer = format!("r={nonce},s={},i={}", STANDARD.encode(&verifier.salt), verifier.iterations);
        let first_messages = format!("{},{answer}", first.bare);
        (Exchange { hash, verifier, gs2_header: first.gs2_header, first_messages, nonce }, answer.into_bytes())
    }

    /// Checks the client's last message; returns the server's.
    pub fn finish(self, message: &[u8]) -> Result<Vec<u8>, ScramError> {
        let text = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let mut fields = without_proof.split(',');
        let binding = fields.next().and_then(|field| field.strip_prefix("c=")).ok_or(ScramError::Malformed)?;
        let nonce = fields.next().and_then(|field| field.strip_prefix("r=")).ok_or(ScramError::Malformed)?;
        if STANDARD.decode(binding).ok().as_deref() != Some(self.gs2_header.as_bytes()) || nonce != self.nonce {
            return Err(ScramError::Malformed);
        }
        let proof = STANDARD.decode(proof).map_err(|_| ScramError::Malformed)?;
        let covered = format!("{},{without_proof}", self.first_messages);
        let stored = hmac::Key::new(self.hash.hmac(), &self.verifier.stored_key);
        let signature = hmac::sign(&stored, covered.as_bytes());
        if proof.len() != signature.as_ref().len() {
            return Err(ScramError::WrongProof);
        }
        let client_key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        if !same(digest::digest(self.hash.digest(), &client_key).as_ref(), &self.verifier.stored_key) {
            return Err(ScramError::WrongProof);
        }
        let server = hmac::Key::new(self.hash.hmac(), &self.verifier.server_key);
        Ok(format!("v={}", STANDARD.encode(hmac::sign(&server, covered.as_bytes()))).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, section 3.
    fn rfc_7677() -> (Exchange, Vec<u8>) {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::of_password(Hash::Sha256, "pencil", salt, NonZeroU32::new(4096).unwrap());
        let first = ClientFirst::parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        assert_eq!(first.user, "user");
        Exchange::begin(Hash::Sha256, first, verifier, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    }

    const LAST: &str =
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    #[test]
    fn the_rfcs_example_is_accepted() {
        let (exchange, answer) = rfc_7677();
        assert_eq!(
            String::from_utf8(answer).unwrap(),
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        assert_eq!(exchange.finish(LAST.as_bytes()).unwrap(), b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_wrong_proof_nonce_or_binding_is_refused() {
        let finish = |from: &str, to: &str| rfc_7677().0.finish(LAST.replace(from, to).as_bytes());
        assert_eq!(finish("p=dH", "p=dI"), Err(ScramError::WrongProof));
        assert_eq!(finish("p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "p=dHzb"), Err(ScramError::WrongProof));
        assert_eq!(finish("r=rOp", "r=rOq"), Err(ScramError::Malformed));
        assert_eq!(finish("c=biws", "c=eSws"), Err(ScramError::Malformed));
        assert_eq!(rfc_7677().0.finish(b""), Err(ScramError::Malformed));
    }

    #[test]
    fn names_may_hold_commas_and_equals_signs() {
        let first = ClientFirst::parse(b"n,a=x=3D,n=a=2Cb=3D,r=1").unwrap();
        assert_eq!((first.user.as_str(), first.authorization.as_str()), ("a,b=", "x="));
        for bad in ["", "n,,", "n,,n=a", "n,,n=,r=1", "p=tls-unique,,n=a,r=1", "n,,n=a=2D,r=1", "n,,m=x,n=a,r=1"] {
            assert!(ClientFirst::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_checked_against_its_verifier() {
        for hash in [Hash::Sha256, Hash::Sha512] {
            let verifier = Verifier::of_password(hash, "secret", vec![1; 16], NonZeroU32::new(4096).unwrap());
            assert!(verifier.accepts(hash, "secret"));
            assert!(!verifier.accepts(hash, "Secret"));
        }
    }
}
