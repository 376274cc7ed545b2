//! CreateTopics (19), versions 2 to 7: creates topics.
//!
//! - A partition has one replica, served by any gateway: other replication factors and assignments are refused.
//! - `timeout_ms` bounds waiting for other brokers; there are none.

use std::collections::HashSet;

use codec_kafka::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};
use core_rpc::{Core, Durability, TopicCreate};

use super::{Context, Throttled, throttle_time_ms};
use crate::configs::{self, Labels, Source, TOPIC_CONFIGS};
use crate::configs::inherit::{inherited, with_inherited};
use crate::errors::{ErrorCode, Refusal};
use crate::translate::names::{check_topic_name, collide};
use crate::translate::uuid;
use crate::state::security::{Operation, Resource};
use crate::state::quotas::Mutations;
use crate::{Gateway, Topic, now_ms};

/// The first version whose clients know THROTTLING_QUOTA_EXCEEDED.
const QUOTA_VERSION: i16 = 6;

/// Partitions of a topic that is created: as many as Kafka takes in one request, so that a typing error does little.
const PARTITIONS_MAX: i32 = 10_000;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: CreateTopicsRequest,
) -> Throttled<CreateTopicsResponse> {
    let is_strict = context.version >= QUOTA_VERSION;
    let user = context.user();
    let mut mutations = Mutations::new(&gateway.quotas, user.name(), context.client(), is_strict, now_ms());
    let twice = duplicates(request.topics.iter().map(|topic| topic.name.as_str()));
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let created = match twice.contains(topic.name.as_str()) {
            true => Err(Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name.")),
            false => match may_create(gateway, context, &topic.name) {
                Ok(()) => create(gateway, topic, request.validate_only, &mut mutations).await,
                Err(code) => Err(code.into()),
            },
        };
        topics.push(created.unwrap_or_else(|refusal| CreatableTopicResult {
            name: topic.name.clone(),
            error_code: refusal.code.code(),
            error_message: Some(refusal.message),
            ..Default::default()
        }));
    }
    let silence = mutations.silence();
    let reply = CreateTopicsResponse { throttle_time_ms: throttle_time_ms(silence), topics };
    Throttled { reply, silence }
}

/// Whoever may create in the cluster may create any topic.
pub fn may_create<C: Core>(gateway: &Gateway<C>, context: &Context, name: &str) -> Result<(), ErrorCode> {
    let cluster = gateway.check(context, Operation::Create, Resource::Cluster);
    cluster.or_else(|_| gateway.check(context, Operation::Create, Resource::Topic(name)))
}

/// What occurs more than once.
pub fn duplicates<'a>(names: impl Iterator<Item = &'a str>) -> HashSet<&'a str> {
    let mut seen = HashSet::new();
    names.filter(|name| !seen.insert(*name)).collect()
}

async fn create<C: Core>(
    gateway: &Gateway<C>,
    asked: &CreatableTopic,
    validate_only: bool,
    mutations: &mut Mutations<'_, C>,
) -> Result<CreatableTopicResult, Refusal> {
    check_name(gateway, &asked.name)?;
    let labels = labels_of(asked, gateway.config.durability)?;
    let labels = with_inherited(labels, &gateway.broker_configs.topic_defaults());
    let partitions = partitions_of(gateway, asked)?;
    let mut result = CreatableTopicResult {
        name: asked.name.clone(),
        num_partitions: partitions as i32,
        replication_factor: 1,
        configs: Some(described(&labels)),
        ..Default::default()
    };
    if !validate_only {
        mutations.charge(partitions)?;
        let create = TopicCreate {
            namespace: gateway.config.namespace.clone(),
            name: asked.name.clone(),
            partitions,
            settings: configs::settings_of(&labels),
            labels,
        };
        let topic: std::sync::Arc<Topic> = gateway.topics.create(create).await.map_err(|error| match (&error).into() {
            ErrorCode::TopicAlreadyExists => exists(&asked.name),
            code => Refusal::new(code, error.to_string()),
        })?;
        result.topic_id = uuid(topic.topic.id);
    }
    Ok(result)
}

fn exists(name: &str) -> Refusal {
    Refusal::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists."))
}

