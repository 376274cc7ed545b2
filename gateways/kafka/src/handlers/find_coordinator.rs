//! FindCoordinator (10), versions 0 to 6: tells which of the live gateways coordinates a group or a transactional id.
//!
//! - Key type 2 names what a share group keeps of a partition (`group:topic id:partition`); the core keeps it, and the gateway
//!   that coordinates the group is as good as any. Unknown types are refused with INVALID_REQUEST.

use codec_kafka::messages::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use core_rpc::Core;
use gateway_runtime::Member;

use super::Context;
use crate::Gateway;
use crate::errors::{ErrorCode, Refusal};
use crate::state::security::{Operation, Resource};
use crate::state::brokers::{CoordinatorKey, View};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// The first version that asks for several keys.
const KEYS_VERSION: i16 = 4;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let brokers = gateway.brokers.live();
    let find = |key: String| match may_find(gateway, context, request.key_type, &key)
        .and_then(|()| coordinator(&brokers, request.key_type, &key))
    {
        Ok(coordinator) => {
            let (host, port) = context.peer.address_of(coordinator);
            Coordinator { key, node_id: coordinator.node_id, host, port, ..Default::default() }
        }
        Err(refusal) => Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: refusal.code.code(),
            error_message: Some(refusal.message),
            ..Default::default()
        },
    };
    if context.version >= KEYS_VERSION {
        let coordinators = request.coordinator_keys.into_iter().map(find).collect();
        return FindCoordinatorResponse { coordinators, ..Default::default() };
    }
    let found = find(request.key);
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..Default::default()
    }
}

/// Who may not describe a group or a transactional id does not learn where it is.
fn may_find<C: Core>(gateway: &Gateway<C>, context: &Context, key_type: i8, key: &str) -> Result<(), Refusal> {
    let resource = match key_type {
        // Only brokers ask for it.
        SHARE => return gateway.check(context, Operation::ClusterAction, Resource::Cluster).map_err(Refusal::from),
        TRANSACTION => Resource::TransactionalId(key),
        _ => Resource::Group(key),
    };
    gateway.check(context, Operation::Describe, resource).map_err(Refusal::from)
}

fn coordinator<'a>(brokers: &'a View, key_type: i8, key: &str) -> Result<&'a Member, Refusal> {
    match key_type {
        GROUP | TRANSACTION => {
            let key = if key_type == GROUP { CoordinatorKey::Group(key) } else { CoordinatorKey::Transaction(key) };
            let coordinator = brokers.coordinator(key);
            coordinator.ok_or_else(|| ErrorCode::CoordinatorNotAvailable.into())
        }
        SHARE => {
            let mut parts = key.rsplitn(3, ':');
            let (partition, topic, group) = (parts.next(), parts.next(), parts.next());
            let is_number = partition.is_some_and(|partition| partition.parse::<u32>().is_ok());
            match group {
                Some(group) if is_number && topic.is_some_and(|topic| !topic.is_empty()) && !group.is_empty() => {
                    let coordinator = brokers.coordinator(CoordinatorKey::Group(group));
                    coordinator.ok_or_else(|| ErrorCode::CoordinatorNotAvailable.into())
                }
                _ => Err(Refusal::new(ErrorCode::InvalidRequest, "the key is not group:topicId:partition")),
            }
        }
        other => Err(Refusal::new(ErrorCode::InvalidRequest, format!("key type {other} is not supported"))),
    }
}
