//! Logging in and asking, on a real core.

use std::time::Duration;

use core_log::LocalCore;
use core_rpc::{MetaCondition, MetaPut};
use gateway_runtime::scram::Hash;
use gateway_runtime::users::User;

use super::*;

struct Fixture {
    core: LocalCore,
    directory: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let core = LocalCore::open_directory(core_log::Config::default(), &data, Default::default()).unwrap();
        Fixture { core, directory }
    }

    fn file(&self, name: &str, text: &str) -> Option<PathBuf> {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    }

    async fn access(&self, config: AccessConfig) -> Access<LocalCore> {
        Access::start(self.core.clone(), config, CancellationToken::new()).await.unwrap()
    }

    async fn put_rules(&self, json: &str) {
        let value = json.to_owned().into();
        let put = MetaPut { key: RULES_KEY.into(), value, condition: MetaCondition::Always, session: None };
        self.core.meta_put(put).await.unwrap();
    }
}

fn plain() -> Origin {
    Origin { address: IpAddr::from([10, 0, 0, 1]), is_tls: false, subject: None }
}

fn tls(subject: Option<&str>) -> Origin {
    Origin { is_tls: true, subject: subject.map(Into::into), ..plain() }
}

async fn until(what: impl Fn() -> bool) {
    let looking = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking).await.expect("in time");
}

const BOB: &str = "bob:$6$wVBZfeeJ7OJzzG4W$blftQHSflwAg5qZwktNjG4/PFFS7dY9f/4Sg0jlbeNutencFKuxUox5NK7qM9yMPYhBhcgPK3rMGdllJQyAvhQ==\n";

#[tokio::test]
async fn passwords_are_asked_of_users_that_are_there() {
    let fixture = Fixture::new();
    let access = fixture.access(AccessConfig::default()).await;
    let ann = User::of_password("right").unwrap();
    access.users().change("ann", |user| *user = ann.clone()).await.unwrap();
    let local = User { loopback_only: true, ..ann.clone() };
    access.users().change("local", |user| *user = local.clone()).await.unwrap();

    let login = async |name, password: Option<&str>| {
        access.authenticate(name, password.map(str::as_bytes), &plain()).await.map(|user| user.map(|it| it.to_string()))
    };
    assert_eq!(login(Some("ann"), Some("right")).await, Ok(Some("ann".into())));
    assert_eq!(login(Some("ann"), Some("wrong")).await, Err(Denied::BadCredentials));
    assert_eq!(login(Some("ann"), None).await, Err(Denied::BadCredentials));
    assert_eq!(login(Some("local"), Some("right")).await, Err(Denied::BadCredentials));
    // Who sends no name, or one that is nobody's, is a stranger.
    assert_eq!(login(None, None).await, Ok(None));
    assert_eq!(login(Some("nobody"), Some("x")).await, Ok(None));
    assert_eq!(login(Some(&"n".repeat(60_000)), Some("x")).await, Ok(None));
}

#[tokio::test]
async fn strangers_may_be_kept_out() {
    let fixture = Fixture::new();
    let access = fixture.access(AccessConfig { allow_anonymous: false, ..AccessConfig::default() }).await;
    assert_eq!(access.authenticate(None, None, &plain()).await, Err(Denied::NotAuthorized));
    assert_eq!(access.authenticate(Some("nobody"), Some(b"x"), &plain()).await, Err(Denied::BadCredentials));
    assert_eq!(Denied::NotAuthorized.reason(), Reason::NotAuthorized);
}

#[tokio::test]
async fn mosquittos_users_log_in() {
    let fixture = Fixture::new();
    let password_file = fixture.file("passwords", BOB);
    let access = fixture.access(AccessConfig { password_file, ..AccessConfig::default() }).await;
    assert_eq!(access.authenticate(Some("bob"), Some(b"pa:ss w"), &plain()).await, Ok(Some("bob".into())));
    assert_eq!(access.authenticate(Some("bob"), Some(b"other"), &plain()).await, Err(Denied::BadCredentials));
    // With a password file, a name has to be somebody's.
    assert_eq!(access.authenticate(Some("nobody"), Some(b"x"), &plain()).await, Err(Denied::BadCredentials));

    let password_file = fixture.file("plain", "bob:secret\n");
    let config = AccessConfig { password_file, ..AccessConfig::default() };
    let error = Access::start(fixture.core.clone(), config, CancellationToken::new()).await.err().unwrap();
    assert!(format!("{error:#}").contains("line 1: user \"bob\""), "{error:#}");
}

