//! Fetch (1), versions 4 to 18: reads record batches, waiting for them if there are none yet.
//!
//! - Version 7 (KIP-227): fetch sessions; see [`crate::state::fetch_sessions`].
//! - There are no followers: a fetch with a replica id is refused.
//! - The leader epoch of every partition is 0.

use std::sync::Arc;
use std::time::Duration;

use codec_kafka::messages::fetch::{
    AbortedTransaction, EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse, ForgottenTopic,
    PartitionData,
};
use codec_kafka::{RecordChunks, Uuid};
use core_rpc::{Core, FetchError, Fetched, Isolation, PartitionId};

use super::{Context, Throttled, throttle_time_ms};
use crate::errors::ErrorCode;
use crate::state::fetch_sessions::{Asked, Forgotten, Told, TopicKey, Wanted};
use crate::state::security::Operation;
use crate::state::quotas::Kind;
use crate::translate::{LEADER_EPOCH, check_leader_epoch, fetched, partition_of, topic_id};
use crate::{Gateway, Topic, now_ms};

/// The first version that names topics by id.
const TOPIC_ID_VERSION: i16 = 13;

/// The greatest answer, whatever the client asks for: Kafka's default of `fetch.max.bytes`.
const RESPONSE_BYTES_MAX: i32 = 55 << 20;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    mut request: FetchRequest,
) -> Throttled<FetchResponse> {
    let (user, client) = (context.user(), context.client());
    // An answer is never so large that its client would have to be silent for ever.
    if let Some(bytes_max) = gateway.quotas.at_once(Kind::Fetch, user.name(), client) {
        request.max_bytes = request.max_bytes.min(i32::try_from(bytes_max).unwrap_or(i32::MAX));
    }
    let mut reply = fetch(gateway, context, request).await;
    let partitions = reply.responses.iter().flat_map(|topic| &topic.partitions);
    let bytes = partitions.filter_map(|partition| Some(partition.records.as_ref()?.len())).sum();
    let silence = gateway.quotas.used(Kind::Fetch, user.name(), client, bytes, now_ms());
    reply.throttle_time_ms = throttle_time_ms(silence);
    Throttled { reply, silence }
}

async fn fetch<C: Core>(gateway: &Gateway<C>, context: &Context, mut request: FetchRequest) -> FetchResponse {
    let failed = |code: ErrorCode| FetchResponse { error_code: code.code(), ..Default::default() };
    let isolation = match request.isolation_level {
        0 => Isolation::All,
        1 => Isolation::Committed,
        _ => return failed(ErrorCode::InvalidRequest),
    };
    let asked = asked(&mut request, context.version >= TOPIC_ID_VERSION);
    let fetching = match gateway.fetch_sessions.begin(asked, now_ms()) {
        Ok(fetching) => fetching,
        Err(error) => return failed(error.into()),
    };
    let places = read(gateway, context, &request, &fetching.wanted, isolation).await;
    let told: Vec<Told> = places.iter().map(told).collect();
    let topics: Vec<TopicKey> = fetching.wanted.iter().map(|wanted| wanted.topic.clone()).collect();
    let finished = match gateway.fetch_sessions.finish(fetching, &told, now_ms()) {
        Ok(finished) => finished,
        Err(error) => return failed(error.into()),
    };
    let is_sent = |index: usize| finished.sent.as_ref().is_none_or(|sent| sent[index]);
    let places = topics.into_iter().zip(places).enumerate().filter(|(index, _)| is_sent(*index));
    FetchResponse {
        session_id: finished.session_id,
        responses: by_topic(places.map(|(_, place)| place)),
        ..Default::default()
    }
}

/// Takes what concerns sessions out of a request.
fn asked(request: &mut FetchRequest, uses_ids: bool) -> Asked {
    let key = |name: &str, id: Uuid| if uses_ids { TopicKey::Id(id) } else { TopicKey::Name(Arc::from(name)) };
    let mut wanted = Vec::with_capacity(request.topics.iter().map(|topic| topic.partitions.len()).sum());
    for topic in std::mem::take(&mut request.topics) {
        let key = key(&topic.topic, topic.topic_id);
        wanted.extend(topic.partitions.into_iter().map(|partition| Wanted {
            topic: key.clone(),
            partition: partition.partition,
            current_leader_epoch: partition.current_leader_epoch,
            fetch_offset: partition.fetch_offset,
            last_fetched_epoch: partition.last_fetched_epoch,
            bytes_max: partition.partition_max_bytes,
        }));
    }
    let forgotten = std::mem::take(&mut request.forgotten_topics_data).into_iter().flat_map(|topic: ForgottenTopic| {
        let key = key(&topic.topic, topic.topic_id);
        topic.partitions.into_iter().map(move |partition| Forgotten { topic: key.clone(), partition })
    });
    Asked {
        session_id: request.session_id,
        epoch: request.session_epoch,
        uses_ids,
        wanted,
        forgotten: forgotten.collect(),
    }
}

