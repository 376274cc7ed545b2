//! Metadata (3), versions 0 to 13: describes the broker and topics, and creates unknown topics where that is allowed.
//!
//! - The brokers are the live gateways. Any of them serves any partition; leaders only spread the load.
//! - A topic that is created here is described at once; Kafka answers LEADER_NOT_AVAILABLE first.

use std::collections::HashSet;
use std::sync::Arc;

use codec_kafka::Uuid;
use codec_kafka::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use core_rpc::{Core, PartitionId, TopicCreate, TopicError};
use gateway_runtime::Member;

use super::Context;
use crate::errors::ErrorCode;
use crate::state::brokers::View;
use crate::state::internal_topics::{self, InternalTopic, is_internal};
use crate::translate::names::check_topic_name;
use crate::translate::{LEADER_EPOCH, TOPIC_OPERATIONS, CLUSTER_OPERATIONS, topic_id, uuid};
use crate::state::security::{Operation, Resource};
use crate::{Gateway, Topic, configs};

/// The first version in which a topic can be asked for by its id.
const BY_ID_VERSION: i16 = 12;

pub async fn handle<C: Core>(gateway: &Gateway<C>, context: &Context, request: MetadataRequest) -> MetadataResponse {
    let brokers = gateway.brokers.live();
    let mut topics = match &request.topics {
        None => all(gateway, context, &brokers),
        // Version 0 has no null.
        Some(topics) if topics.is_empty() && context.version == 0 => all(gateway, context, &brokers),
        Some(topics) => {
            named(gateway, &brokers, context, topics, request.allow_auto_topic_creation).await
        }
    };
    if request.include_topic_authorized_operations {
        for topic in topics.iter_mut().filter(|topic| topic.error_code == 0) {
            let resource = Resource::Topic(topic.name.as_deref().unwrap_or_default());
            topic.topic_authorized_operations =
                gateway.security.operations(&context.peer, TOPIC_OPERATIONS, resource);
        }
    }
    let mut response = MetadataResponse {
        brokers: brokers.members().iter().map(|member| broker(context, member)).collect(),
        cluster_id: Some(gateway.identity.cluster_id.clone()),
        controller_id: brokers.controller_id(),
        topics,
        ..Default::default()
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations =
            gateway.security.operations(&context.peer, CLUSTER_OPERATIONS, Resource::Cluster);
    }
    response
}

fn broker(context: &Context, member: &Member) -> MetadataResponseBroker {
    let (host, port) = context.peer.address_of(member);
    MetadataResponseBroker {
        node_id: member.node_id,
        host,
        port,
        rack: member.rack.clone(),
    }
}

fn all<C: Core>(gateway: &Gateway<C>, context: &Context, brokers: &View) -> Vec<MetadataResponseTopic> {
    let topics = gateway.topics.all(&gateway.config.namespace);
    let seen = topics.iter().filter(|topic| {
        gateway.check(context, Operation::Describe, Resource::Topic(&topic.topic.name)).is_ok()
    });
    seen.map(|topic| described(topic, brokers)).collect()
}

async fn named<C: Core>(
    gateway: &Gateway<C>,
    brokers: &View,
    context: &Context,
    asked: &[MetadataRequestTopic],
    may_create: bool,
) -> Vec<MetadataResponseTopic> {
    let ill_formed = |topic: &MetadataRequestTopic| topic.name.is_none() || !topic.topic_id.is_zero();
    if context.version < BY_ID_VERSION && asked.iter().any(ill_formed) {
        return asked.iter().map(|topic| failed(topic, ErrorCode::InvalidRequest)).collect();
    }
    let mut seen = HashSet::new();
    let mut topics = Vec::with_capacity(asked.len());
    for topic in asked {
        if !seen.insert((&topic.name, topic.topic_id)) {
            continue;
        }
        topics.push(match find(gateway, context, topic, may_create).await {
            Ok(found) => described(&found, brokers),
            Err(code) => failed(topic, code),
        });
    }
    topics
}

async fn find<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    asked: &MetadataRequestTopic,
    may_create: bool,
) -> Result<Arc<Topic>, ErrorCode> {
    if !asked.topic_id.is_zero() {
        return gateway.topic_by_id_for(context, Operation::Describe, topic_id(asked.topic_id));
    }
    let Some(name) = &asked.name else { return Err(ErrorCode::InvalidRequest) };
    match gateway.topic_for(context, Operation::Describe, name) {
        Err(ErrorCode::UnknownTopicOrPartition) => {}
        found => return found,
    }
    check_topic_name(name).map_err(|_| ErrorCode::InvalidTopicException)?;
    match may_create && gateway.config.auto_create_topics {
        true => {
            super::create_topics::may_create(gateway, context, name)?;
            create(gateway, name).await
        }
        false => Err(ErrorCode::UnknownTopicOrPartition),
    }
}

async fn create<C: Core>(gateway: &Gateway<C>, name: &str) -> Result<Arc<Topic>, ErrorCode> {
    if let Some(internal) = InternalTopic::of_name(name) {
        let created = internal_topics::create(&gateway.topics, &gateway.config.namespace, internal).await;
        return created.map_err(|error| (&error).into());
    }
    let labels = configs::with_durability(Default::default(), gateway.config.durability);
    let labels = configs::inherit::with_inherited(labels, &gateway.broker_configs.topic_defaults());
    let create = TopicCreate {
        namespace: gateway.config.namespace.clone(),
        name: name.to_owned(),
        partitions: gateway.config.num_partitions,
        settings: configs::settings_of(&labels),
        labels,
    };
    match gateway.topics.create(create).await {
        Ok(topic) => Ok(topic),
        // Another request was faster.
        Err(TopicError::Exists) => gateway.topic(name).ok_or(ErrorCode::LeaderNotAvailable),
        Err(error) => Err((&error).into()),
    }
}

fn described(topic: &Topic, brokers: &View) -> MetadataResponseTopic {
    let topic = &topic.topic;
    let partition = |index| {
        let leader_id = brokers.leader_id(PartitionId { topic: topic.id, index });
        MetadataResponsePartition {
            error_code: 0,
            partition_index: index as i32,
            leader_id,
            leader_epoch: LEADER_EPOCH,
            replica_nodes: vec![leader_id],
            isr_nodes: vec![leader_id],
            offline_replicas: Vec::new(),
        }
    };
    MetadataResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: uuid(topic.id),
        is_internal: is_internal(&topic.name),
        partitions: (0..topic.partitions).map(partition).collect(),
        ..Default::default()
    }
}

fn failed(asked: &MetadataRequestTopic, code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: code.code(),
        name: asked.name.clone(),
        topic_id: if asked.topic_id.is_zero() { Uuid::ZERO } else { asked.topic_id },
        ..Default::default()
    }
}
