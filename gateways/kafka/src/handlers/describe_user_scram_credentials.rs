//! DescribeUserScramCredentials (50), version 0: which SCRAM credentials users have (KIP-554); never the secrets.

use std::collections::{BTreeMap, HashSet};

use codec_kafka::messages::describe_user_scram_credentials::{
    CredentialInfo, DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult,
};
use core_rpc::Core;
use gateway_runtime::users::User;

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource};
use crate::translate::scram::{SCRAM_HASHES, mechanism_code};

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let failed = |code: ErrorCode| DescribeUserScramCredentialsResponse {
        error_code: code.code(),
        error_message: code.text(),
        ..Default::default()
    };
    if !gateway.security.allows(&context.peer, Operation::Describe, Resource::Cluster) {
        return failed(ErrorCode::ClusterAuthorizationFailed);
    }
    let users = match gateway.security.users.all().await {
        Ok(users) => users,
        Err(error) => return failed(ErrorCode::from(&error)),
    };
    let asked: Vec<String> = match request.users {
        Some(asked) if !asked.is_empty() => asked.into_iter().map(|user| user.name).collect(),
        _ => users.keys().cloned().collect(),
    };
    let mut seen = HashSet::new();
    let twice: HashSet<String> = asked.iter().filter(|name| !seen.insert(*name)).cloned().collect();
    let mut told = HashSet::new();
    let results = asked.iter().filter(|name| told.insert(*name)).map(|name| described(name, &users, &twice)).collect();
    DescribeUserScramCredentialsResponse { results, ..Default::default() }
}

fn described(
    name: &str,
    users: &BTreeMap<String, User>,
    twice: &HashSet<String>,
) -> DescribeUserScramCredentialsResult {
    let failed = |code: ErrorCode, message: String| DescribeUserScramCredentialsResult {
        user: name.to_owned(),
        error_code: code.code(),
        error_message: Some(message),
        ..Default::default()
    };
    if twice.contains(name) {
        let message = format!("Cannot describe SCRAM credentials for the same user twice in a single request: {name}");
        return failed(ErrorCode::DuplicateResource, message);
    }
    let Some(user) = users.get(name) else {
        let message = format!("Attempt to describe a user credential that does not exist: {name}");
        return failed(ErrorCode::ResourceNotFound, message);
    };
    let info = |hash| {
        let verifier = user.verifier(hash)?;
        Some(CredentialInfo { mechanism: mechanism_code(hash), iterations: verifier.iterations as i32 })
    };
    DescribeUserScramCredentialsResult {
        user: name.to_owned(),
        credential_infos: SCRAM_HASHES.into_iter().filter_map(info).collect(),
        ..Default::default()
    }
}
