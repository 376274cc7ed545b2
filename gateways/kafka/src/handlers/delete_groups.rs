//! DeleteGroups (42), versions 0 to 2: deletes groups without members, their offsets included (KIP-229);
//! share groups too.

use std::collections::HashSet;
use std::sync::Arc;

use codec_kafka::messages::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource};

pub async fn handle<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut results = Vec::new();
    let mut seen = HashSet::new();
    for group_id in request.groups_names {
        if !seen.insert(group_id.clone()) {
            continue;
        }
        let error = match gateway.check(context, Operation::Delete, Resource::Group(&group_id)) {
            // A share group is deleted if there is one; else what the other kinds of group say is the answer.
            Ok(()) => match gateway.delete_share_group(&group_id).await {
                Err(ErrorCode::GroupIdNotFound) => {
                    gateway.groups.delete(&group_id).await.err().map_or(ErrorCode::None, ErrorCode::from)
                }
                deleted => deleted.err().unwrap_or(ErrorCode::None),
            },
            Err(code) => code,
        };
        results.push(DeletableGroupResult { group_id, error_code: error.code() });
    }
    DeleteGroupsResponse { results, ..Default::default() }
}
