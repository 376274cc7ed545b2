//! SaslAuthenticate (36), versions 0 to 2: one message of a SASL exchange and its answer.
//!
//! - Where `connections.max.reauth.ms` is set, clients are told how long they are who they are, and are disconnected if they do
//!   not authenticate again (KIP-368). Else the lifetime is 0, which means for ever: a token's end does not end its session.
//! - A refused token is answered without an error but with the reason as JSON (RFC 7628 section 3.2.2); the client's answer to that gets
//!   the error.

use std::time::Duration;

use bytes::Bytes;
use codec_kafka::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use core_rpc::Core;
use gateway_runtime::identity::random_16_bytes;

use super::Context;
use crate::errors::{ErrorCode, Refusal};
use crate::state::security::{OtherUser, Peer};
use crate::state::security::sasl::{Mechanism, Question, Sasl, bearer, begin_scram, plain, scram_first};
use crate::{Gateway, now_ms};

/// How long a failed client waits for its answer: Kafka's default of `connection.failed.authentication.delay.ms`.
const FAILURE_DELAY: Duration = Duration::from_millis(100);

/// What a client hears of a token that is refused; more is in the log.
const INVALID_TOKEN: &str = r#"{"status":"invalid_token"}"#;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: SaslAuthenticateRequest,
) -> SaslAuthenticateResponse {
    match authenticate(gateway, context, &request.auth_bytes).await {
        Ok(Step { answer, lifetime }) => {
            let lifetime_ms = lifetime.map_or(0, |lifetime| i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX));
            SaslAuthenticateResponse {
                auth_bytes: answer.into(),
                session_lifetime_ms: lifetime_ms,
                ..Default::default()
            }
        }
        Err(refusal) => {
            tracing::info!(peer = %context.peer.address, reason = refusal.message, "a client is not authenticated");
            // A client that tries again at once, or somebody who guesses, is slowed down. Kafka does the same.
            tokio::time::sleep(FAILURE_DELAY).await;
            SaslAuthenticateResponse {
                error_code: refusal.code.code(),
                error_message: Some(refusal.message),
                auth_bytes: Bytes::new(),
                ..Default::default()
            }
        }
    }
}

/// A step that went well.
#[derive(Default)]
struct Step {
    answer: Vec<u8>,
    /// With the last step, how long the authentication holds.
    lifetime: Option<Duration>,
}

/// Takes a step. The connection is left in the state `Failed` by every error.
async fn authenticate<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    message: &[u8],
) -> Result<Step, Refusal> {
    let peer = &context.peer;
    match peer.take_sasl() {
        Some(Sasl::Chosen(Mechanism::Plain)) => {
            let Ok(Question::Password { user, password }) = plain(message) else {
                return Err(failed("Authentication failed: Invalid SASL/PLAIN message"));
            };
            check_password(gateway, peer, &user, password).await?;
            finish(gateway, context, &user, Mechanism::Plain, Vec::new(), None)
        }
        Some(Sasl::Chosen(Mechanism::OauthBearer)) => authenticate_bearer(gateway, context, message),
        Some(Sasl::TokenRefused) => Err(failed(INVALID_TOKEN)),
        Some(Sasl::Chosen(mechanism @ Mechanism::Scram(hash))) => {
            let Ok(Question::Verifier { first, .. }) = scram_first(hash, message) else { return Err(invalid(mechanism)) };
            let name = first.user.clone();
            let user = gateway.security.users.get(&name).await.map_err(|error| Refusal::from(ErrorCode::from(&error)))?;
            let user = user.filter(|user| user.may_come_from(peer.address.ip()));
            let nonce = nonce().map_err(|_| Refusal::from(ErrorCode::UnknownServerError))?;
            let (exchange, answer) =
                begin_scram(hash, first, user.as_ref(), &nonce).ok_or_else(|| invalid(mechanism))?;
            peer.set_sasl(Sasl::Exchanging(mechanism, name, exchange));
            Ok(Step { answer, lifetime: None })
        }
        Some(Sasl::Exchanging(mechanism, user, exchange)) => {
            let answer = exchange.finish(message).map_err(|_| invalid(mechanism))?;
            finish(gateway, context, &user, mechanism, answer, None)
        }
        None | Some(Sasl::Done) => Err(Refusal::new(
            ErrorCode::IllegalSaslState,
            "SaslAuthenticate request received after successful authentication",
        )),
        Some(Sasl::Fresh | Sasl::Failed) => Err(ErrorCode::IllegalSaslState.into()),
    }
}

/// The client is this user, for as long as its credentials hold (None: for ever).
fn finish<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    user: &str,
    mechanism: Mechanism,
    answer: Vec<u8>,
    credentials_hold: Option<Duration>,
) -> Result<Step, Refusal> {
    let lifetime = gateway.security.config.reauthentication_max;
    let lifetime = lifetime.map(|lifetime| credentials_hold.map_or(lifetime, |holds| holds.min(lifetime)));
    match context.peer.authenticated(user, mechanism, lifetime) {
        Ok(()) => Ok(Step { answer, lifetime }),
        Err(OtherUser) => Err(failed("Cannot change principals during re-authentication")),
    }
}

fn authenticate_bearer<C: Core>(gateway: &Gateway<C>, context: &Context, message: &[u8]) -> Result<Step, Refusal> {
    let (Ok(Question::Bearer { token, authorization }), Some(tokens)) = (bearer(message), &gateway.security.tokens) else {
        return Err(failed("Authentication failed: Invalid OAUTHBEARER client first message"));
    };
    let now_ms = now_ms();
    match tokens.verify(&token, now_ms) {
        Ok(bearer) if !authorization.is_empty() && authorization != bearer.principal => Err(failed(&format!(
            "Authentication failed: Client requested an authorization id ({authorization}) that is different from the token's \
             principal name ({})",
            bearer.principal
        ))),
        Ok(bearer) => {
            // Within the skew it may have expired by our clock.
            let holds = Duration::from_millis(u64::try_from(bearer.expires_ms - now_ms).unwrap_or_default().max(1));
            finish(gateway, context, &bearer.principal, Mechanism::OauthBearer, Vec::new(), Some(holds))
        }
        Err(error) => {
            tracing::info!(peer = %context.peer.address, %error, "a token is refused");
            context.peer.set_sasl(Sasl::TokenRefused);
            Ok(Step { answer: INVALID_TOKEN.into(), lifetime: None })
        }
    }
}

async fn check_password<C: Core>(
    gateway: &Gateway<C>,
    peer: &Peer,
    name: &str,
    password: String,
) -> Result<(), Refusal> {
    let wrong = || failed("Authentication failed: Invalid username or password");
    let user = gateway.security.users.get(name).await.map_err(|error| Refusal::from(ErrorCode::from(&error)))?;
    let user = user.filter(|user| user.may_come_from(peer.address.ip())).ok_or_else(wrong)?;
    // Thousands of rounds of hashing: other connections must not wait for them.
    match tokio::task::spawn_blocking(move || user.accepts(&password)).await {
        Ok(true) => Ok(()),
        _ => Err(wrong()),
    }
}

fn nonce() -> std::io::Result<String> {
    Ok(random_16_bytes()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn failed(message: &str) -> Refusal {
    Refusal::new(ErrorCode::SaslAuthenticationFailed, message)
}

fn invalid(mechanism: Mechanism) -> Refusal {
    let name = mechanism.name();
    failed(&format!(
        "Authentication failed during authentication due to invalid credentials with SASL mechanism {name}"
    ))
}

