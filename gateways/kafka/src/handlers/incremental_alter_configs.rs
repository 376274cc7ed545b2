//! IncrementalAlterConfigs (44), versions 0 to 1: changes single keys of the configuration of a topic, a group, the brokers or a
//! subscription of clients' metrics.

use codec_kafka::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::configs::alter::{may_alter, alter, check_keys, definition_of, named_twice, told};
use crate::configs::{Change, Operation, applied};
use crate::errors::{ErrorCode, Refusal};

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let twice = named_twice(request.resources.iter().map(|it| (it.resource_type, it.resource_name.as_str())));
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let (resource_type, resource_name) = (resource.resource_type, resource.resource_name.clone());
        let outcome = match may_alter(gateway, context, &twice, (resource_type, &resource_name)) {
            Ok(()) => change(gateway, resource, request.validate_only).await,
            Err(refusal) => Err(refusal),
        };
        let (error_code, error_message) = told(outcome);
        responses.push(AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name });
    }
    IncrementalAlterConfigsResponse { responses, ..Default::default() }
}

async fn change<C: Core>(
    gateway: &Gateway<C>,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    let mut changes = Vec::with_capacity(resource.configs.len());
    for config in &resource.configs {
        let operation = Operation::from_wire(config.config_operation).ok_or_else(|| {
            let message = format!("Unknown operations type {}", config.config_operation);
            Refusal::new(ErrorCode::InvalidRequest, message)
        })?;
        changes.push(Change { name: &config.name, operation, value: config.value.as_deref() });
    }
    let misses_value = |change: &Change<'_>| change.operation != Operation::Delete && change.value.is_none();
    check_keys(changes.iter().map(|change| (change.name, misses_value(change))))?;
    let resource = (resource.resource_type, resource.resource_name.as_str());
    let definition = definition_of(resource.0);
    alter(gateway, resource, validate_only, |labels| applied(labels, &changes, definition)).await
}
