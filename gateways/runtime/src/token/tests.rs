//! Tokens signed by `openssl` with keys of these tests alone: good from 1000 s to 2000 s after 1970.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;

const MODULUS: &str = "5MF4LUaKPCH4rIzpO6iU4Gtkqwjf5ia4SUSjWsThLxp6ntTTOKtWkzMwuDDYk0Dzsulrw6WokmDMXN9Ti5T5PFQu2tocK1fxnFkf8thvtTLV9A51TyvTINxbA4xF6hB5vXiF57a_tm1B8cWL-GJS0CRe_AXzig9BDgmp7J9Ebyb_BXe4wU0s8VEHnxi3FiKIeP4urSEWYP_hN_ULBMNtd60jP8_JDzQcnqBkLsH8FAKqhmrIsqQXvW58tR2dfbjy3jX62B1NTWoFLRca0uu2QhFgSIf7_lZVkN58Ecbglyez_qmLpIap1RdfwkJjJ24oGbI1bAJ59-OEItAUBXykbw";
const X: &str = "HPANLqkxLZA1loYlQWpI33KA038CgLvRaxtXwb3o0I0";
const Y: &str = "rmD_773j6MUUQuXjYXQkY7LKobcJuaFOclsgUCx22Cc";
const RS256: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InIifQ.eyJpc3MiOiJodHRwczovL2lzc3VlciIsInN1YiI6ImFsaWNlIiwiYXVkIjpbImthZmthIl0sIm5iZiI6MTAwMCwiZXhwIjoyMDAwfQ.meO7T-Wklq-CZgtKVejPRDG4eLXO1OlfyrSue6RpZxdvjatDjU8Hlel_h4kQ1Y-JGVyNN135JiJ-Gc849yyRT1Bn66wVrfUxdhrzhkYyd6QrLqJ47aYdYDg1yDvaFc2h7m0feZJznKd4pKXeVQXo3ZoCmLxz8l0o2wbKhcAuUSo3SECcY3LbN70dfgvSyUnVpQRw_SqP4g3GkSzrNJElmtZJ7AfuxPczmIvDlnzab4A28eEixgHqJUYn0MFwDu89P9ZJ-LiT-8QdfWeiZCstD_DnCUUrTtD3uY3RUPwtMl0oizCBiWx2PIUY2ii42Hy4XZ0xkKllD-LrFN9BpESxag";
const ES256: &str = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImUifQ.eyJpc3MiOiJodHRwczovL2lzc3VlciIsInN1YiI6ImFsaWNlIiwiYXVkIjpbImthZmthIl0sIm5iZiI6MTAwMCwiZXhwIjoyMDAwfQ.UosMDhHmZHZFjzJI-utxaudx1l3fCgOQwVYqsj_a6fjVIEw4l5uzltr0ea9qnIpfkdVUAGXi9_wQKYXy6zTRdg";
const EC_PEM: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEHPANLqkxLZA1loYlQWpI33KA038C\ngLvRaxtXwb3o0I2uYP/vvePoxRRC5eNhdCRjssqhtwm5oU5yWyBQLHbYJw==\n-----END PUBLIC KEY-----\n";
const RSA_PEM: &str = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA5MF4LUaKPCH4rIzpO6iU\n4Gtkqwjf5ia4SUSjWsThLxp6ntTTOKtWkzMwuDDYk0Dzsulrw6WokmDMXN9Ti5T5\nPFQu2tocK1fxnFkf8thvtTLV9A51TyvTINxbA4xF6hB5vXiF57a/tm1B8cWL+GJS\n0CRe/AXzig9BDgmp7J9Ebyb/BXe4wU0s8VEHnxi3FiKIeP4urSEWYP/hN/ULBMNt\nd60jP8/JDzQcnqBkLsH8FAKqhmrIsqQXvW58tR2dfbjy3jX62B1NTWoFLRca0uu2\nQhFgSIf7/lZVkN58Ecbglyez/qmLpIap1RdfwkJjJ24oGbI1bAJ59+OEItAUBXyk\nbwIDAQAB\n-----END PUBLIC KEY-----\n";

const NOW_MS: i64 = 1_500_000;

