//! DescribeAcls (29), versions 1 to 3: lists access rules.
//!
//! - Without an authorizer: SECURITY_DISABLED.

use std::collections::BTreeMap;

use codec_kafka::messages::describe_acls::{
    AclDescription, DescribeAclsRequest, DescribeAclsResource, DescribeAclsResponse,
};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::Refusal;
use crate::state::security::acl::{Acl, AclFilter, Operation, Pattern, ResourceType};
use crate::translate::acls::{FilterFields, acl_filter};

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: DescribeAclsRequest,
) -> DescribeAclsResponse {
    match matching(gateway, context, request) {
        Ok(acls) => DescribeAclsResponse { resources: by_resource(acls), ..Default::default() },
        Err(refusal) => DescribeAclsResponse {
            error_code: refusal.code.code(),
            error_message: Some(refusal.message),
            ..Default::default()
        },
    }
}

fn matching<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: DescribeAclsRequest,
) -> Result<Vec<Acl>, Refusal> {
    let acls = gateway.acls_for(context, Operation::Describe)?;
    let filter: AclFilter = acl_filter(FilterFields {
        resource_type: request.resource_type_filter,
        name: request.resource_name_filter,
        pattern: request.pattern_type_filter,
        principal: request.principal_filter,
        host: request.host_filter,
        operation: request.operation,
        permission: request.permission_type,
    })?;
    Ok(acls.matching(&filter))
}

fn by_resource(acls: Vec<Acl>) -> Vec<DescribeAclsResource> {
    let mut resources = BTreeMap::new();
    for acl in acls {
        let rules: &mut Vec<AclDescription> = resources.entry((acl.resource_type, acl.pattern, acl.name)).or_default();
        rules.push(AclDescription {
            principal: acl.principal,
            host: acl.host,
            operation: acl.operation.code(),
            permission_type: acl.permission.code(),
        });
    }
    let resource = |((resource_type, pattern, resource_name), acls): ((ResourceType, Pattern, String), _)| {
        DescribeAclsResource {
            resource_type: resource_type.code(),
            resource_name,
            pattern_type: pattern.code(),
            acls,
        }
    };
    resources.into_iter().map(resource).collect()
}
