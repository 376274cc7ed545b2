//! SaslAuthenticate (36), versions 0 to 2: one message of a SASL exchange and its answer.
//!
//! - A session that is authenticated stays so: its lifetime is 0, which means for ever, and clients do not authenticate again
//!   (KIP-368).

use std::time::Duration;

use bytes::Bytes;
use codec_kafka::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use core_rpc::Core;
use gateway_runtime::identity::random_16_bytes;

use super::Context;
use crate::Gateway;
use crate::errors::{ErrorCode, Refusal};
use crate::state::security::sasl::{Mechanism, Question, Sasl, begin_scram, plain, scram_first};

/// How long a failed client waits for its answer: Kafka's default of `connection.failed.authentication.delay.ms`.
const FAILURE_DELAY: Duration = Duration::from_millis(100);

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: SaslAuthenticateRequest,
) -> SaslAuthenticateResponse {
    match authenticate(gateway, context, &request.auth_bytes).await {
        Ok(answer) => SaslAuthenticateResponse { auth_bytes: answer.into(), ..Default::default() },
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

/// Takes a step. The connection is left in the state `Failed` by every error.
async fn authenticate<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    message: &[u8],
) -> Result<Vec<u8>, Refusal> {
    let peer = &context.peer;
    match peer.take_sasl() {
        Some(Sasl::Chosen(Mechanism::Plain)) => {
            let Ok(Question::Password { user, password }) = plain(message) else {
                return Err(failed("Authentication failed: Invalid SASL/PLAIN message"));
            };
            check_password(gateway, &user, password).await?;
            peer.authenticated(&user);
            Ok(Vec::new())
        }
        Some(Sasl::Chosen(mechanism @ Mechanism::Scram(hash))) => {
            let Ok(Question::Verifier { first, .. }) = scram_first(hash, message) else { return Err(invalid(mechanism)) };
            let name = first.user.clone();
            let user = gateway.security.users.get(&name).await.map_err(|error| Refusal::from(ErrorCode::from(&error)))?;
            let nonce = nonce().map_err(|_| Refusal::from(ErrorCode::UnknownServerError))?;
            let (exchange, answer) =
                begin_scram(hash, first, user.as_ref(), &nonce).ok_or_else(|| invalid(mechanism))?;
            peer.set_sasl(Sasl::Exchanging(mechanism, name, exchange));
            Ok(answer)
        }
        Some(Sasl::Exchanging(mechanism, user, exchange)) => {
            let answer = exchange.finish(message).map_err(|_| invalid(mechanism))?;
            peer.authenticated(&user);
            Ok(answer)
        }
        None | Some(Sasl::Done) => Err(Refusal::new(
            ErrorCode::IllegalSaslState,
            "SaslAuthenticate request received after successful authentication",
        )),
        Some(Sasl::Fresh | Sasl::Failed) => Err(ErrorCode::IllegalSaslState.into()),
    }
}

async fn check_password<C: Core>(gateway: &Gateway<C>, name: &str, password: String) -> Result<(), Refusal> {
    let wrong = || failed("Authentication failed: Invalid username or password");
    let user = gateway.security.users.get(name).await.map_err(|error| Refusal::from(ErrorCode::from(&error)))?;
    let user = user.ok_or_else(wrong)?;
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

