//! AlterConfigs (33), versions 0 to 2: replaces a topic's or a group's configuration; keys that are not named get their default.
//! The broker's cannot be changed by clients.

use codec_kafka::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse,
};
use core_rpc::Core;

use super::Context;
use crate::Gateway;
use crate::configs::alter::{GROUP, alter, check_keys, may_alter, named_twice};
use crate::configs::{Labels, check_labels};
use crate::errors::{ErrorCode, Refusal};

pub async fn handle<C: Core>(gateway: &Gateway<C>, context: &Context, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let twice = named_twice(request.resources.iter().map(|it| (it.resource_type, it.resource_name.as_str())));
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let altered = match twice.contains(&(resource.resource_type, resource.resource_name.as_str())) {
            true => Err(Refusal::new(ErrorCode::InvalidRequest, "Each resource must appear at most once.")),
            false => match may_alter(gateway, context, (resource.resource_type, &resource.resource_name)) {
                Ok(()) => replace(gateway, resource, request.validate_only).await,
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
    AlterConfigsResponse { responses, ..Default::default() }
}

async fn replace<C: Core>(
    gateway: &Gateway<C>,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    check_keys(resource.configs.iter().map(|config| (config.name.as_str(), config.value.is_none())))?;
    let keys: Vec<&str> = resource.configs.iter().map(|config| config.name.as_str()).collect();
    let pairs = resource.configs.iter().map(|config| {
        (config.name.clone(), config.value.as_deref().unwrap_or_default().trim().to_owned())
    });
    let labels: Labels = pairs.collect();
    alter(gateway, (resource.resource_type, &resource.resource_name), validate_only, &keys, |_| {
        // A group's are checked where they are stored.
        if resource.resource_type != GROUP {
            check_labels(&labels).map_err(|message| Refusal::new(ErrorCode::InvalidConfig, message))?;
        }
        Ok(labels.clone())
    })
    .await
}