/// Reads all partitions; the answers are in their order.
async fn read<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: &FetchRequest,
    wanted: &[Wanted],
    isolation: Isolation,
) -> Vec<PartitionData> {
    let is_follower = request.replica_id >= 0 || request.replica_state.replica_id >= 0;
    let mut places: Vec<PartitionData> = wanted.iter().map(|wanted| empty(wanted.partition)).collect();
    let mut partitions = Vec::with_capacity(wanted.len());
    let mut indexes = Vec::with_capacity(wanted.len());
    let mut refused = false;
    let mut found: Option<(&TopicKey, Result<Arc<Topic>, ErrorCode>)> = None;
    for (index, wanted) in wanted.iter().enumerate() {
        // Partitions of one topic usually follow each other.
        if found.as_ref().is_none_or(|(key, _)| *key != &wanted.topic) {
            found = Some((&wanted.topic, topic(gateway, context, &wanted.topic)));
        }
        let checked = match &found {
            Some((_, Ok(_))) if is_follower => Err(ErrorCode::NotLeaderOrFollower),
            Some((_, Ok(topic))) => check(partition_of(topic, wanted.partition), wanted),
            Some((_, Err(code))) => Err(*code),
            None => Err(ErrorCode::UnknownTopicOrPartition),
        };
        let place = &mut places[index];
        match checked {
            Ok(_) if wanted.last_fetched_epoch > LEADER_EPOCH => {
                // There never was such an epoch: what the client has of it, it must forget.
                place.diverging_epoch = EpochEndOffset { epoch: LEADER_EPOCH, end_offset: wanted.fetch_offset };
                refused = true;
            }
            Ok(partition) => {
                partitions.push(partition);
                indexes.push(index);
            }
            Err(code) => {
                place.error_code = code.code();
                refused = true;
            }
        }
    }
    if partitions.is_empty() {
        return places;
    }
    let fetch = core_rpc::FetchRequest {
        partitions,
        bytes_min: request.min_bytes.max(0) as u32,
        bytes_max: request.max_bytes.clamp(0, RESPONSE_BYTES_MAX) as u32,
        // An error is told at once.
        wait: if refused { Duration::ZERO } else { Duration::from_millis(request.max_wait_ms.max(0) as u64) },
        isolation,
    };
    let answers = gateway.core.fetch(fetch).await;
    for (index, answer) in indexes.into_iter().zip(answers) {
        match answer {
            Ok(fetched) => fill_fetched(&mut places[index], fetched, isolation),
            Err(error) => fill_error(&mut places[index], &error),
        }
    }
    places
}

fn topic<C: Core>(gateway: &Gateway<C>, context: &Context, key: &TopicKey) -> Result<Arc<Topic>, ErrorCode> {
    match key {
        TopicKey::Name(name) => gateway.topic_for(context, Operation::Read, name),
        TopicKey::Id(id) => gateway.topic_by_id_for(context, Operation::Read, topic_id(*id)),
    }
}

fn told(place: &PartitionData) -> Told {
    Told {
        high_watermark: place.high_watermark,
        last_stable_offset: place.last_stable_offset,
        log_start_offset: place.log_start_offset,
        has_records: place.records.as_ref().is_some_and(|records| !records.0.is_empty()),
        is_error: place.error_code != 0 || place.diverging_epoch != EpochEndOffset::default(),
    }
}

/// Puts partitions of one topic that follow each other together.
fn by_topic(places: impl Iterator<Item = (TopicKey, PartitionData)>) -> Vec<FetchableTopicResponse> {
    let mut responses: Vec<FetchableTopicResponse> = Vec::new();
    let mut last: Option<TopicKey> = None;
    for (key, place) in places {
        if last.as_ref() != Some(&key) {
            let (topic, topic_id) = match &key {
                TopicKey::Name(name) => (name.to_string(), Uuid::ZERO),
                TopicKey::Id(id) => (String::new(), *id),
            };
            responses.push(FetchableTopicResponse { topic, topic_id, partitions: Vec::new() });
            last = Some(key);
        }
        if let Some(response) = responses.last_mut() {
            response.partitions.push(place);
        }
    }
    responses
}

fn check(partition: Option<PartitionId>, asked: &Wanted) -> Result<core_rpc::FetchPartition, ErrorCode> {
    let partition = partition.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    check_leader_epoch(asked.current_leader_epoch)?;
    let offset = u64::try_from(asked.fetch_offset).map_err(|_| ErrorCode::OffsetOutOfRange)?;
    let bytes_max = asked.bytes_max.max(0) as u32;
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
    let aborted = |aborted: core_rpc::AbortedTransaction| AbortedTransaction {
        producer_id: aborted.producer_id,
        first_offset: aborted.first_offset as i64,
    };
    place.aborted_transactions =
        (isolation == Isolation::Committed).then(|| fetched.aborted.into_iter().map(aborted).collect());
}

fn fill_error(place: &mut PartitionData, error: &FetchError) {
    place.error_code = ErrorCode::from(error).code();
}