#[tokio::test]
async fn a_certificate_is_an_identity() {
    let fixture = Fixture::new();
    let identity_from_certificate = CertificateIdentity::CommonName;
    let access = fixture.access(AccessConfig { identity_from_certificate, ..AccessConfig::default() }).await;
    let with = async |origin| access.authenticate(Some("ann"), Some(b"x"), &origin).await;
    assert_eq!(with(tls(Some("CN=device-1,O=x"))).await, Ok(Some("device-1".into())));
    assert_eq!(with(tls(Some("O=x"))).await, Err(Denied::NotAuthorized));
    assert_eq!(with(tls(None)).await, Err(Denied::NotAuthorized));
    assert_eq!(with(plain()).await, Ok(None));
    let local = User { loopback_only: true, ..User::of_password("x").unwrap() };
    access.users().change("device-1", |user| *user = local.clone()).await.unwrap();
    assert_eq!(with(tls(Some("CN=device-1"))).await, Err(Denied::NotAuthorized));
}

/// The client's side of SCRAM, by the arithmetic of RFC 5802.
fn proof(hash: Hash, password: &str, first_bare: &str, server_first: &str) -> Vec<u8> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let (algorithm, digest, pbkdf2) = match hash {
        Hash::Sha256 => (ring::hmac::HMAC_SHA256, &ring::digest::SHA256, ring::pbkdf2::PBKDF2_HMAC_SHA256),
        Hash::Sha512 => (ring::hmac::HMAC_SHA512, &ring::digest::SHA512, ring::pbkdf2::PBKDF2_HMAC_SHA512),
    };
    let field = |name: &str| server_first.split(',').find_map(|field| field.strip_prefix(name)).unwrap();
    let salt = STANDARD.decode(field("s=")).unwrap();
    let mut salted = vec![0; digest.output_len()];
    ring::pbkdf2::derive(pbkdf2, field("i=").parse().unwrap(), &salt, password.as_bytes(), &mut salted);
    let client_key = ring::hmac::sign(&ring::hmac::Key::new(algorithm, &salted), b"Client Key");
    let stored_key = ring::digest::digest(digest, client_key.as_ref());
    let last = format!("c=biws,r={}", field("r="));
    let covered = format!("{first_bare},{server_first},{last}");
    let signature = ring::hmac::sign(&ring::hmac::Key::new(algorithm, stored_key.as_ref()), covered.as_bytes());
    let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    format!("{last},p={}", STANDARD.encode(proof)).into_bytes()
}

async fn exchange(
    access: &Access<LocalCore>,
    mut enhanced: Enhanced,
    hash: Hash,
    name: &str,
    password: &str,
) -> Result<Step, Denied> {
    let bare = format!("n={name},r=abc");
    let first = format!("n,,{bare}");
    let Step::Continue(answer) = access.step(&mut enhanced, Some(first.as_bytes()), &plain()).await? else {
        panic!("one message is no proof");
    };
    let last = proof(hash, password, &bare, std::str::from_utf8(&answer).unwrap());
    let done = access.step(&mut enhanced, Some(&last), &plain()).await;
    // It cannot be gone on with.
    assert_eq!(access.step(&mut enhanced, Some(&last), &plain()).await, Err(Denied::NotAuthorized));
    done
}

#[tokio::test]
async fn scram_lets_in_whoever_knows_the_password() {
    let fixture = Fixture::new();
    let access = fixture.access(AccessConfig::default()).await;
    let ann = User::of_password("right").unwrap();
    access.users().change("ann", |user| *user = ann.clone()).await.unwrap();
    for (method, hash) in [("SCRAM-SHA-256", Hash::Sha256), ("SCRAM-SHA-512", Hash::Sha512)] {
        let begin = || Enhanced::begin(method).unwrap();
        assert_eq!(begin().method(), method);
        let done = exchange(&access, begin(), hash, "ann", "right").await.unwrap();
        assert!(matches!(done, Step::Done { user, data } if &*user == "ann" && data.starts_with(b"v=")));
        assert_eq!(exchange(&access, begin(), hash, "ann", "wrong").await, Err(Denied::NotAuthorized));
        assert_eq!(exchange(&access, begin(), hash, "nobody", "right").await, Err(Denied::NotAuthorized));

        // Again, on a living connection: as the same user only.
        let again = |user: Option<&str>| Enhanced::again(method, user.map(Into::into)).unwrap();
        assert!(exchange(&access, again(Some("ann")), hash, "ann", "right").await.is_ok());
        assert_eq!(exchange(&access, again(Some("bob")), hash, "ann", "right").await, Err(Denied::NotAuthorized));
        assert_eq!(exchange(&access, again(None), hash, "ann", "right").await, Err(Denied::NotAuthorized));
    }
    assert_eq!(Enhanced::begin("PLAIN").unwrap_err(), Denied::BadMethod);
}

