//! IncrementalAlterConfigs (44), versions 0 to 1: changes single keys of a topic's or a group's configuration. The broker's cannot
//! be changed by clients.

use codec_kafka::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::configs::alter::{GROUP, alter, check_keys, may_alter, named_twice};
use crate::configs::group::group_definition;
use crate::configs::{Change, Labels, Operation, applied, changed};
use crate::errors::{ErrorCode, Refusal};

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let twice = named_twice(request.resources.iter().map(|it| (it.resource_type, it.resource_name.as_str())));
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let altered = match twice.contains(&(resource.resource_type, resource.resource_name.as_str())) {
            true => Err(Refusal::new(ErrorCode::InvalidRequest, "Each resource must appear at most once.")),
            false => match may_alter(gateway, context, (resource.resource_type, &resource.resource_name)) {
                Ok(()) => change(gateway, resource, request.validate_only).await,
                Err(code) => Err(code.into()),
            },
        };
        let mut response = AlterConfigsResourceResponse {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..Default::default()
        };
        if let Err(refusal) = altered {
            response.error_code = refusal.code.code();
            response.error_message = Some(refusal.message);
        }
        responses.push(response);
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
    let keys: Vec<&str> = changes.iter().map(|change| change.name).collect();
    let resource = (resource.resource_type, resource.resource_name.as_str());
    let change = |labels: &Labels| match resource.0 {
        GROUP => applied(labels, &changes, group_definition),
        _ => changed(labels, &changes),
    };
    alter(gateway, resource, validate_only, &keys, change).await
}
