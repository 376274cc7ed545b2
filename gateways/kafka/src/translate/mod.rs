//! Kafka's names, topics and batches ↔ the core's.

pub mod acknowledged;
pub mod acls;
pub mod fetched;
pub mod marker;
pub mod names;
pub mod produced;
pub mod scram;

use codec_kafka::Uuid;
use core_rpc::{PartitionId, TopicId};

use crate::Topic;
use crate::errors::ErrorCode;

/// The leader epoch of every partition: leadership of a partition never moves, as any gateway serves it.
pub const LEADER_EPOCH: i32 = 0;

/// A topic's id on the wire.
pub fn uuid(id: TopicId) -> Uuid {
    Uuid(id.0.to_be_bytes())
}

/// The core's id of a topic.
pub fn topic_id(uuid: Uuid) -> TopicId {
    TopicId(u128::from_be_bytes(uuid.0))
}

/// The core's name of a topic's partition, if there is such a partition.
pub fn partition_of(topic: &Topic, index: i32) -> Option<PartitionId> {
    let index = u32::try_from(index).ok().filter(|index| *index < topic.topic.partitions)?;
    Some(PartitionId { topic: topic.topic.id, index })
}

/// Checks the leader epoch that a client believes a partition to have; -1 for none.
pub fn check_leader_epoch(epoch: i32) -> Result<(), ErrorCode> {
    match epoch {
        -1 | LEADER_EPOCH => Ok(()),
        _ if epoch > LEADER_EPOCH => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Err(ErrorCode::FencedLeaderEpoch),
    }
}

/// What everybody may do with a topic, as there is no authorization: bits by the number of the operation (read 3,
/// write 4, create 5, delete 6, alter 7, describe 8, describe configs 10, alter configs 11).
pub const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;

/// What everybody may do with the cluster: create 5, alter 7, describe 8, cluster action 9, describe configs 10, alter
/// configs 11, idempotent write 12.
pub const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;
