//! ShareFetch (78), version 1: acquires records for a member of a share group, and settles others (KIP-932).
//!
//! - Any gateway may serve any partition: the core holds what is acquired.
//! - Batches are acquired whole where they are available whole, so that an answer may have more records than
//!   `max_records`, as by Kafka. What is in a batch but not among the acquired records is not the member's.

use std::sync::Arc;
use std::time::Duration;

use codec_kafka::RecordChunks;
use codec_kafka::messages::share_fetch::{
    AcquiredRecords, PartitionData, ShareFetchRequest, ShareFetchResponse, ShareFetchableTopicResponse,
};
use codec_kafka::wire::Uuid;
use core_rpc::{AcquireAnswer, AcquireMode, AcquireRequest, Acquired, AcquiredRange, Core, Lease, LeaseError, PartitionId};

use super::{Context, Held};
use super::share_acknowledge::{Settling, session_key};
use crate::configs::group::ShareConfig;
use crate::errors::ErrorCode;
use crate::state::security::{Operation, Resource};
use crate::state::share_groups::sessions::{FINAL_EPOCH, INITIAL_EPOCH, SessionKey};
use crate::state::{Brought, Limits};
use crate::state::share_groups::{DELIVERIES_MAX, RECORD_LOCKS_MAX};
use crate::translate::acknowledged::settle_ranges;
use crate::translate::{fetched, partition_of, topic_id, uuid};
use crate::{Gateway, now_ms};

/// The greatest answer, whatever the client asks for: as Fetch's.
const RESPONSE_BYTES_MAX: i32 = 55 << 20;

pub async fn handle<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: ShareFetchRequest,
) -> Held<ShareFetchResponse> {
    fetch(gateway, context, request).await.unwrap_or_else(|code| {
        let (error_code, error_message) = (code.code(), code.text());
        let reply = ShareFetchResponse { error_code, error_message, ..Default::default() };
        Held { reply, memory: gateway.answer_memory.nothing() }
    })
}

async fn fetch<C: Core>(
    gateway: &Arc<Gateway<C>>,
    context: &Context,
    request: ShareFetchRequest,
) -> Result<Held<ShareFetchResponse>, ErrorCode> {
    let key = session_key(request.group_id.clone(), request.member_id.clone())?;
    gateway.check(context, Operation::Read, Resource::Group(&key.group))?;
    let asked = Asked::read(gateway, context, &request);
    let is_final = request.share_session_epoch == FINAL_EPOCH;
    let partitions = if is_final {
        gateway.share_sessions.end(&key)?;
        Vec::new()
    } else {
        if request.share_session_epoch == INITIAL_EPOCH && asked.acknowledges {
            return Err(ErrorCode::InvalidRequest);
        }
        let (epoch, connection) = (request.share_session_epoch, context.peer.address);
        gateway.share_sessions.fetch(&key, epoch, connection, &asked.added, &asked.forgotten)?
    };
    let mut answer = Answer { responses: asked.responses };
    let has_errors = answer.responses.iter().any(|topic| topic.partitions.iter().any(|one| one.error_code != 0));
    for ((topic, partition), code) in asked.settling.settle(gateway, &key).await {
        let place = &mut answer.responses[topic].partitions[partition];
        (place.acknowledge_error_code, place.acknowledge_error_message) = (code.code(), code.text());
    }
    // What was allowed when it came into the session may not be any more.
    let (partitions, denied): (Vec<_>, Vec<_>) = partitions.into_iter().partition(|id| {
        let topic = gateway.topic_by_id(id.topic);
        let may_read = |name: &str| gateway.check(context, Operation::Read, Resource::Topic(name)).is_ok();
        topic.is_none_or(|topic| may_read(&topic.topic.name))
    });
    for partition in &denied {
        answer.refuse(*partition, ErrorCode::TopicAuthorizationFailed);
    }
    let has_errors = has_errors || !denied.is_empty();
    let config = gateway.group_configs.share(&key.group);
    let mut memory = gateway.answer_memory.nothing();
    if is_final {
        gateway.release_share(key).await;
    } else if request.max_records > 0 && request.max_bytes > 0 && !partitions.is_empty() {
        let limits = Limits {
            bytes_min: request.min_bytes.max(0) as u64,
            bytes_max: request.max_bytes.clamp(0, RESPONSE_BYTES_MAX) as u64,
            // An error is told at once.
            wait: if has_errors { Duration::ZERO } else { Duration::from_millis(request.max_wait_ms.max(0) as u64) },
        };
        let acquire = acquire_request(gateway, &key, &request, &config, partitions.clone());
        let acquire = |limits: Limits| {
            gateway.core.acquire(AcquireRequest {
                credit_bytes: limits.bytes_max as u32,
                bytes_min: limits.bytes_min as u32,
                wait: limits.wait,
                ..acquire.clone()
            })
        };
        let acquired;
        (acquired, memory) = gateway.answer_memory.read(&context.peer.backlog, limits, acquire, brought).await;
        for (partition, acquired) in partitions.into_iter().zip(acquired) {
            answer.fill(partition, acquired, request.batch_size);
        }
    }
    let reply = ShareFetchResponse {
        acquisition_lock_timeout_ms: config.lock_duration.as_millis() as i32,
        responses: answer.responses,
        ..Default::default()
    };
    Ok(Held { reply, memory })
}

