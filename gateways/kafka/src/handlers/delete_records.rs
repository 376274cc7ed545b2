//! DeleteRecords (21), versions 0 to 2: makes the records before an offset unreadable. `timeout_ms` bounds waiting for
//! followers; there are none.

use codec_kafka::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult,
};
use core_rpc::{Core, PartitionId, TrimRequest};

use super::Context;
use crate::errors::ErrorCode;
use crate::translate::partition_of;
use crate::{Gateway, Topic};
use crate::state::security::Operation;

/// The offset that stands for the end of the partition.
const HIGH_WATERMARK: i64 = -1;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let mut response = DeleteRecordsResponse::default();
    let mut trims = Vec::new();
    let mut places = Vec::new();
    for asked in &request.topics {
        let topic = gateway.topic_for(context, Operation::Delete, &asked.name);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in &asked.partitions {
            let mut place = DeleteRecordsPartitionResult {
                partition_index: partition.partition_index,
                low_watermark: -1,
                ..Default::default()
            };
            match trim(topic.as_deref().map_err(|code| *code), partition) {
                Ok(trim) => {
                    trims.push(trim);
                    places.push((response.topics.len(), partitions.len()));
                }
                Err(code) => place.error_code = code.code(),
            }
            partitions.push(place);
        }
        response.topics.push(DeleteRecordsTopicResult { name: asked.name.clone(), partitions });
    }
    if !trims.is_empty() {
        let answers = gateway.core.trim(TrimRequest { trims }).await;
        for ((topic, partition), answer) in places.into_iter().zip(answers) {
            let place = &mut response.topics[topic].partitions[partition];
            match answer {
                Ok(start) => place.low_watermark = start as i64,
                Err(error) => place.error_code = ErrorCode::from(&error).code(),
            }
        }
    }
    response
}

fn trim(topic: Result<&Topic, ErrorCode>, asked: &DeleteRecordsPartition) -> Result<(PartitionId, Option<u64>), ErrorCode> {
    let partition = partition_of(topic?, asked.partition_index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let before = match asked.offset {
        HIGH_WATERMARK => None,
        offset => Some(u64::try_from(offset).map_err(|_| ErrorCode::OffsetOutOfRange)?),
    };
    Ok((partition, before))
}
