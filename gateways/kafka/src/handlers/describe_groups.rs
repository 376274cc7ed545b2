//! DescribeGroups (15), versions 0 to 6: a group's state and its members.
//!
//! - Version 3 (KIP-430): the operations that the client may do: all, as nothing is forbidden to anybody.
//! - Version 6 (KIP-1043): an unknown group, and one of another type, is GROUP_ID_NOT_FOUND; before it is described as Dead, without an error.

use std::sync::Arc;

use codec_kafka::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::groups::{GroupDescription, GroupError, GroupState, MemberDescription};
use crate::state::security::{Operation, Resource};

/// The first version in which an unknown group is an error.
const GROUP_NOT_FOUND_VERSION: i16 = 6;

/// What can be done with a group, as bits numbered by Kafka's ACL operations: READ 3, DELETE 6, DESCRIBE 8,
/// DESCRIBE_CONFIGS 10, ALTER_CONFIGS 11.
pub(super) const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

pub async fn handle<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let mut groups = Vec::with_capacity(request.groups.len());
    for id in request.groups {
        if let Err(code) = gateway.check(context, Operation::Describe, Resource::Group(&id)) {
            groups.push(DescribedGroup { group_id: id, error_code: code.code(), ..Default::default() });
            continue;
        }
        let resource_id = id.clone();
        let mut group = match gateway.groups.describe(&id).await {
            Ok(description) => described(id, description),
            Err(GroupError::GroupNotFound) => unknown(format!("Group {id} not found."), id, context),
            Err(GroupError::NotAClassicGroup) => {
                unknown(format!("Group {id} is not a classic group."), id, context)
            }
            Err(error) => DescribedGroup {
                group_id: id,
                error_code: ErrorCode::from(error).code(),
                error_message: Some(error.to_string()),
                ..Default::default()
            },
        };
        if request.include_authorized_operations && group.error_code == ErrorCode::None.code() {
            let resource = Resource::Group(&resource_id);
            group.authorized_operations = gateway.security.operations(&context.peer, GROUP_OPERATIONS, resource);
        }
        groups.push(group);
    }
    DescribeGroupsResponse { groups, ..Default::default() }
}

fn described(group_id: String, description: GroupDescription) -> DescribedGroup {
    DescribedGroup {
        group_id,
        group_state: description.state.name().to_owned(),
        protocol_type: description.protocol_type,
        protocol_data: description.protocol,
        members: description.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}

fn member(member: MemberDescription) -> DescribedGroupMember {
    DescribedGroupMember {
        member_id: member.id,
        group_instance_id: member.instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    }
}

fn unknown(message: String, group_id: String, context: &Context) -> DescribedGroup {
    let mut group = DescribedGroup { group_state: GroupState::Dead.name().to_owned(), ..Default::default() };
    if context.version >= GROUP_NOT_FOUND_VERSION {
        group.error_code = ErrorCode::GroupIdNotFound.code();
        group.error_message = Some(message);
    }
    DescribedGroup { group_id, ..group }
}
