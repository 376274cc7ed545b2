//! AlterPartitionReassignments (45), versions 0 to 1: asks for partitions to be moved to other brokers.
//!
//! Which gateway leads a partition follows from which of them live, and there are no replicas to move: only what is so
//! already can be asked for. There is never a move to cancel (NO_REASSIGNMENT_IN_PROGRESS).

use codec_kafka::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartitionResponse,
    ReassignableTopicResponse,
};
use core_rpc::{Core, PartitionId};

use super::Context;
use crate::Gateway;
use crate::errors::{ErrorCode, Refusal};
use crate::state::brokers::View;
use crate::state::security::{Operation, Resource};
use crate::translate::partition_of;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    if let Err(code) = gateway.check(context, Operation::Alter, Resource::Cluster) {
        return AlterPartitionReassignmentsResponse {
            error_code: code.code(),
            error_message: code.text(),
            ..Default::default()
        };
    }
    let brokers = gateway.brokers.live();
    let mut responses = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let topic = gateway.topic(&asked.name);
        let partitions = asked.partitions.iter().map(|partition| {
            let id = topic.as_deref().and_then(|topic| partition_of(topic, partition.partition_index));
            let may_change = request.allow_replication_factor_change;
            let refusal = check(&brokers, id, partition.replicas.as_deref(), may_change).err();
            ReassignablePartitionResponse {
                partition_index: partition.partition_index,
                error_code: refusal.as_ref().map_or(0, |refusal| refusal.code.code()),
                error_message: refusal.map(|refusal| refusal.message),
            }
        });
        responses.push(ReassignableTopicResponse { partitions: partitions.collect(), name: asked.name });
    }
    AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        responses,
        ..Default::default()
    }
}

fn check(
    brokers: &View,
    partition: Option<PartitionId>,
    replicas: Option<&[i32]>,
    may_change_factor: bool,
) -> Result<(), Refusal> {
    let partition = partition.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let replicas = replicas.ok_or(ErrorCode::NoReassignmentInProgress)?;
    let refused = |message: String| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    if replicas.is_empty() {
        return refused("The manual partition assignment includes an empty replica list.".into());
    }
    if let Some(unknown) = replicas.iter().find(|id| !brokers.has(**id)) {
        return refused(format!(
            "The manual partition assignment includes broker {unknown}, but no such broker is registered."
        ));
    }
    if replicas.len() > 1 {
        if !may_change_factor {
            let message = "The replication factor is changed from 1, which the request forbids.";
            return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
        }
        return refused("A partition has one replica here.".into());
    }
    match brokers.leader_id(partition) {
        leader if leader == replicas[0] => Ok(()),
        leader => refused(format!(
            "The brokers of this cluster share its partitions by themselves; this one is broker {leader}'s."
        )),
    }
}
