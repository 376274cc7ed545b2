//! DescribeConfigs (32), versions 1 to 4: describes the configuration of topics, groups and this broker.
//!
//! - Topics: every key of Kafka 4.1 and `polymq.durability`, with type, source, synonyms and documentation.
//! - Brokers: what they were started with, and what was set since ([`crate::configs::dynamic`]); other keys are read-only.
//! - Broker loggers: one, `root`.
//! - Groups: what a consumer group and a share group can be set to (KIP-848, KIP-932).
//! - Client metrics: the subscription's keys (KIP-714).

use codec_kafka::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use core_rpc::Core;

use super::Context;
use crate::configs::alter::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC, config_resource};
use crate::configs::client_metrics::CLIENT_METRICS_CONFIGS;
use crate::configs::dynamic::dynamic_definition;
use crate::configs::inherit::inherited;
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
        // The empty name asks for what was set for all brokers.
        BROKER if name.is_empty() => {
            let for_all = gateway.broker_configs.for_all();
            let described = for_all.iter().filter_map(|(name, value)| {
                let definition = dynamic_definition(name)?;
                let set = [synonym(name, value, Source::DynamicDefault)];
                Some(result_of(name, definition.kind, definition.documentation, set.into()))
            });
            Ok(described.collect())
        }
        BROKER => {
            check_broker(name, gateway.identity.node_id, " or empty string,")?;
            let configs = broker_configs(&gateway.config, &gateway.identity, &gateway.advertised);
            let (one, all) = (gateway.broker_configs.for_one(gateway.identity.node_id), gateway.broker_configs.for_all());
            Ok(configs.into_iter().map(|config| broker_config(config, &one, &all)).collect())
        }
        CLIENT_METRICS if name.is_empty() => {
            Err(Refusal::new(ErrorCode::InvalidRequest, "Client metrics subscription name must not be empty"))
        }
        CLIENT_METRICS => {
            let labels = gateway.client_metrics.labels(name);
            Ok(CLIENT_METRICS_CONFIGS.iter().map(|definition| client_metrics_config(definition, &labels)).collect())
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

fn synonym(name: &str, value: &str, source: Source) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym { name: name.to_owned(), value: Some(value.to_owned()), source: source as i8 }
}

/// A key that can be set; its value is the first of the synonyms.
fn result_of(
    name: &str,
    kind: Kind,
    documentation: &str,
    synonyms: Vec<DescribeConfigsSynonym>,
) -> DescribeConfigsResourceResult {
    let first = synonyms.first();
    DescribeConfigsResourceResult {
        name: name.to_owned(),
        value: first.and_then(|first| first.value.clone()),
        read_only: false,
        config_source: first.map_or(Source::Default as i8, |first| first.source),
        is_sensitive: false,
        synonyms,
        config_type: kind as i8,
        documentation: Some(documentation.to_owned()),
    }
}

fn topic_config(definition: &Definition, labels: &Labels) -> DescribeConfigsResourceResult {
    let name = definition.name;
    let set = labels.get(name).map(|value| synonym(name, value, Source::Topic));
    let of_brokers = definition.broker_synonym.unwrap_or(name);
    let inherited = inherited(labels, name).map(|value| synonym(of_brokers, value, Source::DynamicDefault));
    let default = definition.broker_synonym.map(|name| synonym(name, definition.default, Source::Default));
    let synonyms: Vec<_> = set.into_iter().chain(inherited).chain(default).collect();
    let mut result = result_of(name, definition.kind, definition.documentation, synonyms);
    result.value = Some(configs::value(labels, name).to_owned());
    result
}

fn group_config(definition: &Definition, labels: &Labels) -> DescribeConfigsResourceResult {
    let set = labels.get(definition.name).map(|value| synonym(definition.name, value, Source::Group));
    let inherited = definition.broker_synonym.map(|name| synonym(name, definition.default, Source::Default));
    let synonyms: Vec<_> = set.into_iter().chain(inherited).collect();
    let mut result = result_of(definition.name, definition.kind, definition.documentation, synonyms);
    result.value = Some(group::value(labels, definition.name).to_owned());
    result
}

fn client_metrics_config(definition: &Definition, labels: &Labels) -> DescribeConfigsResourceResult {
    let set = labels.get(definition.name).map(|value| synonym(definition.name, value, Source::ClientMetrics));
    let mut result = result_of(definition.name, definition.kind, definition.documentation, set.into_iter().collect());
    result.value.get_or_insert_with(|| definition.default.to_owned());
    result
}

fn broker_config(config: BrokerConfig, one: &Labels, all: &Labels) -> DescribeConfigsResourceResult {
    let built = if config.given { Source::StaticBroker } else { Source::Default };
    let started_with = config.value.as_deref().map(|value| synonym(config.name, value, built));
    let set = |labels: &Labels, source| labels.get(config.name).map(|value| synonym(config.name, value, source));
    let synonyms = set(one, Source::DynamicBroker).into_iter().chain(set(all, Source::DynamicDefault));
    let synonyms = synonyms.chain(started_with).collect();
    let mut result = result_of(config.name, config.kind, config.documentation, synonyms);
    result.read_only = dynamic_definition(config.name).is_none();
    result
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
