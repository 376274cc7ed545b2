//! CreateAcls (30), versions 1 to 3: adds access rules.
//!
//! - Without an authorizer: SECURITY_DISABLED.

use codec_kafka::messages::create_acls::{AclCreation, AclCreationResult, CreateAclsRequest, CreateAclsResponse};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::{ErrorCode, Refusal};
use crate::state::security::acl::{Acl, CLUSTER_NAME, Operation, Pattern, Permission, ResourceType};
use crate::state::security::Acls;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: CreateAclsRequest,
) -> CreateAclsResponse {
    let acls = gateway.acls_for(context, Operation::Alter);
    let mut response = CreateAclsResponse::default();
    for creation in request.creations {
        let created = match &acls {
            Ok(acls) => create(acls, creation).await,
            Err(refusal) => Err(refusal.clone()),
        };
        response.results.push(match created {
            Ok(()) => AclCreationResult::default(),
            Err(refusal) => {
                AclCreationResult { error_code: refusal.code.code(), error_message: Some(refusal.message) }
            }
        });
    }
    response
}

async fn create<C: Core>(acls: &Acls<C>, creation: AclCreation) -> Result<(), Refusal> {
    let acl = parse(creation).map_err(|message| Refusal::new(ErrorCode::InvalidRequest, message))?;
    acls.add(&acl).await.map_err(|error| ErrorCode::from(&error).into())
}

fn parse(creation: AclCreation) -> Result<Acl, String> {
    let AclCreation { resource_type, resource_name: name, resource_pattern_type, principal, host, operation, permission_type } =
        creation;
    let resource_type =
        ResourceType::of(resource_type).ok_or_else(|| format!("Invalid resource type {resource_type}"))?;
    let pattern = Pattern::of(resource_pattern_type)
        .ok_or_else(|| format!("Invalid resource pattern type {resource_pattern_type}"))?;
    let operation = Operation::of(operation).ok_or_else(|| format!("Invalid operation type {operation}"))?;
    let permission =
        Permission::of(permission_type).ok_or_else(|| format!("Invalid permission type {permission_type}"))?;
    if name.is_empty() {
        return Err("Invalid empty resource name".into());
    }
    if resource_type == ResourceType::Cluster && name != CLUSTER_NAME {
        return Err(format!("The only valid name for the CLUSTER resource is {CLUSTER_NAME}"));
    }
    if !principal.contains(':') {
        return Err(format!(
            "Could not parse principal from `{principal}` (no colon is present separating the principal type from the principal name)"
        ));
    }
    if host.is_empty() {
        return Err("Invalid empty host".into());
    }
    Ok(Acl { resource_type, name, pattern, principal, host, operation, permission })
}
