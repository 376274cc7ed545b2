//! Fetch (1), versions 4 to 18: reads record batches, waiting for them if there are none yet.
//!
//! - No fetch sessions are kept: every answer has session id 0, after which clients go on with full fetches. A request
//!   that goes on in a session is answered FETCH_SESSION_ID_NOT_FOUND, after which they begin anew.
//! - There are no followers: a fetch with a replica id is refused.
//! - The leader epoch of every partition is 0.

use std::time::Duration;

use codec_kafka::RecordChunks;
use codec_kafka::messages::fetch::{
    EpochEndOffset, FetchPartition, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use core_rpc::{Core, FetchError, Fetched, Isolation, PartitionId};

use super::Context;
use crate::Gateway;
use crate::errors::ErrorCode;
use crate::translate::{LEADER_EPOCH, check_leader_epoch, fetched, partition_of, topic_id};

/// The first version that names topics by id.
const TOPIC_ID_VERSION: i16 = 13;

/// The greatest answer, whatever the client asks for: Kafka's default of `fetch.max.bytes`.
const RESPONSE_BYTES_MAX: i32 = 55 << 20;

/// What a client says that has or wants no session, or wants a new one.
const FINAL_EPOCH: i32 = -1;
const INITIAL_EPOCH: i32 = 0;

pub async fn handle<C: Core>(gateway: &Gateway<C>, context: &Context, request: FetchRequest) -> FetchResponse {
    if !matches!(request.session_epoch, FINAL_EPOCH | INITIAL_EPOCH) {
        return FetchResponse { error_code: ErrorCode::FetchSessionIdNotFound.code(), ..Default::default() };
    }
    let isolation = match request.isolation_level {
        0 => Isolation::All,
        1 => Isolation::Committed,
        _ => return FetchResponse { error_code: ErrorCode::InvalidRequest.code(), ..Default::default() },
    };
    let (mut response, asked) = prepare(gateway, context.version, &request);
    if asked.partitions.is_empty() {
        return response;
    }
    let bytes_max = request.max_bytes.clamp(0, RESPONSE_BYTES_MAX) as u32;
    let fetch = core_rpc::FetchRequest {
        partitions: asked.partitions,
        bytes_min: request.min_bytes.max(0) as u32,
        bytes_max,
        // An error is told at once.
        wait: if asked.refused { Duration::ZERO } else { Duration::from_millis(request.max_wait_ms.max(0) as u64) },
        isolation,
    };
    let answers = gateway.core.fetch(fetch).await;
    for ((topic, partition), answer) in asked.places.into_iter().zip(answers) {
        let place = &mut response.responses[topic].partitions[partition];
        match answer {
            Ok(fetched) => fill_fetched(place, fetched, isolation),
            Err(error) => fill_error(place, &error),
        }
    }
    response
}

/// What is asked of the core, and where in the response each answer goes.
#[derive(Default)]
struct Asked {
    partitions: Vec<core_rpc::FetchPartition>,
    places: Vec<(usize, usize)>,
    /// Whether a partition was refused here.
    refused: bool,
}

fn prepare<C: Core>(gateway: &Gateway<C>, version: i16, request: &FetchRequest) -> (FetchResponse, Asked) {
    let mut asked = Asked::default();
    let mut response = FetchResponse::default();
    let follower = request.replica_id >= 0 || request.replica_state.replica_id >= 0;
    for topic_request in &request.topics {
        let topic = match version >= TOPIC_ID_VERSION {
            true => gateway.topic_by_id(topic_id(topic_request.topic_id)).ok_or(ErrorCode::UnknownTopicId),
            false => gateway.topic(&topic_request.topic).ok_or(ErrorCode::UnknownTopicOrPartition),
        };
        let mut partitions = Vec::with_capacity(topic_request.partitions.len());
        for partition in &topic_request.partitions {
            let found = match &topic {
                Err(code) => Err(*code),
                Ok(_) if follower => Err(ErrorCode::NotLeaderOrFollower),
                Ok(topic) => check(partition_of(topic, partition.partition), partition),
            };
            let mut place = empty(partition.partition);
            match found {
                Ok(_) if partition.last_fetched_epoch > LEADER_EPOCH => {
                    // There never was such an epoch: what the client has of it, it must forget.
                    place.diverging_epoch = EpochEndOffset { epoch: LEADER_EPOCH, end_offset: partition.fetch_offset };
                    asked.refused = true;
                }
                Ok(asked_partition) => {
                    asked.partitions.push(asked_partition);
                    asked.places.push((response.responses.len(), partitions.len()));
                }
                Err(code) => {
                    place.error_code = code.code();
                    asked.refused = true;
                }
            }
            partitions.push(place);
        }
        response.responses.push(FetchableTopicResponse {
            topic: topic_request.topic.clone(),
            topic_id: topic_request.topic_id,
            partitions,
        });
    }
    (response, asked)
}

fn check(partition: Option<PartitionId>, asked: &FetchPartition) -> Result<core_rpc::FetchPartition, ErrorCode> {
    let partition = partition.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    check_leader_epoch(asked.current_leader_epoch)?;
    let offset = u64::try_from(asked.fetch_offset).map_err(|_| ErrorCode::OffsetOutOfRange)?;
    let bytes_max = asked.partition_max_bytes.max(0) as u32;
    Ok(core_rpc::FetchPartition { partition, offset, bytes_max })
}

/// A partition with nothing in it, as after an error.
fn empty(partition_index: i32) -> PartitionData {
    PartitionData {
        partition_index,
        high_watermark: -1,
        records: Some(RecordChunks::default()),
        ..Default::default()
    }
}

fn fill_fetched(place: &mut PartitionData, fetched: Fetched, isolation: Isolation) {
    match fetched::records(fetched.batches) {
        Ok(records) => place.records = Some(records),
        Err(code) => {
            place.error_code = code.code();
            return;
        }
    }
    place.high_watermark = fetched.bounds.end_offset as i64;
    place.last_stable_offset = fetched.bounds.stable_offset as i64;
    place.log_start_offset = fetched.bounds.start_offset as i64;
    // No transaction was ever aborted: there are none.
    place.aborted_transactions = (isolation == Isolation::Committed).then(Vec::new);
}

fn fill_error(place: &mut PartitionData, error: &FetchError) {
    place.error_code = ErrorCode::from(error).code();
}
