//! Heartbeat (12), versions 0 to 4: a member says that it is alive, and hears whether it must join again.
//!
//! - Version 3 (KIP-345): static members.

use std::sync::Arc;

use codec_kafka::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource};

pub async fn handle<C: Core>(gateway: &Arc<Gateway<C>>, context: &Context, request: HeartbeatRequest) -> HeartbeatResponse {
    let HeartbeatRequest { group_id, generation_id, member_id, group_instance_id } = request;
    if let Err(code) = gateway.check(context, Operation::Read, Resource::Group(&group_id)) {
        return HeartbeatResponse { error_code: code.code(), ..Default::default() };
    }
    let beaten = gateway.groups.heartbeat(&group_id, &member_id, group_instance_id.as_deref(), generation_id).await;
    let error = beaten.err().map_or(ErrorCode::None, ErrorCode::from);
    HeartbeatResponse { error_code: error.code(), ..Default::default() }
}
