//! ListConfigResources (74), versions 0 to 1: names the resources that have a configuration.
//!
//! - Version 0 is only about the subscriptions of clients' metrics (KIP-714).
//! - Version 1 (KIP-1142): also topics, brokers, their loggers and groups.

use codec_kafka::messages::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::configs::alter::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource};

/// The first version that names types of resources.
const TYPES_VERSION: i16 = 1;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    if let Err(code) = gateway.check(context, Operation::DescribeConfigs, Resource::Cluster) {
        return ListConfigResourcesResponse { error_code: code.code(), ..Default::default() };
    }
    let types: Vec<i8> = match request.resource_types.is_empty() {
        _ if context.version < TYPES_VERSION => vec![CLIENT_METRICS],
        true => vec![TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP],
        false => request.resource_types,
    };
    let mut config_resources = Vec::new();
    for resource_type in types {
        let names: Vec<String> = match resource_type {
            TOPIC => {
                let topics = gateway.topics.all(&gateway.config.namespace);
                topics.iter().map(|topic| topic.topic.name.clone()).collect()
            }
            BROKER | BROKER_LOGGER => {
                gateway.brokers.live().members().iter().map(|member| member.node_id.to_string()).collect()
            }
            GROUP => gateway.group_configs.names(),
            CLIENT_METRICS => gateway.client_metrics.names(),
            _ => {
                let error_code = ErrorCode::UnsupportedVersion.code();
                return ListConfigResourcesResponse { error_code, ..Default::default() };
            }
        };
        config_resources.extend(names.into_iter().map(|resource_name| ConfigResource { resource_name, resource_type }));
    }
    ListConfigResourcesResponse { config_resources, ..Default::default() }
}
