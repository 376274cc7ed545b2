//! DescribeCluster (60), versions 0 to 2: describes the cluster, which is this one broker.

use codec_kafka::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::errors::{ErrorCode, Refusal};
use crate::translate::CLUSTER_OPERATIONS;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    _: &Context,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    if let Err(refusal) = check(request.endpoint_type) {
        return DescribeClusterResponse {
            error_code: refusal.code.code(),
            error_message: Some(refusal.message),
            ..Default::default()
        };
    }
    let node_id = gateway.identity.node_id;
    DescribeClusterResponse {
        cluster_id: gateway.identity.cluster_id.clone(),
        controller_id: node_id,
        brokers: vec![DescribeClusterBroker {
            broker_id: node_id,
            host: gateway.advertised.0.clone(),
            port: i32::from(gateway.advertised.1),
            rack: None,
            is_fenced: false,
        }],
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => CLUSTER_OPERATIONS,
            false => i32::MIN,
        },
        ..Default::default()
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
