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
use core_rpc::{Bounds, Core, FetchAnswer, Fetched, Isolation, PartitionId};

use super::{Context, Held, Throttled, throttle_time_ms};
use crate::errors::ErrorCode;
use crate::state::fetch_sessions::{Asked, Forgotten, Told, TopicKey, Wanted};
use crate::state::quotas::Kind;
use crate::state::security::Operation;
use crate::state::{Brought, Limits, Reserved};
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
) -> Throttled<Held<FetchResponse>> {
    let (user, client) = (context.user(), context.client());
    // An answer is never so large that its client would have to be silent for ever.
    if let Some(bytes_max) = gateway.quotas.at_once(Kind::Fetch, user.name(), client) {
        request.max_bytes = request.max_bytes.min(i32::try_from(bytes_max).unwrap_or(i32::MAX));
    }
    let (mut reply, memory) = fetch(gateway, context, request).await;
    let partitions = reply.responses.iter().flat_map(|topic| &topic.partitions);
    let bytes = partitions.filter_map(|partition| Some(partition.records.as_ref()?.len())).sum();
    let silence = gateway.quotas.used(Kind::Fetch, user.name(), client, bytes, now_ms());
    reply.throttle_time_ms = throttle_time_ms(silence);
    Throttled { reply: Held { reply, memory }, silence }
}

async fn fetch<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    mut request: FetchRequest,
) -> (FetchResponse, Reserved) {
    let nothing = || gateway.answer_memory.nothing();
    let failed = |code: ErrorCode| (FetchResponse { error_code: code.code(), ..Default::default() }, nothing());
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
    let (places, memory) = read(gateway, context, &request, &fetching.wanted, isolation).await;
    let told: Vec<Told> = places.iter().map(Place::told).collect();
    let finished = match gateway.fetch_sessions.finish(&fetching, &told, now_ms()) {
        Ok(finished) => finished,
        Err(error) => return failed(error.into()),
    };
    let is_sent = |index: usize| finished.sent.as_ref().is_none_or(|sent| sent[index]);
    let places = fetching.wanted.iter().zip(places).enumerate().filter(|(index, _)| is_sent(*index));
    let places = places.map(|(_, (wanted, place))| (&wanted.topic, place.data(wanted.partition, isolation)));
    (FetchResponse { session_id: finished.session_id, responses: by_topic(places), ..Default::default() }, memory)
}

/// What is told of a partition, if it is told of at all: of thousands that a session has, it mostly is of few.
enum Place {
    /// There is nothing to read.
    Nothing(Bounds),
    Data(Box<PartitionData>),
}

impl Place {
    fn refused(partition: i32, code: ErrorCode) -> Place {
        Place::Data(Box::new(PartitionData { error_code: code.code(), ..empty(partition) }))
    }

    fn told(&self) -> Told {
        match self {
            Place::Nothing(bounds) => Told {
                high_watermark: bounds.end_offset as i64,
                last_stable_offset: bounds.stable_offset as i64,
                log_start_offset: bounds.start_offset as i64,
                has_records: false,
                is_error: false,
            },
            Place::Data(data) => Told {
                high_watermark: data.high_watermark,
                last_stable_offset: data.last_stable_offset,
                log_start_offset: data.log_start_offset,
                has_records: data.records.as_ref().is_some_and(|records| !records.0.is_empty()),
                is_error: data.error_code != 0 || data.diverging_epoch != EpochEndOffset::default(),
            },
        }
    }

