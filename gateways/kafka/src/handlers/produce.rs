//! Produce (0), versions 3 to 13: appends record batches.
//!
//! - Acknowledged when the topic's durability is met, also with `acks=1`; `acks=0` is not answered, and the connection
//!   is closed after an error, as Kafka does it.
//! - `timeout_ms` bounds waiting for replicas; there are none.
//! - A transactional batch is appended if its transaction is open: announced by AddPartitionsToTxn, or, from version 12 on
//!   (KIP-890), begun by the first append. Without a transactional id: TRANSACTIONAL_ID_AUTHORIZATION_FAILED, as by Kafka.
//! - The appends are handed to the core when the answer is first polled, which keeps their order on a connection. Where a
//!   transaction must be begun first, the requests behind wait.

use bytes::Bytes;
use codec_kafka::messages::ProduceRequest;
use codec_kafka::messages::produce::{
    BatchIndexAndErrorMessage, PartitionProduceData, PartitionProduceResponse, ProduceResponse, TopicProduceData,
    TopicProduceResponse,
};
use codec_record::BatchFlags;
use codec_record::kafka_batch::BatchHeader;
use core_rpc::{Append, AppendError, AppendRequest, Appended, Core, PartitionId};

use super::{Answer, Context, Reply, Throttled, throttle_time_ms};
use crate::errors::ErrorCode;
use crate::state::internal_topics::is_internal;
use crate::state::quotas::Kind;
use crate::state::security::{Operation, Resource};
use crate::state::transactions::{Addition, ProducerEpoch};
use crate::translate::produced::{Accepted, Refused, accept};
use crate::translate::{partition_of, topic_id};
use crate::{Gateway, Topic, now_ms};

/// The first version that names topics by id.
const TOPIC_ID_VERSION: i16 = 13;
/// The first version that knows TRANSACTION_ABORTABLE.
const ABORTABLE_VERSION: i16 = 11;
/// The first version whose clients announce no partitions.
const IMPLICIT_VERSION: i16 = 12;

/// A response that is sent, or only looked at for errors.
pub enum ProduceReply {
    Sent(ProduceResponse),
    Silent { failed: bool },
}

impl Reply for ProduceReply {
    fn answer(self, context: &Context) -> Answer {
        match self {
            ProduceReply::Sent(response) => response.answer(context),
            ProduceReply::Silent { failed: false } => Answer::Nothing,
            // The only way to tell a client that does not listen.
            ProduceReply::Silent { failed: true } => Answer::Close,
        }
    }

    fn errors(&self) -> usize {
        match self {
            ProduceReply::Sent(response) => Reply::errors(response),
            ProduceReply::Silent { failed } => usize::from(*failed),
        }
    }

    fn raise_throttle_time_ms(&mut self, time_ms: i32) {
        if let ProduceReply::Sent(response) = self {
            Reply::raise_throttle_time_ms(response, time_ms);
        }
    }
}

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: ProduceRequest,
) -> Throttled<ProduceReply> {
    let mut reply = append(gateway, context, request).await;
    let (user, client) = (context.user(), context.client());
    let silence = gateway.quotas.used(Kind::Produce, user.name(), client, context.request_bytes, now_ms());
    if let ProduceReply::Sent(response) = &mut reply {
        response.throttle_time_ms = throttle_time_ms(silence);
    }
    Throttled { reply, silence }
}

async fn append<C: Core>(gateway: &Gateway<C>, context: &Context, request: ProduceRequest) -> ProduceReply {
    let acks = request.acks;
    let transactional_id = request.transactional_id.clone();
    let (mut response, mut prepared) = prepare(gateway, context, request);
    if prepared.iter().any(|(append, _)| is_transactional(append)) {
        admit(gateway, context, transactional_id.as_deref(), &mut prepared, &mut response).await;
    }
    if !prepared.is_empty() {
        let (appends, places): (Vec<_>, Vec<_>) = prepared.into_iter().unzip();
        let answers = gateway.core.append(AppendRequest { appends }).await;
        for ((topic, partition, append_time_ms), answer) in places.into_iter().zip(answers) {
            let place = &mut response.responses[topic].partition_responses[partition];
            match answer {
                Ok(appended) => fill_appended(place, appended, append_time_ms),
                Err(error) => fill_error(place, &error),
            }
        }
    }
    if acks != 0 {
        return ProduceReply::Sent(response);
    }
    let mut partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    ProduceReply::Silent { failed: partitions.any(|partition| partition.error_code != 0) }
}

/// Whether nothing must be begun or asked before the request's batches can be appended.
pub(super) fn is_admitted<C: Core>(gateway: &Gateway<C>, request: &ProduceRequest) -> bool {
    let Some(id) = &request.transactional_id else { return true };
    let partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    let headers = partitions.filter_map(|partition| BatchHeader::parse(partition.records.as_ref()?).ok());
    // Partitions of those that announce them are looked for when the batch is appended.
    headers.filter(|header| header.attributes.is_transactional()).all(|header| {
        let producer = ProducerEpoch { id: header.producer_id, epoch: header.producer_epoch };
        gateway.transactions.is_open(id, producer, &Addition::default(), false)
    })
}

