//! LeaveGroup (13), versions 0 to 5: members leave a group.
//!
//! - Up to version 2 one member leaves, and its error is the response's.
//! - Version 3 (KIP-345): several leave, each with an error of its own; static ones by their instance id alone.

use std::sync::Arc;

use codec_kafka::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::groups::{GroupError, Leaver};
use crate::state::security::{Operation, Resource};

/// The first version in which several members may leave.
const BATCH_VERSION: i16 = 3;

pub async fn handle<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    if let Err(code) = gateway.check(context, Operation::Read, Resource::Group(&request.group_id)) {
        return LeaveGroupResponse { error_code: code.code(), ..Default::default() };
    }
    let members = match context.version >= BATCH_VERSION {
        true => request.members,
        false => vec![MemberIdentity { member_id: request.member_id, ..Default::default() }],
    };
    let leavers: Vec<Leaver> = members.into_iter().map(leaver).collect();
    let results = match gateway.groups.leave(&request.group_id, &leavers).await {
        Ok(results) => results,
        Err(error) => return LeaveGroupResponse { error_code: ErrorCode::from(error).code(), ..Default::default() },
    };
    if context.version < BATCH_VERSION {
        let error = results.into_iter().find_map(Result::err);
        return LeaveGroupResponse { error_code: code(error), ..Default::default() };
    }
    let members = leavers.into_iter().zip(results).map(|(leaver, result)| MemberResponse {
        member_id: leaver.member_id,
        group_instance_id: leaver.instance_id,
        error_code: code(result.err()),
    });
    LeaveGroupResponse { members: members.collect(), ..Default::default() }
}

fn leaver(member: MemberIdentity) -> Leaver {
    let MemberIdentity { member_id, group_instance_id, reason } = member;
    Leaver { member_id, instance_id: group_instance_id, reason }
}

fn code(error: Option<GroupError>) -> i16 {
    error.map_or(ErrorCode::None, ErrorCode::from).code()
}
