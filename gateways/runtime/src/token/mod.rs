//! JSON Web Tokens (RFC 7519) as proofs of who a client is: their signature (RFC 7515), their claims, and the keys to check them
//! with.
//!
//! The keys come from a JWKS file (RFC 7517), which is read again when a token names a key that is not known and the file has
//! changed, and from PEM files. Signatures by RSA (PKCS #1 and PSS) and by ECDSA over P-256 and P-384, with `ring`. Tokens
//! without a signature are taken only where that is configured.

mod keys;

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use self::keys::{Algorithm, KeyStore};

/// What makes a token good.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// A JWKS file.
    pub jwks: Option<PathBuf>,
    /// Files of public keys or certificates, PEM.
    pub keys: Vec<PathBuf>,
    /// Whether tokens without a signature are taken: anybody can make one.
    pub allow_unsecured: bool,
    /// `iss` must be this. None: it may be anything.
    pub issuer: Option<String>,
    /// `aud` must name one of these. Empty: a token that names an audience is for somebody else.
    pub audiences: Vec<String>,
    /// How far the issuer's clock may be from ours.
    pub clock_skew: Duration,
    /// The claim that names the client.
    pub principal_claim: String,
}

impl Default for TokenConfig {
    fn default() -> Self {
        TokenConfig {
            jwks: None,
            keys: Vec::new(),
            allow_unsecured: false,
            issuer: None,
            audiences: Vec::new(),
            clock_skew: Duration::from_secs(30),
            principal_claim: "sub".into(),
        }
    }
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    pub principal: String,
    /// Milliseconds since the Unix epoch.
    pub expires_ms: i64,
}

/// Why a token is refused. For the log: a client is told less.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("it is no token in three parts of base64url")]
    Malformed,
    #[error("it has no signature")]
    Unsecured,
    #[error("its algorithm {0} is not known")]
    Algorithm(String),
    #[error("it asks for extensions that are not known")]
    Critical,
    #[error("no key is known that it could be signed with")]
    UnknownKey,
    #[error("its signature is wrong")]
    Signature,
    #[error("the claim {0} is missing or not what it must be")]
    Claim(String),
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYet,
    #[error("it is of another issuer")]
    Issuer,
    #[error("it is for another audience")]
    Audience,
}

/// Checks tokens.
#[derive(Debug)]
pub struct Tokens {
    config: TokenConfig,
    keys: KeyStore,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

impl Tokens {
    /// Reads the keys. An error if there are none, and tokens without a signature are not taken either.
    pub fn load(config: TokenConfig) -> anyhow::Result<Tokens> {
        let keys = KeyStore::load(config.jwks.clone(), &config.keys)?;
        anyhow::ensure!(config.allow_unsecured || !keys.is_empty(), "there is no key to check tokens with");
        Ok(Tokens { config, keys })
    }

    /// Who bears this token. May read the file of keys again.
    pub fn verify(&self, token: &str, now_ms: i64) -> Result<Bearer, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let header: Header = json(header)?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let signature = decoded(signature)?;
        if header.alg == "none" {
            if !self.config.allow_unsecured {
                return Err(TokenError::Unsecured);
            }
            if !signature.is_empty() {
                return Err(TokenError::Malformed);
            }
        } else {
            let algorithm = Algorithm::of(&header.alg).ok_or_else(|| TokenError::Algorithm(header.alg.clone()))?;
            self.keys.check(algorithm, header.kid.as_deref(), signed.as_bytes(), &signature)?;
        }
        self.check_claims(&json(claims)?, now_ms)
    }

    fn check_claims(&self, claims: &Map<String, Value>, now_ms: i64) -> Result<Bearer, TokenError> {
        let skew_ms = i64::try_from(self.config.clock_skew.as_millis()).unwrap_or(i64::MAX);
        let expires_ms = time_ms(claims, "exp")?.ok_or_else(|| TokenError::Claim("exp".into()))?;
        if expires_ms.saturating_add(skew_ms) <= now_ms {
            return Err(TokenError::Expired);
        }
        if time_ms(claims, "nbf")?.is_some_and(|from_ms| from_ms.saturating_sub(skew_ms) > now_ms) {
            return Err(TokenError::NotYet);
        }
        if self.config.issuer.is_some() && claims.get("iss").and_then(Value::as_str) != self.config.issuer.as_deref() {
            return Err(TokenError::Issuer);
        }
        if !self.is_audience(claims.get("aud")) {
            return Err(TokenError::Audience);
        }
        let name = &self.config.principal_claim;
        match claims.get(name).and_then(Value::as_str) {
            Some(principal) if !principal.trim().is_empty() => {
                Ok(Bearer { principal: principal.to_owned(), expires_ms })
            }
            _ => Err(TokenError::Claim(name.clone())),
        }
    }

    /// Whether the token is for us: `aud` is a name or a list of names (RFC 7519 section 4.1.3).
    fn is_audience(&self, audience: Option<&Value>) -> bool {
        let is_ours =
            |name: &Value| name.as_str().is_some_and(|name| self.config.audiences.iter().any(|our| our == name));
        match audience {
            None => self.config.audiences.is_empty(),
            Some(Value::Array(names)) => names.iter().any(is_ours),
            Some(name) => is_ours(name),
        }
    }
}

/// A claim that is a time: seconds since the Unix epoch, perhaps with a fraction.
fn time_ms(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, TokenError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    // From a float it saturates.
    let seconds = value.as_f64().ok_or_else(|| TokenError::Claim(name.into()))?;
    Ok(Some((seconds * 1000.0) as i64))
}

fn decoded(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

fn json<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, TokenError> {
    serde_json::from_slice(&decoded(part)?).map_err(|_| TokenError::Malformed)
}

#[cfg(test)]
mod tests;
