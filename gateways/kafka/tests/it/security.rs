//! Who is let in, and what they may do.

use crate::support::client::Client;
use crate::support::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use codec_kafka::messages::alter_user_scram_credentials::{AlterUserScramCredentialsRequest, ScramCredentialUpsertion};
use codec_kafka::messages::create_acls::{AclCreation, CreateAclsRequest};
use codec_kafka::messages::delete_acls::{DeleteAclsFilter, DeleteAclsRequest};
use codec_kafka::messages::describe_acls::DescribeAclsRequest;
use codec_kafka::messages::{
    ApiVersionsRequest, DescribeUserScramCredentialsRequest, MetadataRequest, SaslAuthenticateRequest,
    SaslAuthenticateResponse, SaslHandshakeRequest,
};
use gateway_runtime::token::TokenConfig;
use kafka_gateway::Config;
use kafka_gateway::state::security::{Mechanism, SecurityConfig};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

const TOPIC: i8 = 2;
const READ: i8 = 3;
const WRITE: i8 = 4;
const ALLOW: i8 = 3;

fn secured() -> Config {
    Config {
        security: SecurityConfig {
            sasl_mechanisms: vec![Mechanism::Plain],
            users: vec![("admin".into(), "a".into()), ("bob".into(), "b".into())],
            authorizer: true,
            super_users: vec!["User:admin".into()],
            ..SecurityConfig::default()
        },
        ..Config::default()
    }
}

async fn handshake(client: &mut Client, mechanism: &str) -> i16 {
    client.ask(1, &SaslHandshakeRequest { mechanism: mechanism.into() }).await.error_code
}

/// Authenticates by PLAIN; the error code.
async fn authenticate(client: &mut Client, user: &str, password: &str) -> i16 {
    assert_eq!(handshake(client, "PLAIN").await, 0);
    let auth_bytes = format!("\0{user}\0{password}").into_bytes().into();
    client.ask(2, &SaslAuthenticateRequest { auth_bytes }).await.error_code
}

async fn signed_in(address: std::net::SocketAddr, user: &str, password: &str) -> Client {
    let mut client = Client::connect(address).await;
    assert_eq!(authenticate(&mut client, user, password).await, 0);
    client
}

fn rule(principal: &str, name: &str, operation: i8) -> AclCreation {
    AclCreation {
        resource_type: TOPIC,
        resource_name: name.into(),
        resource_pattern_type: 3,
        principal: principal.into(),
        host: "*".into(),
        operation,
        permission_type: ALLOW,
    }
}

#[tokio::test]
async fn who_has_not_said_who_it_is_is_not_served() {
    let (gateway, mut client) = gateway_with(secured()).await;
    let versions = ApiVersionsRequest { client_software_name: "t".into(), client_software_version: "1".into() };
    assert_eq!(client.ask(3, &versions).await.error_code, 0);
    client.send(12, &MetadataRequest::default()).await;
    assert_eq!(client.next_frame().await, None);
    gateway.stop().await;
}

fn with_tokens(reauthentication_max: Option<Duration>) -> Config {
    let security = SecurityConfig {
        sasl_mechanisms: vec![Mechanism::Plain, Mechanism::OauthBearer],
        tokens: TokenConfig { allow_unsecured: true, ..TokenConfig::default() },
        reauthentication_max,
        ..secured().security
    };
    Config { security, ..secured() }
}

/// A token without a signature that is good for so many seconds.
fn token(user: &str, seconds: i64) -> String {
    let claims = format!(r#"{{"sub":"{user}","exp":{}}}"#, now_ms() / 1000 + seconds);
    format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims))
}

async fn bear(client: &mut Client, message: String) -> SaslAuthenticateResponse {
    assert_eq!(handshake(client, "OAUTHBEARER").await, 0);
    client.ask(2, &SaslAuthenticateRequest { auth_bytes: message.into_bytes().into() }).await
}