#[tokio::test]
async fn scram_tells_nothing_of_who_is_there() {
    let fixture = Fixture::new();
    let access = fixture.access(AccessConfig::default()).await;
    let answer = async |name: &str| {
        let mut enhanced = Enhanced::begin("SCRAM-SHA-256").unwrap();
        // Who brings nothing is asked.
        assert_eq!(access.step(&mut enhanced, None, &plain()).await, Ok(Step::Continue(Vec::new())));
        let first = format!("n,,n={name},r=abc");
        let Ok(Step::Continue(answer)) = access.step(&mut enhanced, Some(first.as_bytes()), &plain()).await else {
            panic!("refused too early");
        };
        String::from_utf8(answer).unwrap().split(',').skip(1).collect::<Vec<_>>().join(",")
    };
    let first = answer("nobody").await;
    assert!(first.starts_with("s=") && first.ends_with("i=4096"), "{first}");
    assert_eq!(first, answer("nobody").await);
    assert_ne!(first, answer("nobody else").await);
    let mut enhanced = Enhanced::begin("SCRAM-SHA-256").unwrap();
    assert_eq!(access.step(&mut enhanced, Some(b"n,,what"), &plain()).await, Err(Denied::NotAuthorized));
    let mut enhanced = Enhanced::begin("SCRAM-SHA-256").unwrap();
    assert_eq!(access.step(&mut enhanced, Some(b"n,a=root,n=ann,r=a"), &plain()).await, Err(Denied::NotAuthorized));
}

#[tokio::test]
async fn rules_of_meta_are_followed() {
    let fixture = Fixture::new();
    let access = fixture.access(AccessConfig::default()).await;
    let who = Who::new("c1", None);
    assert!(access.permissions(&who).is_none() && access.may_publish(&who, "a"));

    fixture.put_rules(r#"{"rules":[{"permission":"allow","topic":"own/%c"}],"no_match":"deny"}"#).await;
    until(|| !access.may_publish(&who, "a")).await;
    assert!(access.may_publish(&who, "own/c1") && access.may_read(&who, "own/c1"));
    assert!(!access.may_subscribe(&who, "#") && access.may_subscribe(&who, "$share/g/own/c1"));
    assert!(access.may_subscribe(&who, "$exclusive/own/c1") && access.may_publish(&who, "$delayed/5/own/c1"));
    assert!(!access.may_publish(&who, "$delayed/5/a"));

    // Rules that cannot be read close everything.
    fixture.put_rules("{").await;
    until(|| !access.may_publish(&who, "own/c1")).await;
    // Another gateway reads the same when it starts.
    assert!(!fixture.access(AccessConfig::default()).await.may_publish(&who, "own/c1"));

    fixture.core.meta_delete(RULES_KEY.into(), MetaCondition::Always).await.unwrap();
    until(|| access.may_publish(&who, "a")).await;
}

#[tokio::test]
async fn an_acl_file_goes_before_rules_of_meta() {
    let fixture = Fixture::new();
    fixture.put_rules(r#"{"rules":[],"no_match":"allow"}"#).await;
    let acl_file = fixture.file("acl", "topic read public/#\nuser ann\ntopic house/#\npattern write own/%c\n");
    let access = fixture.access(AccessConfig { acl_file, ..AccessConfig::default() }).await;
    let (stranger, ann) = (Who::new("c", None), Who::new("d", Some("ann".into())));
    assert!(access.may_read(&stranger, "public/a") && !access.may_publish(&stranger, "public/a"));
    assert!(access.may_publish(&ann, "house/a") && !access.may_read(&ann, "public/a"));
    assert!(access.may_publish(&stranger, "own/c") && !access.may_publish(&stranger, "own/d"));
    assert!(access.may_subscribe(&stranger, "#"));

    let acl_file = fixture.file("wrong", "topic read a\ntopic a b\n");
    let config = AccessConfig { acl_file, ..AccessConfig::default() };
    let error = Access::start(fixture.core.clone(), config, CancellationToken::new()).await.err().unwrap();
    assert!(format!("{error:#}").contains("line 2"), "{error:#}");
}

#[tokio::test]
async fn the_brokers_own_names_are_nobodys() {
    let fixture = Fixture::new();
    let access = fixture.access(AccessConfig::default()).await;
    let who = Who::new("c1", None);
    for name in ["$SYS/broker/uptime", "$SYS", "$share/g/a", "$SYS/broker/connection/a/b/state"] {
        assert!(!access.may_publish(&who, name), "{name}");
    }
    for name in ["$SYS/broker/connection/bridge/state", "$delayed/1/a", "$exclusive", "a"] {
        assert!(access.may_publish(&who, name), "{name}");
    }
    assert!(access.may_subscribe(&who, "$SYS/#") && access.may_read(&who, "$SYS/broker/uptime"));
}