fn rsa_jwk(id: &str) -> String {
    format!(r#"{{"kty":"RSA","kid":"{id}","use":"sig","alg":"RS256","n":"{MODULUS}","e":"AQAB"}}"#)
}

fn ec_jwk(id: &str) -> String {
    format!(r#"{{"kty":"EC","kid":"{id}","crv":"P-256","x":"{X}","y":"{Y}"}}"#)
}

fn jwks(keys: &[String]) -> String {
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

fn strict() -> TokenConfig {
    TokenConfig { issuer: Some("https://issuer".into()), audiences: vec!["kafka".into()], ..TokenConfig::default() }
}

fn folder() -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("polymq-tokens-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn with_jwks(config: TokenConfig, keys: &[String]) -> (Tokens, PathBuf) {
    let path = folder().join("jwks.json");
    fs::write(&path, jwks(keys)).unwrap();
    (Tokens::load(TokenConfig { jwks: Some(path.clone()), ..config }).unwrap(), path)
}

fn unsecured(claims: &str) -> String {
    format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims))
}

#[test]
fn signed_tokens_are_checked_with_keys_of_a_set() {
    let others = r#"{"kty":"oct","k":"AAAA"}"#.to_owned();
    let (tokens, _) = with_jwks(strict(), &[others, rsa_jwk("r"), ec_jwk("e")]);
    let alice = Bearer { principal: "alice".into(), expires_ms: 2_000_000 };
    assert_eq!(tokens.verify(RS256, NOW_MS), Ok(alice.clone()));
    assert_eq!(tokens.verify(ES256, NOW_MS), Ok(alice));
    // One bit of what is signed, and of the signature.
    let claims = RS256.find('.').unwrap() + 3;
    for at in [claims, RS256.len() - 6] {
        let flipped = if RS256.as_bytes()[at] == b'A' { "B" } else { "A" };
        let mut token = RS256.to_owned();
        token.replace_range(at..at + 1, flipped);
        assert_eq!(tokens.verify(&token, NOW_MS), Err(TokenError::Signature));
    }
    let (tokens, _) = with_jwks(strict(), &[ec_jwk("e")]);
    assert_eq!(tokens.verify(RS256, NOW_MS), Err(TokenError::UnknownKey));
}

#[test]
fn signed_tokens_are_checked_with_pem_keys() {
    let folder = folder();
    let files: Vec<PathBuf> = [("ec", EC_PEM), ("rsa", RSA_PEM)]
        .into_iter()
        .map(|(name, text)| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            path
        })
        .collect();
    let tokens = Tokens::load(TokenConfig { keys: files.clone(), ..strict() }).unwrap();
    assert!(tokens.verify(RS256, NOW_MS).is_ok() && tokens.verify(ES256, NOW_MS).is_ok());
    let tokens = Tokens::load(TokenConfig { keys: files[..1].to_vec(), ..strict() }).unwrap();
    assert_eq!(tokens.verify(RS256, NOW_MS), Err(TokenError::UnknownKey));
    assert!(Tokens::load(strict()).is_err(), "there is no key");
    fs::write(&files[0], "nothing").unwrap();
    assert!(Tokens::load(TokenConfig { keys: files, ..strict() }).is_err());
}

#[test]
fn a_key_that_comes_later_is_found() {
    let (tokens, path) = with_jwks(strict(), &[rsa_jwk("other")]);
    assert_eq!(tokens.verify(RS256, NOW_MS), Err(TokenError::UnknownKey));
    fs::write(&path, "half").unwrap();
    let earlier = std::time::SystemTime::UNIX_EPOCH;
    fs::File::options().append(true).open(&path).unwrap().set_modified(earlier).unwrap();
    assert_eq!(tokens.verify(RS256, NOW_MS), Err(TokenError::UnknownKey));
    fs::write(&path, jwks(&[rsa_jwk("r")])).unwrap();
    fs::File::options().append(true).open(&path).unwrap().set_modified(earlier).unwrap();
    assert!(tokens.verify(RS256, NOW_MS).is_ok());
}

#[test]
fn claims_are_checked() {
    let load = |config| with_jwks(config, &[rsa_jwk("r")]).0;
    let tokens = load(strict());
    for (now_s, expected) in
        [(969, Some(TokenError::NotYet)), (970, None), (2029, None), (2030, Some(TokenError::Expired))]
    {
        assert_eq!(tokens.verify(RS256, now_s * 1000).err(), expected, "{now_s}");
    }
    let check = |config: TokenConfig| load(config).verify(RS256, NOW_MS).err();
    assert_eq!(check(TokenConfig { issuer: Some("x".into()), ..strict() }), Some(TokenError::Issuer));
    assert_eq!(check(TokenConfig { audiences: vec!["x".into()], ..strict() }), Some(TokenError::Audience));
    assert_eq!(check(TokenConfig { audiences: vec!["x".into(), "kafka".into()], ..strict() }), None);
    assert_eq!(check(TokenConfig::default()), Some(TokenError::Audience), "it is for somebody");
    assert_eq!(check(TokenConfig { principal_claim: "iss".into(), ..strict() }), None);
    assert_eq!(check(TokenConfig { principal_claim: "aud".into(), ..strict() }), Some(TokenError::Claim("aud".into())));
}

#[test]
fn unsecured_tokens_only_where_that_is_configured() {
    let good = unsecured(r#"{"sub":"bob","exp":1600.5}"#);
    let (tokens, _) = with_jwks(TokenConfig::default(), &[rsa_jwk("r")]);
    assert_eq!(tokens.verify(&good, NOW_MS), Err(TokenError::Unsecured));
    let open = Tokens::load(TokenConfig { allow_unsecured: true, ..TokenConfig::default() }).unwrap();
    assert_eq!(open.verify(&good, NOW_MS), Ok(Bearer { principal: "bob".into(), expires_ms: 1_600_500 }));
    assert_eq!(open.verify(&format!("{good}AAAA"), NOW_MS), Err(TokenError::Malformed));
    assert_eq!(open.verify(RS256, NOW_MS), Err(TokenError::UnknownKey));
    for claims in [r#"{"sub":"bob"}"#, r#"{"exp":1600}"#, r#"{"sub":" ","exp":1600}"#, r#"{"sub":"b","exp":"1600"}"#] {
        assert!(matches!(open.verify(&unsecured(claims), NOW_MS), Err(TokenError::Claim(_))), "{claims}");
    }
    for bad in ["", ".", "..", "a.b", "a.b.c", &good[1..], "e30.e30.", &format!("{good}.")] {
        assert_eq!(open.verify(bad, NOW_MS), Err(TokenError::Malformed), "{bad}");
    }
    let critical = format!("{}.e30.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none","crit":["x"]}"#));
    assert_eq!(open.verify(&critical, NOW_MS), Err(TokenError::Critical));
    let hmac = format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#));
    assert_eq!(open.verify(&hmac, NOW_MS), Err(TokenError::Algorithm("HS256".into())));
}
