//! DescribeCluster (60), versions 0 to 2: describes the cluster: the live gateways.

use codec_kafka::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use core_rpc::Core;
use gateway_runtime::Member;

use super::Context;
use crate::Gateway;
use crate::errors::{ErrorCode, Refusal};
use crate::state::security::Resource;
use crate::translate::CLUSTER_OPERATIONS;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    if let Err(refusal) = check(request.endpoint_type) {
        return DescribeClusterResponse {
            error_code: refusal.code.code(),
            error_message: Some(refusal.message),
            ..Default::default()
        };
    }
    let brokers = gateway.brokers.live();
    DescribeClusterResponse {
        cluster_id: gateway.identity.cluster_id.clone(),
        controller_id: brokers.controller_id(),
        brokers: brokers.members().iter().map(|member| broker(context, member)).collect(),
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => gateway.security.operations(&context.peer, CLUSTER_OPERATIONS, Resource::Cluster),
            false => i32::MIN,
        },
        ..Default::default()
    }
}

fn broker(context: &Context, member: &Member) -> DescribeClusterBroker {
    let (host, port) = context.peer.address_of(member);
    DescribeClusterBroker {
        broker_id: member.node_id,
        host,
        port,
        rack: member.rack.clone(),
        is_fenced: false,
    }
}

fn check(endpoint_type: i8) -> Result<(), Refusal> {
    match endpoint_type {
        BROKERS => Ok(()),
        CONTROLLERS => Err(Refusal::new(
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER",
        )),
        other => Err(Refusal::new(ErrorCode::UnsupportedEndpointType, format!("Unsupported endpoint type {other}"))),
    }
}