#[tokio::test]
async fn a_bearer_of_a_token_is_let_in() {
    let (gateway, mut client) = gateway_with(with_tokens(None)).await;
    let answer = bear(&mut client, format!("n,,\x01auth=Bearer {}\x01\x01", token("admin", 60))).await;
    assert_eq!((answer.error_code, &answer.auth_bytes[..], answer.session_lifetime_ms), (0, &b""[..], 0));
    assert!(client.ask(12, &MetadataRequest::default()).await.cluster_id.is_some());
    // Without a lifetime nobody authenticates again.
    assert_eq!(handshake(&mut client, "OAUTHBEARER").await, 34);
    create(&mut client, "admin-may", 1, &[]).await;

    // A refused token gets its reason, and the error with the client's answer.
    for refused in [token("admin", -60), "x".into()] {
        let mut client = Client::connect(gateway.address()).await;
        let answer = bear(&mut client, format!("n,,\x01auth=Bearer {refused}\x01\x01")).await;
        assert_eq!((answer.error_code, &answer.auth_bytes[..]), (0, &br#"{"status":"invalid_token"}"#[..]));
        let answer = client.ask(2, &SaslAuthenticateRequest { auth_bytes: vec![1].into() }).await;
        assert_eq!(answer.error_code, 58);
        assert_eq!(answer.error_message.as_deref(), Some(r#"{"status":"invalid_token"}"#));
        client.send(12, &MetadataRequest::default()).await;
        assert_eq!(client.next_frame().await, None);
    }
    for wrong in [format!("n,a=bob,\x01auth=Bearer {}\x01\x01", token("admin", 60)), "n,,".into()] {
        let mut client = Client::connect(gateway.address()).await;
        assert_eq!(bear(&mut client, wrong).await.error_code, 58);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn who_must_authenticate_again_is_told_and_held_to_it() {
    let (gateway, mut client) = gateway_with(with_tokens(Some(Duration::from_millis(400)))).await;
    let message = |user: &str| format!("n,,\x01auth=Bearer {}\x01\x01", token(user, 60));
    for _ in 0..2 {
        assert_eq!(bear(&mut client, message("admin")).await.session_lifetime_ms, 400);
        assert!(client.ask(12, &MetadataRequest::default()).await.cluster_id.is_some());
    }
    assert_eq!(handshake(&mut client, "PLAIN").await, 34, "only by the same mechanism");
    let mut other = Client::connect(gateway.address()).await;
    assert_eq!(authenticate(&mut other, "bob", "b").await, 0);
    assert_eq!(authenticate(&mut other, "admin", "a").await, 58, "only as the same user");
    other.send(12, &MetadataRequest::default()).await;
    assert_eq!(other.next_frame().await, None);
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    // Whoever does not is disconnected.
    loop {
        client.send(12, &MetadataRequest::default()).await;
        if client.next_frame().await.is_none() {
            break;
        }
        assert!(tokio::time::Instant::now() < end, "it was never disconnected");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_wrong_password_or_mechanism_is_refused() {
    let (gateway, mut client) = gateway_with(secured()).await;
    assert_eq!(handshake(&mut client, "SCRAM-SHA-256").await, 33);
    let mut client = Client::connect(gateway.address()).await;
    assert_eq!(authenticate(&mut client, "bob", "a").await, 58);
    // The connection is of no more use.
    client.send(12, &MetadataRequest::default()).await;
    assert_eq!(client.next_frame().await, None);
    let mut client = Client::connect(gateway.address()).await;
    assert_eq!(authenticate(&mut client, "nobody", "b").await, 58);
    gateway.stop().await;
}

#[tokio::test]
async fn who_has_not_said_who_it_is_may_not_send_much() {
    let (gateway, mut client) = gateway_with(secured()).await;
    // The length alone, of a frame that anybody else may send.
    client.stream.write_all(&(600_u32 << 10).to_be_bytes()).await.unwrap();
    assert_eq!(client.next_frame().await, None);
    gateway.stop().await;
}

#[tokio::test]
async fn without_sasl_there_is_nothing_to_authenticate() {
    let (gateway, mut client) = gateway().await;
    assert_eq!(handshake(&mut client, "PLAIN").await, 34);
    assert_eq!(client.ask(2, &SaslAuthenticateRequest::default()).await.error_code, 34);
    assert_eq!(client.ask(2, &DescribeAclsRequest::default()).await.error_code, 54);
    gateway.stop().await;
}

#[tokio::test]
async fn rules_are_applied_and_taken_back() {
    let (gateway, _) = gateway_with(secured()).await;
    let mut admin = signed_in(gateway.address(), "admin", "a").await;
    let mut bob = signed_in(gateway.address(), "bob", "b").await;
    create(&mut admin, "t", 1, &[]).await;
    assert_eq!(produce(&mut bob, "t", batch(&["x"])).await.error_code, 29);
    assert_eq!(fetch(&mut bob, "t", 0).await.error_code, 29);
    // A topic that is not there cannot be told from one that may not be seen.
    assert_eq!(produce(&mut bob, "u", batch(&["x"])).await.error_code, 29);
    let mine = bob.ask(2, &CreateAclsRequest { creations: vec![rule("User:bob", "t", WRITE)] }).await;
    assert_eq!(mine.results[0].error_code, 31);

    let creations = vec![rule("User:bob", "t", WRITE), rule("bob", "t", READ)];
    let made = admin.ask(2, &CreateAclsRequest { creations }).await;
    assert_eq!((made.results[0].error_code, made.results[1].error_code), (0, 42));
    assert_eq!(produce(&mut bob, "t", batch(&["x"])).await.error_code, 0);
    assert_eq!(fetch(&mut bob, "t", 0).await.error_code, 29);

    let filter = DeleteAclsFilter {
        resource_type_filter: 1,
        pattern_type_filter: 1,
        operation: 1,
        permission_type: 1,
        ..Default::default()
    };
    let deleted = admin.ask(2, &DeleteAclsRequest { filters: vec![filter] }).await;
    assert_eq!(deleted.filter_results[0].matching_acls.len(), 1);
    assert_eq!(produce(&mut bob, "t", batch(&["x"])).await.error_code, 29);
    gateway.stop().await;
}

#[tokio::test]
async fn credentials_are_set_and_told_without_secrets() {
    let (gateway, _) = gateway_with(secured()).await;
    let mut admin = signed_in(gateway.address(), "admin", "a").await;
    let set = |name: &str, iterations| ScramCredentialUpsertion {
        name: name.into(),
        mechanism: 1,
        iterations,
        salt: vec![1; 16].into(),
        salted_password: vec![2; 32].into(),
    };
    let upsertions = vec![set("carol", 4096), set("dave", 100), set("bob", 4096)];
    let altered = admin.ask(0, &AlterUserScramCredentialsRequest { deletions: vec![], upsertions }).await;
    let codes: Vec<_> = altered.results.iter().map(|result| (result.user.as_str(), result.error_code)).collect();
    assert_eq!(codes, [("bob", 93), ("carol", 0), ("dave", 93)]);
    let told = admin.ask(0, &DescribeUserScramCredentialsRequest::default()).await;
    let carol = told.results.iter().find(|result| result.user == "carol").unwrap();
    assert_eq!((carol.credential_infos[0].mechanism, carol.credential_infos[0].iterations), (1, 4096));
    let mut bob = signed_in(gateway.address(), "bob", "b").await;
    assert_eq!(bob.ask(0, &DescribeUserScramCredentialsRequest::default()).await.error_code, 31);
    gateway.stop().await;
}

/// Requests that everybody may make.
const OPEN: [&str; 4] = ["api_versions", "describe_cluster", "sasl_handshake", "sasl_authenticate"];

#[test]
fn every_handler_asks_whether_the_client_may() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/handlers");
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if name == "mod" || OPEN.contains(&name.as_str()) || path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let asks = ["gateway.check(", "gateway.acls_for(", "topic_for(", "by_id_for(", "security.allows", "may_alter("];
        assert!(asks.iter().any(|asked| text.contains(asked)), "{name} does not ask");
    }
}
