//! JoinGroup (11), versions 0 to 9: joins a group, and waits until the rebalance has all members.
//!
//! - Version 4 (KIP-394): a new member is first answered MEMBER_ID_REQUIRED, with the id to join with.
//! - Version 5 (KIP-345): a member with an instance id takes its predecessor's place.
//! - Version 9 (KIP-814): a leader that came back so is told to skip the assignment; older ones are named another leader.

use std::sync::Arc;

use codec_kafka::messages::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use core_rpc::Core;
use gateway_runtime::identity::random_16_bytes;

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::groups::{GroupError, JoinRefused, JoinRequest, Joined, Protocol};
use crate::state::security::{Operation, Resource};

/// The first version with a rebalance timeout of its own.
const REBALANCE_TIMEOUT_VERSION: i16 = 1;
/// The first version whose new members are sent back with an id.
const MEMBER_ID_REQUIRED_VERSION: i16 = 4;
/// The first version in which the protocol may be null.
const NULL_PROTOCOL_VERSION: i16 = 7;
/// The first version that knows `skip_assignment`.
const SKIP_ASSIGNMENT_VERSION: i16 = 9;

pub async fn handle<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    if let Err(code) = gateway.check(context, Operation::Read, Resource::Group(&request.group_id)) {
        return JoinGroupResponse { error_code: code.code(), protocol_name: protocol_name(None, context), ..Default::default() };
    }
    let rebalance_timeout_ms = match context.version >= REBALANCE_TIMEOUT_VERSION {
        true => request.rebalance_timeout_ms,
        false => request.session_timeout_ms,
    };
    if gateway.share_groups.has_members(&request.group_id) {
        let refusal = JoinRefused { error: GroupError::InconsistentProtocol, member_id: request.member_id };
        return refused(refusal, context);
    }
    let Ok(random) = random_16_bytes() else {
        return refused(JoinRefused { error: GroupError::CoordinatorNotAvailable, member_id: request.member_id }, context);
    };
    let protocols = request.protocols.into_iter();
    let join = JoinRequest {
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        client_id: context.client_id.clone().unwrap_or_default(),
        // As Java prints an address; tools show it so.
        client_host: format!("/{}", context.peer.address.ip()),
        protocol_type: request.protocol_type,
        protocols: protocols.map(|protocol| Protocol { name: protocol.name, metadata: protocol.metadata }).collect(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: u32::try_from(rebalance_timeout_ms).unwrap_or(0),
        member_id_required: context.version >= MEMBER_ID_REQUIRED_VERSION,
        skip_assignment_known: context.version >= SKIP_ASSIGNMENT_VERSION,
        fresh: uuid(random),
        reason: request.reason,
    };
    match gateway.groups.join(&request.group_id, join).await {
        Ok(joined) => accepted(joined, context),
        Err(refusal) => refused(refusal, context),
    }
}

fn accepted(joined: Joined, context: &Context) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| JoinGroupResponseMember {
        member_id: member.member_id,
        group_instance_id: member.instance_id,
        metadata: member.metadata,
    });
    JoinGroupResponse {
        generation_id: joined.generation,
        protocol_type: joined.protocol_type,
        protocol_name: protocol_name(joined.protocol, context),
        leader: joined.leader,
        skip_assignment: joined.skip_assignment,
        member_id: joined.member_id,
        members: members.collect(),
        ..Default::default()
    }
}

fn refused(refusal: JoinRefused, context: &Context) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code: ErrorCode::from(refusal.error).code(),
        protocol_name: protocol_name(None, context),
        member_id: refusal.member_id,
        ..Default::default()
    }
}

fn protocol_name(name: Option<String>, context: &Context) -> Option<String> {
    match context.version >= NULL_PROTOCOL_VERSION {
        true => name,
        false => Some(name.unwrap_or_default()),
    }
}

/// A random UUID (version 4) in its usual form.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_their_usual_form() {
        assert_eq!(uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid([0; 16]), "00000000-0000-4000-8000-000000000000");
    }
}
