//! AlterReplicaLogDirs (34), versions 1 to 2: asks for replicas to be moved to other directories. There is one directory,
//! where they all are.

use codec_kafka::messages::alter_replica_log_dirs::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
};
use core_rpc::Core;

use super::Context;
use super::describe_log_dirs::LOG_DIR;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource};
use crate::translate::partition_of;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: AlterReplicaLogDirsRequest,
) -> AlterReplicaLogDirsResponse {
    let allowed = gateway.check(context, Operation::Alter, Resource::Cluster);
    let mut results = Vec::new();
    for dir in request.dirs {
        for asked in dir.topics {
            let topic = gateway.topic(&asked.name);
            let partition = |&partition_index: &i32| {
                let found = topic.as_deref().and_then(|topic| partition_of(topic, partition_index));
                let code = match (allowed, found) {
                    (Err(code), _) => code,
                    (Ok(()), None) => ErrorCode::UnknownTopicOrPartition,
                    (Ok(()), Some(_)) if dir.path != LOG_DIR => ErrorCode::LogDirNotFound,
                    (Ok(()), Some(_)) => ErrorCode::None,
                };
                AlterReplicaLogDirPartitionResult { partition_index, error_code: code.code() }
            };
            let partitions = asked.partitions.iter().map(partition).collect();
            results.push(AlterReplicaLogDirTopicResult { partitions, topic_name: asked.name });
        }
    }
    AlterReplicaLogDirsResponse { results, ..Default::default() }
}