/// What was acquired must be told, however little it is.
fn brought(acquired: &AcquireAnswer) -> Brought {
    let batches = acquired.iter().flatten().flat_map(|acquired| &acquired.batches);
    let bytes = batches.map(|batch| batch.payload.len() as u64).sum();
    let is_told = |answer: &Result<Acquired, LeaseError>| !matches!(answer, Ok(acquired) if acquired.ranges.is_empty());
    Brought { bytes, is_final: acquired.iter().any(is_told) }
}

/// What to acquire, but for the limits of one read.
fn acquire_request<C: Core>(
    gateway: &Gateway<C>,
    key: &SessionKey,
    request: &ShareFetchRequest,
    config: &ShareConfig,
    partitions: Vec<PartitionId>,
) -> AcquireRequest {
    AcquireRequest {
        group: gateway.share_group_name(&key.group),
        partitions,
        holder: key.member.clone(),
        lease: Lease::Timed(config.lock_duration),
        mode: AcquireMode::Batch,
        credit_messages: request.max_records as u32,
        credit_bytes: 0,
        bytes_min: 0,
        window_messages: RECORD_LOCKS_MAX,
        acquisitions_max: Some(DELIVERIES_MAX),
        start: config.start.seek(now_ms()),
        isolation: config.isolation,
        wait: Duration::ZERO,
    }
}

/// What a request says of partitions.
#[derive(Default)]
struct Asked {
    added: Vec<PartitionId>,
    forgotten: Vec<PartitionId>,
    settling: Settling,
    acknowledges: bool,
    /// The partitions that are answered whether or not records are found: with acknowledgements, or an error.
    responses: Vec<ShareFetchableTopicResponse>,
}

