//! The keys that tokens are checked with, and where they come from.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail};
use parking_lot::RwLock;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use rustls::pki_types::pem::{PemObject, SectionKind};
use serde::Deserialize;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::{TokenError, decoded};

/// A way to sign (RFC 7518 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Rsa(RsaAlgorithm),
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// ECDSA over P-384 with SHA-384.
    Es384,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RsaAlgorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
}

impl Algorithm {
    pub fn of(name: &str) -> Option<Algorithm> {
        Some(match name {
            "RS256" => Algorithm::Rsa(RsaAlgorithm::Rs256),
            "RS384" => Algorithm::Rsa(RsaAlgorithm::Rs384),
            "RS512" => Algorithm::Rsa(RsaAlgorithm::Rs512),
            "PS256" => Algorithm::Rsa(RsaAlgorithm::Ps256),
            "PS384" => Algorithm::Rsa(RsaAlgorithm::Ps384),
            "PS512" => Algorithm::Rsa(RsaAlgorithm::Ps512),
            "ES256" => Algorithm::Es256,
            "ES384" => Algorithm::Es384,
            _ => return None,
        })
    }
}

impl RsaAlgorithm {
    fn parameters(self) -> &'static signature::RsaParameters {
        match self {
            RsaAlgorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            RsaAlgorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            RsaAlgorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            RsaAlgorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            RsaAlgorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            RsaAlgorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        }
    }
}

/// A public key. A token says how it is signed, but the key says for what it may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    /// Its name in a JWKS file.
    id: Option<String>,
    material: Material,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    /// Modulus and exponent, big-endian.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An RSAPublicKey of PKCS #1, DER.
    RsaDer(Vec<u8>),
    /// Uncompressed points.
    P256(Vec<u8>),
    P384(Vec<u8>),
}

impl Key {
    /// None: it is no key for this algorithm.
    fn accepts(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Option<bool> {
        let verified = match (&self.material, algorithm) {
            (Material::Rsa { n, e }, Algorithm::Rsa(algorithm)) => {
                RsaPublicKeyComponents { n, e }.verify(algorithm.parameters(), message, signature)
            }
            (Material::RsaDer(key), Algorithm::Rsa(algorithm)) => {
                UnparsedPublicKey::new(algorithm.parameters(), key).verify(message, signature)
            }
            (Material::P256(point), Algorithm::Es256) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            (Material::P384(point), Algorithm::Es384) => {
                UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point).verify(message, signature)
            }
            _ => return None,
        };
        Some(verified.is_ok())
    }
}

/// All keys.
#[derive(Debug)]
pub struct KeyStore {
    /// Of PEM files: without names.
    fixed: Vec<Key>,
    jwks: Option<PathBuf>,
    named: RwLock<Named>,
}

/// What a JWKS file had when it was read.
#[derive(Debug, Default)]
struct Named {
    keys: Vec<Key>,
    modified: Option<SystemTime>,
}

impl KeyStore {
    pub fn load(jwks: Option<PathBuf>, pem_files: &[PathBuf]) -> anyhow::Result<KeyStore> {
        let mut fixed = Vec::new();
        for path in pem_files {
            fixed.extend(pem_keys(path).with_context(|| format!("in {}", path.display()))?);
        }
        let named = match &jwks {
            Some(path) => read_jwks(path).with_context(|| format!("in {}", path.display()))?,
            None => Named::default(),
        };
        Ok(KeyStore { fixed, jwks, named: RwLock::new(named) })
    }

    pub fn is_empty(&self) -> bool {
        self.fixed.is_empty() && self.named.read().keys.is_empty()
    }

    pub fn check(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), TokenError> {
        match self.try_all(algorithm, id, message, signature) {
            Err(TokenError::UnknownKey | TokenError::Signature) if self.read_again() => {
                self.try_all(algorithm, id, message, signature)
            }
            checked => checked,
        }
    }

    fn try_all(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), TokenError> {
        let named = self.named.read();
        let may_be = |key: &&Key| key.id.is_none() || id.is_none() || key.id.as_deref() == id;
        let tried = named.keys.iter().chain(&self.fixed).filter(may_be);
        let mut error = TokenError::UnknownKey;
        for key in tried {
            match key.accepts(algorithm, message, signature) {
                Some(true) => return Ok(()),
                Some(false) => error = TokenError::Signature,
                None => {}
            }
        }
        Err(error)
    }

    /// Reads the JWKS file if it has changed. Returns whether it has.
    fn read_again(&self) -> bool {
        let Some(path) = &self.jwks else { return false };
        let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        if modified.is_none() || modified == self.named.read().modified {
            return false;
        }
        match read_jwks(path) {
            Ok(named) => {
                tracing::info!(path = %path.display(), keys = named.keys.len(), "the tokens' keys have changed");
                *self.named.write() = named;
                true
            }
            // It may be half written; the next token looks again.
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read the tokens' keys");
                false
            }
        }
    }
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

fn read_jwks(path: &Path) -> anyhow::Result<Named> {
    let modified = std::fs::metadata(path)?.modified().ok();
    let set: Jwks = serde_json::from_slice(&std::fs::read(path)?)?;
    let mut keys = Vec::new();
    for jwk in set.keys {
        // A set may hold keys for other things than signing.
        if jwk.usage.as_deref().is_none_or(|usage| usage == "sig") {
            keys.extend(jwk_key(jwk)?);
        }
    }
    Ok(Named { keys, modified })
}

/// None for a kind of key that is not used here: to be skipped (RFC 7517 section 5).
fn jwk_key(jwk: Jwk) -> anyhow::Result<Option<Key>> {
    let part = |part: Option<String>, name: &str| {
        let text = part.with_context(|| format!("a key has no {name}"))?;
        decoded(&text).with_context(|| format!("the {name} of a key is no base64url"))
    };
    let point = |x: Option<String>, y: Option<String>| anyhow::Ok([vec![4], part(x, "x")?, part(y, "y")?].concat());
    let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => Material::Rsa { n: part(jwk.n, "n")?, e: part(jwk.e, "e")? },
        ("EC", Some("P-256")) => Material::P256(point(jwk.x, jwk.y)?),
        ("EC", Some("P-384")) => Material::P384(point(jwk.x, jwk.y)?),
        _ => return Ok(None),
    };
    Ok(Some(Key { id: jwk.kid, material }))
}

fn pem_keys(path: &Path) -> anyhow::Result<Vec<Key>> {
    let mut keys = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_file_iter(path)? {
        let material = match section? {
            (SectionKind::PublicKey, der) => public_key(&SubjectPublicKeyInfo::from_der(&der)?.1)?,
            (SectionKind::Certificate, der) => public_key(X509Certificate::from_der(&der)?.1.public_key())?,
            _ => continue,
        };
        keys.push(Key { id: None, material });
    }
    anyhow::ensure!(!keys.is_empty(), "there is neither a PUBLIC KEY nor a CERTIFICATE");
    Ok(keys)
}

fn public_key(info: &SubjectPublicKeyInfo<'_>) -> anyhow::Result<Material> {
    const RSA: &str = "1.2.840.113549.1.1.1";
    const EC: &str = "1.2.840.10045.2.1";
    let key = info.subject_public_key.data.to_vec();
    match (info.algorithm.algorithm.to_id_string().as_str(), key.len()) {
        (RSA, _) => Ok(Material::RsaDer(key)),
        // Uncompressed points of these lengths.
        (EC, 65) => Ok(Material::P256(key)),
        (EC, 97) => Ok(Material::P384(key)),
        (algorithm, _) => bail!("a key of the algorithm {algorithm} is not for tokens"),
    }
}
