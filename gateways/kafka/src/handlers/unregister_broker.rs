//! UnregisterBroker (64), version 0: asks for a broker to be forgotten. Gateways that live register themselves, and those
//! that do not are forgotten by themselves: there is never one to remove.

use codec_kafka::messages::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::{ErrorCode, Refusal};
use crate::state::security::{Operation, Resource};

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: UnregisterBrokerRequest,
) -> UnregisterBrokerResponse {
    let id = request.broker_id;
    let allowed = gateway.check(context, Operation::Alter, Resource::Cluster);
    let refusal: Refusal = match gateway.brokers.live().has(id) {
        _ if allowed.is_err() => ErrorCode::ClusterAuthorizationFailed.into(),
        true => Refusal::new(ErrorCode::InvalidRequest, format!("Broker {id} is running; it is forgotten when it ends.")),
        false => Refusal::new(ErrorCode::BrokerIdNotRegistered, format!("Broker id {id} is not registered.")),
    };
    UnregisterBrokerResponse {
        error_code: refusal.code.code(),
        error_message: Some(refusal.message),
        ..Default::default()
    }
}
