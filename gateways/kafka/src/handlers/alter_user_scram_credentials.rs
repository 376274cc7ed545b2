//! AlterUserScramCredentials (51), version 0: sets and removes SCRAM credentials (KIP-554).
//!
//! - A user's password for PLAIN is the same: it is checked against the SCRAM credentials.
//! - Users given on the gateway's command line cannot be changed: UNACCEPTABLE_CREDENTIAL.

use std::collections::BTreeMap;

use codec_kafka::messages::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, AlterUserScramCredentialsResult,
    ScramCredentialUpsertion,
};
use core_rpc::Core;
use gateway_runtime::scram::{Hash, Verifier};

use super::Context;
use crate::Gateway;
use crate::errors::{ErrorCode, Refusal};
use crate::state::security::{Operation, Resource};
use crate::translate::scram::hash_of;

/// As many as Kafka allows.
const ITERATIONS: std::ops::RangeInclusive<i32> = 4096..=16384;

/// What is asked for one user's one credential: a verifier, or None to remove it.
type Change = (Hash, Option<Verifier>);

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: AlterUserScramCredentialsRequest,
) -> AlterUserScramCredentialsResponse {
    let allowed = gateway.security.allows(&context.peer, Operation::Alter, Resource::Cluster);
    let mut users: BTreeMap<String, Vec<Result<Change, Refusal>>> = BTreeMap::new();
    for deletion in request.deletions {
        let change = known_mechanism(deletion.mechanism).map(|hash| (hash, None));
        users.entry(deletion.name).or_default().push(change);
    }
    for upsertion in request.upsertions {
        let name = upsertion.name.clone();
        users.entry(name).or_default().push(verifier(upsertion));
    }
    let mut response = AlterUserScramCredentialsResponse::default();
    for (user, changes) in users {
        let altered = match allowed {
            true => alter(gateway, &user, changes).await,
            false => Err(ErrorCode::ClusterAuthorizationFailed.into()),
        };
        let (error_code, error_message) =
            altered.map_or_else(|refusal| (refusal.code.code(), Some(refusal.message)), |()| (0, None));
        response.results.push(AlterUserScramCredentialsResult { user, error_code, error_message });
    }
    response
}

fn known_mechanism(code: i8) -> Result<Hash, Refusal> {
    hash_of(code).ok_or_else(|| Refusal::new(ErrorCode::UnsupportedSaslMechanism, "Unknown SCRAM mechanism"))
}

fn verifier(upsertion: ScramCredentialUpsertion) -> Result<Change, Refusal> {
    let unacceptable = |message| Err(Refusal::new(ErrorCode::UnacceptableCredential, message));
    let hash = known_mechanism(upsertion.mechanism)?;
    if upsertion.iterations < *ITERATIONS.start() {
        return unacceptable("Too few iterations");
    }
    if upsertion.iterations > *ITERATIONS.end() {
        return unacceptable("Too many iterations");
    }
    if upsertion.salt.is_empty() || upsertion.salted_password.is_empty() {
        return unacceptable("The salt and the salted password must not be empty");
    }
    let salt = upsertion.salt.to_vec();
    let verifier = Verifier::of_salted(hash, &upsertion.salted_password, salt, upsertion.iterations as u32);
    Ok((hash, Some(verifier)))
}

async fn alter<C: Core>(
    gateway: &Gateway<C>,
    name: &str,
    changes: Vec<Result<Change, Refusal>>,
) -> Result<(), Refusal> {
    let users = &gateway.security.users;
    let unacceptable = |message| Err(Refusal::new(ErrorCode::UnacceptableCredential, message));
    if name.is_empty() {
        return unacceptable("Username must not be empty");
    }
    if users.is_given(name) {
        return unacceptable("The user is given on the gateway's command line");
    }
    let changes = changes.into_iter().collect::<Result<Vec<Change>, Refusal>>()?;
    if changes.iter().enumerate().any(|(at, (hash, _))| changes[..at].iter().any(|(other, _)| other == hash)) {
        return Err(Refusal::new(
            ErrorCode::DuplicateResource,
            "A user credential cannot be altered twice in the same request",
        ));
    }
    let unavailable = |error| Refusal::from(ErrorCode::from(&error));
    let kept = users.get(name).await.map_err(unavailable)?.unwrap_or_default();
    if changes.iter().any(|(hash, verifier)| verifier.is_none() && kept.verifier(*hash).is_none()) {
        return Err(Refusal::new(
            ErrorCode::ResourceNotFound,
            "Attempt to delete a user credential that does not exist",
        ));
    }
    let change = |user: &mut gateway_runtime::users::User| {
        for (hash, verifier) in &changes {
            *user.verifier_mut(*hash) = verifier.clone();
        }
        // A new password: the hash of the old one must not open the door any longer.
        if changes.iter().any(|(_, verifier)| verifier.is_some()) {
            user.salted = None;
            user.mosquitto = None;
        }
    };
    users.change(name, change).await.map_err(unavailable)
}
