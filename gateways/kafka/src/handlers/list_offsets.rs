//! ListOffsets (2), versions 1 to 10: finds offsets by time, or the first and last ones.
//!
//! - There is no tiered storage: -4 (earliest kept locally) is as -2, and -5 (latest in tiered storage) finds nothing.
//! - `timeout_ms` is for lookups in tiered storage.
//! - With isolation level 1 (committed) nothing is found from the stable offset on, whatever is asked for.

use std::collections::HashSet;

use codec_kafka::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use core_rpc::{Core, FoundOffset, OffsetAt, OffsetsAnswer, OffsetsRequest, PartitionId};

use super::Context;
use crate::errors::ErrorCode;
use crate::translate::{LEADER_EPOCH, check_leader_epoch, partition_of};
use crate::{Gateway, Topic};
use crate::state::security::Operation;

/// The timestamps with a meaning of their own, and the first version that knows each.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

/// The isolation level that does not see open transactions.
const COMMITTED: i8 = 1;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let mut response = ListOffsetsResponse::default();
    let mut queries = Vec::new();
    let mut places = Vec::new();
    let mut seen = HashSet::new();
    for asked in &request.topics {
        let topic = gateway.topic_for(context, Operation::Describe, &asked.name);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in &asked.partitions {
            let mut place =
                ListOffsetsPartitionResponse { partition_index: partition.partition_index, ..Default::default() };
            let twice = !seen.insert((&asked.name, partition.partition_index));
            match query(topic.as_deref().map_err(|code| *code), partition, context.version, request.isolation_level, twice) {
                Ok(Some(query)) => {
                    queries.push(query);
                    places.push((response.topics.len(), partitions.len()));
                }
                Ok(None) => {}
                Err(code) => place.error_code = code.code(),
            }
            partitions.push(place);
        }
        response.topics.push(ListOffsetsTopicResponse { name: asked.name.clone(), partitions });
    }
    if !queries.is_empty() {
        let answers = match request.isolation_level {
            COMMITTED => find_committed(gateway, queries).await,
            _ => gateway.core.offsets(OffsetsRequest { queries }).await,
        };
        for ((topic, partition), answer) in places.into_iter().zip(answers) {
            let place = &mut response.topics[topic].partitions[partition];
            match answer {
                Ok(found) => fill(place, found),
                Err(error) => place.error_code = ErrorCode::from(&error).code(),
            }
        }
    }
    response
}

/// What is found by its time is not found if it is not stable. (All stays stable that was so before it was found.)
async fn find_committed<C: Core>(gateway: &Gateway<C>, queries: Vec<(PartitionId, OffsetAt)>) -> OffsetsAnswer {
    let by_time = |at: &OffsetAt| matches!(at, OffsetAt::Time(_) | OffsetAt::MaxTime);
    let timed = queries.iter().filter(|(_, at)| by_time(at));
    let stable: Vec<_> = timed.map(|(partition, _)| (*partition, OffsetAt::Stable)).collect();
    let bounds = match stable.is_empty() {
        true => Vec::new(),
        false => gateway.core.offsets(OffsetsRequest { queries: stable }).await,
    };
    let mut bounds = bounds.into_iter();
    let mut answers = gateway.core.offsets(OffsetsRequest { queries: queries.clone() }).await;
    for ((_, at), answer) in queries.iter().zip(&mut answers) {
        if !by_time(at) {
            continue;
        }
        match (bounds.next(), &*answer) {
            (Some(Ok(bound)), Ok(found)) if found.offset >= bound.offset => {
                *answer = Ok(FoundOffset { offset: None, time_ms: -1 });
            }
            (Some(Err(error)), Ok(_)) => *answer = Err(error),
            _ => {}
        }
    }
    answers
}

/// What to ask the core; None where the answer is that there is nothing.
fn query(
    topic: Result<&Topic, ErrorCode>,
    asked: &ListOffsetsPartition,
    version: i16,
    isolation_level: i8,
    twice: bool,
) -> Result<Option<(PartitionId, OffsetAt)>, ErrorCode> {
    if twice {
        return Err(ErrorCode::InvalidRequest);
    }
    let at = match (asked.timestamp, isolation_level) {
        (LATEST, 0) => OffsetAt::Latest,
        (LATEST, COMMITTED) => OffsetAt::Stable,
        (_, level) if !matches!(level, 0 | COMMITTED) => return Err(ErrorCode::InvalidRequest),
        (EARLIEST, _) => OffsetAt::Earliest,
        (MAX_TIMESTAMP, _) if version >= 7 => OffsetAt::MaxTime,
        (EARLIEST_LOCAL, _) if version >= 8 => OffsetAt::Earliest,
        (LATEST_TIERED, _) if version >= 9 => OffsetAt::Earliest,
        (time, _) if time >= 0 => OffsetAt::Time(time),
        _ => return Err(ErrorCode::UnsupportedVersion),
    };
    let partition = partition_of(topic?, asked.partition_index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    check_leader_epoch(asked.current_leader_epoch)?;
    Ok((asked.timestamp != LATEST_TIERED).then_some((partition, at)))
}

fn fill(place: &mut ListOffsetsPartitionResponse, found: FoundOffset) {
    if let Some(offset) = found.offset {
        place.offset = offset as i64;
        place.timestamp = found.time_ms;
        place.leader_epoch = LEADER_EPOCH;
    }
}