fn check_name<C: Core>(gateway: &Gateway<C>, name: &str) -> Result<(), Refusal> {
    check_topic_name(name).map_err(|message| Refusal::new(ErrorCode::InvalidTopicException, message))?;
    if gateway.topic(name).is_some() {
        return Err(exists(name));
    }
    // Only such names can collide.
    if name.contains(['.', '_']) {
        let topics = gateway.topics.all(&gateway.config.namespace);
        if let Some(other) = topics.iter().find(|other| collide(&other.topic.name, name)) {
            let message = format!("Topic '{name}' collides with existing topic: {}", other.topic.name);
            return Err(Refusal::new(ErrorCode::InvalidTopicException, message));
        }
    }
    Ok(())
}

fn labels_of(asked: &CreatableTopic, durability: Durability) -> Result<Labels, Refusal> {
    let invalid = |message: String| Refusal::new(ErrorCode::InvalidConfig, message);
    let mut labels = Labels::new();
    for config in &asked.configs {
        let value = config.value.as_deref();
        let value = value.ok_or_else(|| invalid(format!("Null value not supported for topic configs: {}", config.name)))?;
        if labels.insert(config.name.clone(), value.trim().to_owned()).is_some() {
            return Err(invalid(format!("{} is given twice", config.name)));
        }
    }
    let labels = configs::with_durability(labels, durability);
    configs::check_labels(&labels).map_err(invalid)?;
    Ok(labels)
}

fn partitions_of<C: Core>(gateway: &Gateway<C>, asked: &CreatableTopic) -> Result<u32, Refusal> {
    if !asked.assignments.is_empty() {
        return assigned(gateway, asked);
    }
    match asked.replication_factor {
        -1 | 1 => {}
        factor if factor < 1 => {
            let message = "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
        }
        factor => {
            let message = format!(
                "Unable to replicate the partition {factor} time(s): a partition has one replica here, whose safety \
                 is the core's matter (polymq.durability)."
            );
            return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
        }
    }
    match asked.num_partitions {
        -1 => Ok(gateway.config.num_partitions),
        count if count < 1 => {
            let message = "Number of partitions was set to an invalid non-positive value.";
            Err(Refusal::new(ErrorCode::InvalidPartitions, message))
        }
        count if count > PARTITIONS_MAX => Err(too_many()),
        count => Ok(count as u32),
    }
}

fn too_many() -> Refusal {
    let message = format!("Excessively large number of partitions per request: at most {PARTITIONS_MAX}");
    Refusal::new(ErrorCode::PolicyViolation, message)
}

/// The number of partitions of a manual assignment, which can only name this broker.
fn assigned<C: Core>(gateway: &Gateway<C>, asked: &CreatableTopic) -> Result<u32, Refusal> {
    let refused = |code, message: &str| Err(Refusal::new(code, message));
    if asked.replication_factor != -1 {
        let message = "A manual partition assignment was specified, but replication factor was not set to -1.";
        return refused(ErrorCode::InvalidRequest, message);
    }
    if asked.num_partitions != -1 {
        let message = "A manual partition assignment was specified, but numPartitions was not set to -1.";
        return refused(ErrorCode::InvalidRequest, message);
    }
    let mut indexes: Vec<i32> = asked.assignments.iter().map(|assignment| assignment.partition_index).collect();
    indexes.sort_unstable();
    if !indexes.iter().copied().eq(0..indexes.len() as i32) {
        let message = "partitions should be a consecutive 0-based integer sequence";
        return refused(ErrorCode::InvalidReplicaAssignment, message);
    }
    for assignment in &asked.assignments {
        super::create_partitions::check_assignment(&assignment.broker_ids, &gateway.brokers.live())?;
    }
    match i32::try_from(indexes.len()) {
        Ok(count) if count <= PARTITIONS_MAX => Ok(count as u32),
        _ => Err(too_many()),
    }
}

fn described(labels: &Labels) -> Vec<CreatableTopicConfigs> {
    let config = |definition: &configs::Definition| CreatableTopicConfigs {
        name: definition.name.to_owned(),
        value: Some(configs::value(labels, definition.name).to_owned()),
        read_only: false,
        config_source: match (labels.contains_key(definition.name), inherited(labels, definition.name)) {
            (true, _) => Source::Topic as i8,
            (false, Some(_)) => Source::DynamicDefault as i8,
            (false, None) => Source::Default as i8,
        },
        is_sensitive: false,
    };
    TOPIC_CONFIGS.iter().map(config).collect()
}
