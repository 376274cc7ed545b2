//! AlterConfigs (33), versions 0 to 2: replaces the configuration of a topic, a group, the brokers or a subscription of clients'
//! metrics; keys that are not named get their default.

use codec_kafka::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse,
};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::configs::Labels;
use crate::configs::alter::{may_alter, alter, check_keys, named_twice, told};
use crate::errors::Refusal;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let twice = named_twice(request.resources.iter().map(|it| (it.resource_type, it.resource_name.as_str())));
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let (resource_type, resource_name) = (resource.resource_type, resource.resource_name.clone());
        let outcome = match may_alter(gateway, context, &twice, (resource_type, &resource_name)) {
            Ok(()) => replace(gateway, resource, request.validate_only).await,
            Err(refusal) => Err(refusal),
        };
        let (error_code, error_message) = told(outcome);
        responses.push(AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name });
    }
    AlterConfigsResponse { responses, ..Default::default() }
}

async fn replace<C: Core>(
    gateway: &Gateway<C>,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    check_keys(resource.configs.iter().map(|config| (config.name.as_str(), config.value.is_none())))?;
    let pairs = resource.configs.iter().map(|config| {
        (config.name.clone(), config.value.as_deref().unwrap_or_default().trim().to_owned())
    });
    let labels: Labels = pairs.collect();
    alter(gateway, (resource.resource_type, &resource.resource_name), validate_only, |_| Ok(labels.clone())).await
}
