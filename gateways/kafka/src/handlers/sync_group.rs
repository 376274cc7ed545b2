//! SyncGroup (14), versions 0 to 5: brings the leader's assignments, and answers with the member's own.
//!
//! - Version 3 (KIP-345): static members.
//! - Version 5 (KIP-559): the protocol type and the protocol must be named, and be the group's.

use std::sync::Arc;

use codec_kafka::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::groups::{GroupError, SyncRequest};
use crate::state::security::{Operation, Resource};

/// The first version that names the protocol.
const PROTOCOL_VERSION: i16 = 5;

pub async fn handle<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    if let Err(code) = gateway.check(context, Operation::Read, Resource::Group(&request.group_id)) {
        return SyncGroupResponse { error_code: code.code(), ..Default::default() };
    }
    let is_unnamed = request.protocol_type.is_none() || request.protocol_name.is_none();
    if context.version >= PROTOCOL_VERSION && is_unnamed {
        return refused(GroupError::InconsistentProtocol);
    }
    let assignments = request.assignments.into_iter();
    let sync = SyncRequest {
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        generation: request.generation_id,
        protocol_type: request.protocol_type,
        protocol: request.protocol_name,
        assignments: assignments.map(|assignment| (assignment.member_id, assignment.assignment)).collect(),
    };
    match gateway.groups.sync(&request.group_id, sync).await {
        Ok(synced) => SyncGroupResponse {
            protocol_type: synced.protocol_type,
            protocol_name: synced.protocol,
            assignment: synced.assignment,
            ..Default::default()
        },
        Err(error) => refused(error),
    }
}

fn refused(error: GroupError) -> SyncGroupResponse {
    SyncGroupResponse { error_code: ErrorCode::from(error).code(), ..Default::default() }
}
