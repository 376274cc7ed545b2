//! DescribeConfigs (32), versions 1 to 4: describes the configuration of topics, groups and this broker.
//!
//! - Topics: every key of Kafka 4.1 and `polymq.durability`, with type, source, synonyms and documentation.
//! - The broker's keys are read-only: it is configured when it is started.
//! - Broker loggers: one, `root`. Client metrics have no configurations here (INVALID_REQUEST).
//! - Groups: what a share group can be set to (KIP-932).

use codec_kafka::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use core_rpc::Core;

use super::Context;
use crate::configs::alter::{BROKER, BROKER_LOGGER, GROUP, TOPIC, config_resource};
use crate::configs::group::{self, GROUP_CONFIGS};
use crate::configs::{self, BrokerConfig, Definition, Kind, Labels, Source, TOPIC_CONFIGS, broker_configs};
use crate::errors::{ErrorCode, Refusal};
use crate::translate::names::check_topic_name;
use crate::Gateway;
use crate::state::security::Operation;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let describe = |resource: &DescribeConfigsResource| {
        let mut result = DescribeConfigsResult {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..Default::default()
        };
        let resource_of = config_resource(resource.resource_type, &resource.resource_name);
        let allowed = gateway.check(context, Operation::DescribeConfigs, resource_of).map_err(Refusal::from);
        match allowed.and_then(|()| configs_of(gateway, resource)) {
            Ok(configs) => result.configs = select(configs, resource, &request),
            Err(refusal) => {
                result.error_code = refusal.code.code();
                result.error_message = Some(refusal.message);
            }
        }
        result
    };
    DescribeConfigsResponse { results: request.resources.iter().map(describe).collect(), ..Default::default() }
}

/// Only the keys that are asked for (all, if none are named), with only what is asked for of each.
fn select(
    mut configs: Vec<DescribeConfigsResourceResult>,
    resource: &DescribeConfigsResource,
    request: &DescribeConfigsRequest,
) -> Vec<DescribeConfigsResourceResult> {
    if let Some(keys) = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty()) {
        configs.retain(|config| keys.contains(&config.name));
    }
    for config in &mut configs {
        if !request.include_synonyms {
            config.synonyms.clear();
        }
        if !request.include_documentation {
            config.documentation = None;
        }
    }
    configs
}

fn configs_of<C: Core>(
    gateway: &Gateway<C>,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC => {
            check_topic_name(name).map_err(|message| Refusal::new(ErrorCode::InvalidTopicException, message))?;
            let topic = gateway.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
            Ok(TOPIC_CONFIGS.iter().map(|definition| topic_config(definition, &topic.topic.labels)).collect())
        }
        // The empty name asks for what was set for all brokers at run time: nothing can be.
        BROKER if name.is_empty() => Ok(Vec::new()),
        BROKER => {
            check_broker(name, gateway.identity.node_id, " or empty string,")?;
            let configs = broker_configs(&gateway.config, &gateway.identity, &gateway.advertised);
            Ok(configs.into_iter().map(broker_config).collect())
        }
        BROKER_LOGGER if name.is_empty() => {
            Err(Refusal::new(ErrorCode::InvalidRequest, "Broker id must not be empty"))
        }
        BROKER_LOGGER => {
            check_broker(name, gateway.identity.node_id, "")?;
            Ok(vec![root_logger()])
        }
        GROUP if name.is_empty() => Err(Refusal::new(ErrorCode::InvalidRequest, "Group name must not be empty")),
        GROUP => {
            let labels = gateway.group_configs.labels(name);
            Ok(GROUP_CONFIGS.iter().map(|definition| group_config(definition, &labels)).collect())
        }
        other => Err(Refusal::new(ErrorCode::InvalidRequest, format!("Unsupported resource type: {other}"))),
    }
}

fn check_broker(name: &str, node_id: i32, or_else: &str) -> Result<(), Refusal> {
    let message = match name.parse::<i32>() {
        Ok(id) if id == node_id => return Ok(()),
        Ok(_) => format!("Unexpected broker id, expected {node_id}{or_else} but received {name}"),
        Err(_) => format!("Broker id must be an integer, but it is: {name}"),
    };
    Err(Refusal::new(ErrorCode::InvalidRequest, message))
}

fn topic_config(definition: &Definition, labels: &Labels) -> DescribeConfigsResourceResult {
    let synonym = |name: &str, value: &str, source: Source| DescribeConfigsSynonym {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        source: source as i8,
    };
    let set = labels.get(definition.name).map(|value| synonym(definition.name, value, Source::Topic));
    let inherited = definition.broker_synonym.map(|name| synonym(name, definition.default, Source::Default));
    DescribeConfigsResourceResult {
        name: definition.name.to_owned(),
        value: Some(configs::value(labels, definition.name).to_owned()),
        read_only: false,
        config_source: if set.is_some() { Source::Topic } else { Source::Default } as i8,
        is_sensitive: false,
        synonyms: set.into_iter().chain(inherited).collect(),
        config_type: definition.kind as i8,
        documentation: Some(definition.documentation.to_owned()),
    }
}

fn group_config(definition: &Definition, labels: &Labels) -> DescribeConfigsResourceResult {
    let value = group::value(labels, definition.name).to_owned();
    let source = if labels.contains_key(definition.name) { Source::Group } else { Source::Default } as i8;
    let synonym = |name: &str, value: &str, source| DescribeConfigsSynonym {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        source,
    };
    let set = labels.get(definition.name).map(|value| synonym(definition.name, value, source));
    let inherited = definition.broker_synonym.map(|name| synonym(name, definition.default, Source::Default as i8));
    DescribeConfigsResourceResult {
        name: definition.name.to_owned(),
        value: Some(value),
        read_only: false,
        config_source: source,
        is_sensitive: false,
        synonyms: set.into_iter().chain(inherited).collect(),
        config_type: definition.kind as i8,
        documentation: Some(definition.documentation.to_owned()),
    }
}

fn broker_config(config: BrokerConfig) -> DescribeConfigsResourceResult {
    let source = if config.given { Source::StaticBroker } else { Source::Default } as i8;
    DescribeConfigsResourceResult {
        name: config.name.to_owned(),
        value: config.value.clone(),
        read_only: true,
        config_source: source,
        is_sensitive: false,
        synonyms: vec![DescribeConfigsSynonym { name: config.name.to_owned(), value: config.value, source }],
        config_type: config.kind as i8,
        documentation: Some(config.documentation.to_owned()),
    }
}

fn root_logger() -> DescribeConfigsResourceResult {
    let level = tracing::level_filters::LevelFilter::current();
    DescribeConfigsResourceResult {
        name: "root".into(),
        value: Some(level.to_string().to_uppercase()),
        read_only: true,
        config_source: Source::BrokerLogger as i8,
        config_type: Kind::String as i8,
        documentation: Some("The least severe messages that are logged; set by POLYMQ_LOG.".into()),
        ..Default::default()
    }
}