    fn data(self, partition: i32, isolation: Isolation) -> PartitionData {
        match self {
            Place::Nothing(bounds) => {
                fetched_data(partition, Fetched { bounds, batches: Vec::new(), aborted: Vec::new() }, isolation)
            }
            Place::Data(data) => *data,
        }
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
) -> (Vec<Place>, Reserved) {
    let is_follower = request.replica_id >= 0 || request.replica_state.replica_id >= 0;
    let mut places: Vec<Place> = Vec::with_capacity(wanted.len());
    let mut partitions = Vec::with_capacity(wanted.len());
    let mut refused = false;
    let mut found: Option<(&TopicKey, Result<Arc<Topic>, ErrorCode>)> = None;
    for wanted in wanted {
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
        match checked {
            Ok(_) if wanted.last_fetched_epoch > LEADER_EPOCH => {
                // There never was such an epoch: what the client has of it, it must forget.
                let diverging_epoch = EpochEndOffset { epoch: LEADER_EPOCH, end_offset: wanted.fetch_offset };
                places.push(Place::Data(Box::new(PartitionData { diverging_epoch, ..empty(wanted.partition) })));
                refused = true;
            }
            Ok(partition) => {
                partitions.push((places.len(), partition));
                places.push(Place::Nothing(Bounds::default()));
            }
            Err(code) => {
                places.push(Place::refused(wanted.partition, code));
                refused = true;
            }
        }
    }
    if partitions.is_empty() {
        return (places, gateway.answer_memory.nothing());
    }
    let (indexes, partitions): (Vec<usize>, Vec<_>) = partitions.into_iter().unzip();
    let asked_bytes: u64 = partitions.iter().map(|partition| u64::from(partition.bytes_max)).sum();
    let limits = Limits {
        bytes_min: request.min_bytes.max(0) as u64,
        bytes_max: asked_bytes.min(request.max_bytes.clamp(0, RESPONSE_BYTES_MAX) as u64),
        // An error is told at once.
        wait: if refused { Duration::ZERO } else { Duration::from_millis(request.max_wait_ms.max(0) as u64) },
    };
    let fetch = |limits: Limits| {
        gateway.core.fetch(core_rpc::FetchRequest {
            partitions: partitions.clone(),
            bytes_min: limits.bytes_min as u32,
            bytes_max: limits.bytes_max as u32,
            wait: limits.wait,
            isolation,
        })
    };
    let (answers, memory) = gateway.answer_memory.read(&context.peer.backlog, limits, fetch, brought).await;
    for (index, answer) in indexes.into_iter().zip(answers) {
        let partition = wanted[index].partition;
        places[index] = match answer {
            Ok(fetched) if fetched.batches.is_empty() => Place::Nothing(fetched.bounds),
            Ok(fetched) => Place::Data(Box::new(fetched_data(partition, fetched, isolation))),
            Err(error) => Place::refused(partition, ErrorCode::from(&error)),
        };
    }
    (places, memory)
}

fn brought(answers: &FetchAnswer) -> Brought {
    let bytes = answers.iter().flatten().flat_map(|fetched| &fetched.batches).map(|batch| batch.payload.len() as u64);
    Brought { bytes: bytes.sum(), is_final: answers.iter().any(Result::is_err) }
}

fn topic<C: Core>(gateway: &Gateway<C>, context: &Context, key: &TopicKey) -> Result<Arc<Topic>, ErrorCode> {
    match key {
        TopicKey::Name(name) => gateway.topic_for(context, Operation::Read, name),
        TopicKey::Id(id) => gateway.topic_by_id_for(context, Operation::Read, topic_id(*id)),
    }
}

/// Puts partitions of one topic that follow each other together.
fn by_topic<'a>(places: impl Iterator<Item = (&'a TopicKey, PartitionData)>) -> Vec<FetchableTopicResponse> {
    let mut responses: Vec<FetchableTopicResponse> = Vec::new();
    let mut last: Option<&TopicKey> = None;
    for (key, place) in places {
        if last != Some(key) {
            let (topic, topic_id) = match key {
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

fn fetched_data(partition: i32, fetched: Fetched, isolation: Isolation) -> PartitionData {
    let records = match fetched::records(fetched.batches) {
        Ok(records) => records,
        Err(code) => return PartitionData { error_code: code.code(), ..empty(partition) },
    };
    let aborted = |aborted: core_rpc::AbortedTransaction| AbortedTransaction {
        producer_id: aborted.producer_id,
        first_offset: aborted.first_offset as i64,
    };
    PartitionData {
        partition_index: partition,
        high_watermark: fetched.bounds.end_offset as i64,
        last_stable_offset: fetched.bounds.stable_offset as i64,
        log_start_offset: fetched.bounds.start_offset as i64,
        aborted_transactions: (isolation == Isolation::Committed)
            .then(|| fetched.aborted.into_iter().map(aborted).collect()),
        records: Some(records),
        ..Default::default()
    }
}
