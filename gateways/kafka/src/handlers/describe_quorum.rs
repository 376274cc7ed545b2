//! DescribeQuorum (55), versions 0 to 2: describes who keeps the cluster's metadata (`kafka-metadata-quorum`).
//!
//! That is the core, which clients do not see. What is described is a quorum of one healthy voter: the broker that clients
//! take for the controller; the others observe. The log's end is the revision up to which this gateway knows the topics'
//! changes, and everybody has reached it.

use codec_kafka::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, PartitionData, ReplicaState, TopicData,
};
use core_rpc::Core;

use super::Context;
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource};
use crate::translate::LEADER_EPOCH;
use crate::{Gateway, now_ms};

/// The one log of metadata.
const METADATA_TOPIC: &str = "__cluster_metadata";

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    if let Err(code) = gateway.check(context, Operation::Describe, Resource::Cluster) {
        return DescribeQuorumResponse { error_code: code.code(), error_message: code.text(), ..Default::default() };
    }
    let brokers = gateway.brokers.live();
    let controller_id = brokers.controller_id();
    let end_offset = newest_version(gateway);
    let now_ms = now_ms();
    let replica = |replica_id| ReplicaState {
        replica_id,
        log_end_offset: end_offset,
        last_fetch_timestamp: now_ms,
        last_caught_up_timestamp: now_ms,
        ..Default::default()
    };
    let observers = brokers.members().iter().map(|member| member.node_id).filter(|id| *id != controller_id);
    let described = PartitionData {
        leader_id: controller_id,
        leader_epoch: LEADER_EPOCH,
        high_watermark: end_offset,
        current_voters: vec![replica(controller_id)],
        observers: observers.map(replica).collect(),
        ..Default::default()
    };
    let topics = request.topics.into_iter().map(|topic| {
        let partition = |index: i32| match (topic.topic_name.as_str(), index) {
            (METADATA_TOPIC, 0) => described.clone(),
            (_, partition_index) => PartitionData {
                partition_index,
                error_code: ErrorCode::UnknownTopicOrPartition.code(),
                ..Default::default()
            },
        };
        let partitions = topic.partitions.iter().map(|asked| partition(asked.partition_index)).collect();
        TopicData { partitions, topic_name: topic.topic_name }
    });
    let nodes = brokers.members().iter().map(|member| Node {
        node_id: member.node_id,
        listeners: vec![Listener { name: "PLAINTEXT".into(), host: member.host.clone(), port: member.port }],
    });
    DescribeQuorumResponse { topics: topics.collect(), nodes: nodes.collect(), ..Default::default() }
}

fn newest_version<C: Core>(gateway: &Gateway<C>) -> i64 {
    let topics = gateway.topics.all(&gateway.config.namespace);
    topics.iter().map(|topic| topic.topic.version as i64).max().unwrap_or(0)
}
