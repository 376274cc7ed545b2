//! DescribeLogDirs (35), versions 1 to 4: tells how many bytes each partition has.
//!
//! The core's storage is one directory with a made-up name. Its volume's size is not known to a gateway (-1).

use codec_kafka::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
    DescribeLogDirsTopic,
};
use core_rpc::{Core, PartitionId};

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::translate::partition_of;
use crate::state::security::{Operation, Resource};

/// The one directory.
pub const LOG_DIR: &str = "/polymq";

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    if let Err(code) = gateway.check(context, Operation::Describe, Resource::Cluster) {
        return DescribeLogDirsResponse { error_code: code.code(), ..Default::default() };
    }
    let (mut topics, partitions) = prepare(gateway, &request);
    let mut error = ErrorCode::None;
    if !partitions.is_empty() {
        let mut answers = gateway.core.inspect(partitions).await.into_iter();
        for topic in &mut topics {
            // What was deleted meanwhile is left out, as what is unknown is.
            topic.partitions.retain_mut(|place| match answers.next() {
                Some(Ok(state)) => {
                    place.partition_size = state.size_bytes as i64;
                    true
                }
                Some(Err(core_rpc::FetchError::UnknownPartition)) | None => false,
                Some(Err(failed)) => {
                    error = (&failed).into();
                    false
                }
            });
        }
        topics.retain(|topic| !topic.partitions.is_empty());
    }
    DescribeLogDirsResponse {
        results: vec![DescribeLogDirsResult {
            error_code: error.code(),
            log_dir: LOG_DIR.to_owned(),
            topics,
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// The response's topics, without sizes, and all their partitions in order. Unknown ones are left out.
fn prepare<C: Core>(
    gateway: &Gateway<C>,
    request: &DescribeLogDirsRequest,
) -> (Vec<DescribeLogDirsTopic>, Vec<PartitionId>) {
    let asked: Vec<(_, Vec<i32>)> = match &request.topics {
        None => {
            let topics = gateway.topics.all(&gateway.config.namespace).into_iter();
            topics.map(|topic| (topic.clone(), (0..topic.topic.partitions as i32).collect())).collect()
        }
        Some(topics) => {
            let known = topics.iter().filter_map(|asked| Some((gateway.topic(&asked.topic)?, asked.partitions.clone())));
            known.collect()
        }
    };
    // Each broker tells of those that it leads, so that clients who ask all of them hear of each partition once.
    let (brokers, own_id) = (gateway.brokers.live(), gateway.brokers.own_id());
    let mut partitions = Vec::new();
    let mut topics = Vec::with_capacity(asked.len());
    for (topic, indexes) in asked {
        let mut places = Vec::with_capacity(indexes.len());
        for partition_index in indexes {
            let partition = partition_of(&topic, partition_index);
            let Some(partition) = partition.filter(|id| brokers.leader_id(*id) == own_id) else { continue };
            partitions.push(partition);
            places.push(DescribeLogDirsPartition { partition_index, ..Default::default() });
        }
        topics.push(DescribeLogDirsTopic { name: topic.topic.name.clone(), partitions: places });
    }
    (topics, partitions)
}
