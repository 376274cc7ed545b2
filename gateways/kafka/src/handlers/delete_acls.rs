//! DeleteAcls (31), versions 1 to 3: removes the access rules that filters accept.
//!
//! - Without an authorizer: SECURITY_DISABLED.

use codec_kafka::messages::delete_acls::{
    DeleteAclsFilter, DeleteAclsFilterResult, DeleteAclsMatchingAcl, DeleteAclsRequest, DeleteAclsResponse,
};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::{ErrorCode, Refusal};
use crate::state::security::acl::{Acl, Operation};
use crate::state::security::Acls;
use crate::translate::acls::{FilterFields, acl_filter};

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: DeleteAclsRequest,
) -> DeleteAclsResponse {
    let acls = gateway.acls_for(context, Operation::Alter);
    let mut response = DeleteAclsResponse::default();
    for filter in request.filters {
        let deleted = match &acls {
            Ok(acls) => delete(acls, filter).await,
            Err(refusal) => Err(refusal.clone()),
        };
        response.filter_results.push(match deleted {
            Ok(matching_acls) => DeleteAclsFilterResult { matching_acls, ..Default::default() },
            Err(refusal) => DeleteAclsFilterResult {
                error_code: refusal.code.code(),
                error_message: Some(refusal.message),
                ..Default::default()
            },
        });
    }
    response
}

async fn delete<C: Core>(acls: &Acls<C>, filter: DeleteAclsFilter) -> Result<Vec<DeleteAclsMatchingAcl>, Refusal> {
    let filter = acl_filter(FilterFields {
        resource_type: filter.resource_type_filter,
        name: filter.resource_name_filter,
        pattern: filter.pattern_type_filter,
        principal: filter.principal_filter,
        host: filter.host_filter,
        operation: filter.operation,
        permission: filter.permission_type,
    })?;
    let mut deleted = Vec::new();
    for acl in acls.matching(&filter) {
        let code = acls.remove(&acl).await.map_or_else(|error| ErrorCode::from(&error), |()| ErrorCode::None);
        deleted.push(matched(acl, code));
    }
    Ok(deleted)
}

fn matched(acl: Acl, code: ErrorCode) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl {
        error_code: code.code(),
        error_message: code.text(),
        resource_type: acl.resource_type.code(),
        resource_name: acl.name,
        pattern_type: acl.pattern.code(),
        principal: acl.principal,
        host: acl.host,
        operation: acl.operation.code(),
        permission_type: acl.permission.code(),
    }
}