impl Asked {
    fn read<C: Core>(gateway: &Gateway<C>, context: &Context, request: &ShareFetchRequest) -> Asked {
        let mut asked = Asked::default();
        for topic in &request.topics {
            let found = gateway.topic_by_id(topic_id(topic.topic_id));
            let mut partitions = Vec::new();
            for partition in &topic.partitions {
                let id = match &found {
                    Some(found) => {
                        gateway.check(context, Operation::Read, Resource::Topic(&found.topic.name)).and_then(|()| {
                            let id = partition_of(found, partition.partition_index);
                            id.ok_or(ErrorCode::UnknownTopicOrPartition)
                        })
                    }
                    None => Err(ErrorCode::UnknownTopicId),
                };
                let mut place = empty(partition.partition_index);
                let batches = &partition.acknowledgement_batches;
                asked.acknowledges |= !batches.is_empty();
                let id = match id {
                    Ok(id) => id,
                    Err(code) => {
                        (place.error_code, place.error_message) = (code.code(), code.text());
                        place.acknowledge_error_code = if batches.is_empty() { 0 } else { code.code() };
                        partitions.push(place);
                        continue;
                    }
                };
                asked.added.push(id);
                if batches.is_empty() {
                    continue;
                }
                let batches = batches.iter();
                let ranges = settle_ranges(
                    batches.map(|batch| (batch.first_offset, batch.last_offset, batch.acknowledge_types.as_slice())),
                );
                match ranges {
                    Ok(ranges) => asked.settling.add((asked.responses.len(), partitions.len()), id, ranges),
                    Err(code) => place.acknowledge_error_code = code.code(),
                }
                partitions.push(place);
            }
            if !partitions.is_empty() {
                asked.responses.push(ShareFetchableTopicResponse { topic_id: topic.topic_id, partitions });
            }
        }
        for topic in &request.forgotten_topics_data {
            let id = |index: &i32| {
                let index = u32::try_from(*index).ok()?;
                Some(PartitionId { topic: topic_id(topic.topic_id), index })
            };
            asked.forgotten.extend(topic.partitions.iter().filter_map(id));
        }
        asked
    }
}

struct Answer {
    responses: Vec<ShareFetchableTopicResponse>,
}

impl Answer {
    /// Puts in what was acquired. A partition with nothing to say is left out.
    fn fill(&mut self, partition: PartitionId, acquired: Result<Acquired, LeaseError>, batch_size: i32) {
        match acquired {
            Ok(acquired) if acquired.ranges.is_empty() => {}
            Ok(acquired) => {
                let place = self.place(partition);
                match fetched::records(acquired.batches) {
                    Ok(records) => {
                        place.records = Some(records);
                        place.acquired_records = acquired_records(&acquired.ranges, batch_size);
                    }
                    Err(code) => place.error_code = code.code(),
                }
            }
            Err(error) => self.refuse(partition, (&error).into()),
        }
    }

    fn refuse(&mut self, partition: PartitionId, code: ErrorCode) {
        let place = self.place(partition);
        (place.error_code, place.error_message) = (code.code(), code.text());
    }

    fn place(&mut self, partition: PartitionId) -> &mut PartitionData {
        let topic: Uuid = uuid(partition.topic);
        let at = self.responses.iter().position(|response| response.topic_id == topic).unwrap_or_else(|| {
            self.responses.push(ShareFetchableTopicResponse { topic_id: topic, partitions: Vec::new() });
            self.responses.len() - 1
        });
        let partitions = &mut self.responses[at].partitions;
        let index = partition.index as i32;
        let at = partitions.iter().position(|place| place.partition_index == index).unwrap_or_else(|| {
            partitions.push(empty(index));
            partitions.len() - 1
        });
        &mut partitions[at]
    }
}

fn empty(partition_index: i32) -> PartitionData {
    PartitionData { partition_index, records: Some(RecordChunks::default()), ..Default::default() }
}

/// The acquired ranges, one for each batch; joined while there are fewer than `batch_size` records.
fn acquired_records(ranges: &[AcquiredRange], batch_size: i32) -> Vec<AcquiredRecords> {
    let mut records: Vec<AcquiredRecords> = Vec::with_capacity(ranges.len());
    for range in ranges {
        let (first, last) = (range.first as i64, range.last as i64);
        let delivery_count = i16::try_from(range.acquisitions).unwrap_or(i16::MAX);
        match records.last_mut() {
            Some(before)
                if before.last_offset + 1 == first
                    && before.delivery_count == delivery_count
                    && before.last_offset - before.first_offset + 1 < i64::from(batch_size) =>
            {
                before.last_offset = last;
            }
            _ => records.push(AcquiredRecords { first_offset: first, last_offset: last, delivery_count }),
        }
    }
    records
}