fn is_transactional(append: &Append) -> bool {
    append.batch.header.flags.contains(BatchFlags::TRANSACTIONAL)
}

/// Takes out the appends that their transaction does not admit, with the error in their places.
async fn admit<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    transactional_id: Option<&str>,
    appends: &mut Vec<(Append, Place)>,
    response: &mut ProduceResponse,
) {
    let producer_of = |append: &Append| {
        let producer = append.batch.header.producer.filter(|_| is_transactional(append))?;
        Some(ProducerEpoch { id: producer.id, epoch: producer.epoch })
    };
    // One, from any client that there is.
    let mut producers: Vec<ProducerEpoch> = Vec::new();
    for producer in appends.iter().filter_map(|(append, _)| producer_of(append)) {
        if !producers.contains(&producer) {
            producers.push(producer);
        }
    }
    let version = context.version;
    let implicit = version >= IMPLICIT_VERSION;
    let may_write = |id: &&str| gateway.check(context, Operation::Write, Resource::TransactionalId(id)).is_ok();
    let transactional_id = transactional_id.filter(may_write);
    for producer in producers {
        let of_producer = appends.iter().filter(|(append, _)| producer_of(append) == Some(producer));
        let partitions = of_producer.map(|(append, _)| append.partition).collect();
        let addition = Addition { partitions, offsets_partition: None };
        let admitted = match transactional_id {
            Some(id) => {
                let admitted = gateway.transactions.admit(id, producer, addition, !implicit).await;
                admitted.map_err(|error| ErrorCode::of_admission(error, version >= ABORTABLE_VERSION, implicit))
            }
            None => Err(ErrorCode::TransactionalIdAuthorizationFailed),
        };
        let Err(code) = admitted else { continue };
        appends.retain(|(append, (topic, partition, _))| {
            let is_refused = producer_of(append) == Some(producer);
            if is_refused {
                fill_refused(&mut response.responses[*topic].partition_responses[*partition], code.into());
            }
            !is_refused
        });
    }
}

/// Where the answer to an append goes: topic and partition in the response; and the time that the broker gave.
type Place = (usize, usize, Option<i64>);

/// The response with all that is refused here, and the appends that fill the rest of it.
fn prepare<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: ProduceRequest,
) -> (ProduceResponse, Vec<(Append, Place)>) {
    let version = context.version;
    let now_ms = now_ms();
    let mut appends = Vec::new();
    let mut response = ProduceResponse::default();
    let refused = refuse_request(&request);
    for TopicProduceData { name, topic_id: uuid, partition_data } in request.topic_data {
        let topic = match version >= TOPIC_ID_VERSION {
            true => gateway.topic_by_id_for(context, Operation::Write, topic_id(uuid)),
            false => gateway.topic_for(context, Operation::Write, &name),
        };
        let mut partition_responses = Vec::with_capacity(partition_data.len());
        for PartitionProduceData { index, records } in partition_data {
            let mut place = PartitionProduceResponse { index, base_offset: -1, ..Default::default() };
            let accepted = match (refused, &topic) {
                (Some(code), _) => Err(code.into()),
                (None, Err(code)) => Err((*code).into()),
                (None, Ok(topic)) => accept_partition(topic, index, records, version, now_ms),
            };
            match accepted {
                Ok((partition, accepted)) => {
                    let place = (response.responses.len(), partition_responses.len(), accepted.append_time_ms);
                    appends.push((Append { partition, batch: accepted.batch }, place));
                }
                Err(refused) => fill_refused(&mut place, refused),
            }
            partition_responses.push(place);
        }
        response.responses.push(TopicProduceResponse { name, topic_id: uuid, partition_responses });
    }
    (response, appends)
}

/// What is wrong with the request as a whole.
fn refuse_request(request: &ProduceRequest) -> Option<ErrorCode> {
    (!matches!(request.acks, -1..=1)).then_some(ErrorCode::InvalidRequiredAcks)
}

fn accept_partition(
    topic: &Topic,
    index: i32,
    records: Option<Bytes>,
    version: i16,
    now_ms: i64,
) -> Result<(PartitionId, Accepted), Refused> {
    let partition = partition_of(topic, index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if is_internal(&topic.topic.name) {
        // Kafka's words for a topic that only the broker writes.
        return Err(ErrorCode::InvalidTopicException.into());
    }
    Ok((partition, accept(records, version, &topic.view, now_ms)?))
}

fn fill_appended(place: &mut PartitionProduceResponse, appended: Appended, append_time_ms: Option<i64>) {
    place.base_offset = appended.base_offset as i64;
    place.log_append_time_ms = append_time_ms.unwrap_or(-1);
    place.log_start_offset = appended.start_offset as i64;
}

fn fill_error(place: &mut PartitionProduceResponse, error: &AppendError) {
    place.error_code = ErrorCode::from(error).code();
    place.error_message = Some(error.to_string());
}

fn fill_refused(place: &mut PartitionProduceResponse, refused: Refused) {
    place.error_code = refused.code.code();
    place.error_message = Some(refused.message);
    let error = |(batch_index, message)| BatchIndexAndErrorMessage {
        batch_index,
        batch_index_error_message: Some(message),
    };
    place.record_errors = refused.records.into_iter().map(error).collect();
}
