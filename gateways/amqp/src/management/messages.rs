//! Publishing and getting messages by HTTP: `…/publish`, `…/get`. For people and tests, one message at a time.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use codec_amqp::{FieldTable, Properties, PropertyList, ShortStr};
use codec_record::Batch;
use codec_record::amqp_message::{MessageView, batch_of};
use codec_record::translate::amqp_messages;
use core_rpc::{
    AcquireMode, AcquireRequest, Append, AppendRequest, Core, Isolation, Lease, OffsetAt, PartitionId, SeekTo,
    SettleRange, SettleRequest, Settlement,
};
use serde_json::{Map, Value, json};

use super::call::{Call, Failure, Reply, integer, needed, text};
use crate::errors::Refusal;
use crate::now_ms;
use crate::state::access::Permission;
use crate::state::lifecycle::{Piece, Reason, expiry};
use crate::state::topology::{Argument, Arguments, Queue, Resource};

/// The most messages that one request takes.
const GET_MAX: i64 = 10_000;

/// Bytes of stored batches that one request takes.
const GET_BYTES_MAX: u32 = 64 << 20;

/// How long messages are held that a request has taken, should it not give them back.
const HELD: Duration = Duration::from_secs(30);

/// Puts a message into the queues that the exchange leads it to. As durable as the queues when it is answered.
pub(super) async fn publish<C: Core>(call: &Call<C>, vhost: &str, exchange: &str) -> Result<Reply, Failure> {
    let vhost = call.vhost_to_use(vhost)?;
    let said = call.object()?;
    let routing_key = needed(&said, "routing_key")?;
    let payload = needed(&said, "payload")?;
    let body = match text(&said, "payload_encoding").unwrap_or("string") {
        "string" => Bytes::copy_from_slice(payload.as_bytes()),
        "base64" => {
            STANDARD.decode(payload).map(Bytes::from).map_err(|_| Failure::bad_request("payload is no base64"))?
        }
        other => return Err(Failure::bad_request(format!("unsupported_encoding {other}"))),
    };
    if body.len() as u64 > call.gateway().config.message_bytes_max {
        let max = call.gateway().config.message_bytes_max;
        return Err(Failure::bad_request(format!("message size {} is larger than max size {max}", body.len())));
    }
    let properties = properties(said.get("properties"))?;
    let (access, user) = (&call.gateway().access, &call.user.name);
    access.check_user(user, &vhost, Permission::Write, Resource::Exchange(&vhost, exchange)).map_err(refused)?;
    let no_exchange = || refused(Refusal::not_found(format!("no exchange '{exchange}' in vhost '{vhost}'")));
    let routed = call.gateway().topology.route(&vhost, exchange, routing_key, &properties).ok_or_else(no_exchange)?;
    routed.exchange.check_publish().map_err(refused)?;
    access.check_topic(user, &vhost, Permission::Write, &routed.exchange, routing_key).map_err(refused)?;
    let short = |text: &str| {
        let too_long = text.len() > ShortStr::BYTES_MAX;
        if too_long {
            Err(Failure::bad_request("a routing key has at most 255 bytes"))
        } else {
            Ok(ShortStr::truncated(text))
        }
    };
    let message = MessageView::arrived(now_ms(), short(exchange)?, short(routing_key)?, properties, body);
    let message = message.map_err(|_| Failure::bad_request("invalid expiration"))?;
    match call.gateway().lifecycle.due_ms(&routed.exchange, &message.properties, message.time_ms) {
        Some(due_ms) => hold_back(call, &vhost, &message, due_ms).await?,
        None => append(call, &routed.queues, &message).await?,
    }
    Ok(Reply::Json(json!({"routed": !routed.queues.is_empty()})))
}

/// What would close the channel of a publisher is told as RabbitMQ tells it: as a bad request, with the channel's number and text.
fn refused(refusal: Refusal) -> Failure {
    Failure::bad_request(format!("{} {}", refusal.code.code(), refusal.text()))
}

/// A message to a delayed exchange waits until it is due.
async fn hold_back<C: Core>(call: &Call<C>, vhost: &str, message: &MessageView, due_ms: i64) -> Result<(), Failure> {
    let piece = Piece {
        exchange: message.exchange.bytes().clone(),
        routing_key: message.routing_key.bytes().clone(),
        properties: message.properties.clone(),
        body: message.body.clone(),
        has_died: false,
    };
    let held = call.gateway().lifecycle.hold_back(vhost, &piece, due_ms).await.map_err(Refusal::from)?;
    for appended in call.gateway().core.append(AppendRequest { appends: vec![held] }).await {
        appended.map_err(Refusal::from)?;
    }
    Ok(())
}

/// Appends a message to queues, each as it has room for it.
async fn append<C: Core>(call: &Call<C>, queues: &[Arc<Queue>], message: &MessageView) -> Result<(), Failure> {
    let batch = batch_of(message);
    let lifecycle = &call.gateway().lifecycle;
    let mut rejected = false;
    for queue in queues {
        let admission = lifecycle.admit(queue, &[message.body.len() as u64]).await;
        let answers = match admission.admits(0) {
            true => {
                let partition = queue.partition_of_priority(message.priority);
                call.gateway()
                    .core
                    .append(AppendRequest { appends: vec![Append { partition, batch: batch.clone() }] })
                    .await
            }
            false => {
                rejected = true;
                lifecycle.refused(queue, vec![message.clone()]).await;
                Vec::new()
            }
        };
        lifecycle.appended(admission).await;
        for appended in answers {
            appended.map_err(Refusal::from)?;
            lifecycle.published(queue, message.expires_ms);
        }
    }
    match rejected {
        true => Err(Failure::new(400, "rejected", "Unable to publish message. Check queue limits.")),
        false => Ok(()),
    }
}

/// Takes messages out of a queue; gives them back or not, as `ackmode` says.
pub(super) async fn get<C: Core>(call: &Call<C>, vhost: &str, name: &str) -> Result<Reply, Failure> {
    let vhost = call.vhost_to_use(vhost)?;
    let said = call.object()?;
    let count = integer(said.get("count")).unwrap_or(1).clamp(0, GET_MAX) as u32;
    let settlement = match text(&said, "ackmode").unwrap_or("ack_requeue_true") {
        "ack_requeue_true" => Settlement::Release,
        "reject_requeue_true" => Settlement::Fail,
        "ack_requeue_false" => Settlement::Accept,
        "reject_requeue_false" => Settlement::Reject,
        other => {
            return Err(Failure::bad_request(format!(
                "Invalid ackmode value: {other}. Valid values are: ack_requeue_true, ack_requeue_false, \
                 reject_requeue_true, reject_requeue_false"
            )));
        }
    };
    let as_base64 = match text(&said, "encoding").unwrap_or("auto") {
        "auto" => false,
        "base64" => true,
        _ => return Err(Failure::bad_request("Unsupported encoding. Please use auto or base64.")),
    };
    let truncate = integer(said.get("truncate")).and_then(|bytes| usize::try_from(bytes).ok());
    let queue = super::queues::known(call, &vhost, name)?;
    call.check(&vhost, Permission::Read, queue.resource())?;
    queue.check_owner("")?;
    if queue.is_stream() {
        return Err(Failure::bad_request(format!("basic.get not supported by stream queues {}", queue.resource())));
    }
    let taken = take(call, &queue, count, settlement).await?;
    let mut left = call.gateway().topology.counts(&queue).await?.ready;
    if matches!(settlement, Settlement::Release | Settlement::Fail) {
        left = left.saturating_sub(taken.len() as u64);
    }
    left += taken.len() as u64;
    let show = |(message, redelivered): (MessageView, bool)| {
        left = left.saturating_sub(1);
        show(&message, redelivered, left, as_base64, truncate)
    };
    Ok(Reply::List(taken.into_iter().map(show).collect()))
}

/// The messages that were taken, and whether they had been handed out before.
async fn take<C: Core>(
    call: &Call<C>,
    queue: &Arc<Queue>,
    count: u32,
    settlement: Settlement,
) -> Result<Vec<(MessageView, bool)>, Failure> {
    let gateway = call.gateway();
    let holder = format!("{}/management/{}", gateway.node_name(), gateway.registry.next_id());
    // Who gets messages uses the queue, and waits for what was given back to it, as with basic.get.
    gateway.lifecycle.used(queue).await;
    gateway.lifecycle.relieved(queue).await;
    let mut taken = Vec::new();
    for partition in queue.partitions().into_iter().rev() {
        let mut held = Vec::new();
        // Again where some that were acquired are over: others are in their places.
        while (taken.len() as u32) < count {
            let credit = count - taken.len() as u32;
            let Taken { messages, offsets, over } = acquire(call, queue, partition, &holder, credit).await?;
            taken.extend(messages);
            held.extend(offsets);
            if over.is_empty() {
                break;
            }
            gateway.lifecycle.expired(queue, &holder, vec![(partition, over)]).await;
        }
        if held.is_empty() {
            continue;
        }
        if settlement == Settlement::Reject {
            // As a consumer's reject: to the dead letter exchange, where there is one.
            gateway.lifecycle.dead_letter(queue, &holder, vec![(partition, held)], Reason::Rejected).await;
            continue;
        }
        let ranges = held.iter().map(|offset| SettleRange::new(*offset, *offset, settlement)).collect();
        let settle = SettleRequest {
            group: queue.group(),
            holder: holder.clone(),
            partitions: vec![(partition, ranges)],
            durable: true,
        };
        for settled in gateway.core.settle(settle).await.into_iter().flatten() {
            settled.map_err(Refusal::from)?;
        }
        if matches!(settlement, Settlement::Release | Settlement::Fail) {
            gateway.lifecycle.returned(queue);
        }
    }
    Ok(taken)
}

/// What was acquired of one partition.
#[derive(Default)]
struct Taken {
    messages: Vec<(MessageView, bool)>,
    /// All that is held, but for what is over.
    offsets: Vec<u64>,
    over: Vec<u64>,
}

async fn acquire<C: Core>(
    call: &Call<C>,
    queue: &Arc<Queue>,
    partition: PartitionId,
    holder: &str,
    credit: u32,
) -> Result<Taken, Failure> {
    let acquire = AcquireRequest {
        group: queue.group(),
        partitions: vec![partition],
        holder: holder.to_owned(),
        lease: Lease::Timed(HELD),
        mode: AcquireMode::Strict,
        credit_messages: credit,
        credit_bytes: GET_BYTES_MAX,
        bytes_min: 0,
        window_messages: u64::MAX,
        acquisitions_max: None,
        start: SeekTo::At(OffsetAt::Earliest),
        isolation: Isolation::Committed,
        wait: Duration::ZERO,
    };
    let mut taken = Taken::default();
    let Some(acquired) = call.gateway().core.acquire(acquire).await.pop() else { return Ok(taken) };
    let acquired = acquired.map_err(Refusal::from)?;
    let (now_ms, ttl_ms) = (now_ms(), queue.config().message_ttl_ms);
    for range in &acquired.ranges {
        for offset in range.first..=range.last {
            let holds = |batch: &&Batch| (batch.header.base_offset..batch.header.next_offset()).contains(&offset);
            let found =
                acquired.batches.iter().find(holds).map(|batch| message_at(batch, queue, offset)).transpose()?;
            let deadline_ms = found
                .iter()
                .flatten()
                .find_map(|message| expiry::deadline_ms(message.time_ms, message.expires_ms.unwrap_or(0), ttl_ms));
            if expiry::is_past(deadline_ms, now_ms) {
                taken.over.push(offset);
                continue;
            }
            taken.offsets.push(offset);
            let redelivered = range.acquisitions > 1 || offset < acquired.uncounted_before;
            taken.messages.extend(found.flatten().map(|message| (message, redelivered)));
        }
    }
    Ok(taken)
}

/// The message at an offset of a batch.
fn message_at(batch: &Batch, queue: &Queue, offset: u64) -> Result<Option<MessageView>, Failure> {
    let unreadable = |_| Failure::new(500, "internal_error", "a stored message cannot be read");
    let all = amqp_messages(batch, &ShortStr::truncated(queue.name())).map_err(unreadable)?;
    for message in all {
        let message = message.map_err(unreadable)?;
        if batch.header.base_offset + u64::from(message.position) == offset {
            return Ok(Some(message));
        }
    }
    Ok(None)
}

fn show(message: &MessageView, redelivered: bool, left: u64, as_base64: bool, truncate: Option<usize>) -> Value {
    let shown = &message.body[..truncate.unwrap_or(usize::MAX).min(message.body.len())];
    let (payload, encoding) = match std::str::from_utf8(shown) {
        Ok(text) if !as_base64 => (text.to_owned(), "string"),
        _ => (STANDARD.encode(shown), "base64"),
    };
    json!({
        "payload_bytes": message.body.len(),
        "redelivered": redelivered,
        "exchange": message.exchange.as_str(),
        "routing_key": message.routing_key.as_str(),
        "message_count": left,
        "properties": show_properties(&message.properties),
        "payload": payload,
        "payload_encoding": encoding,
    })
}

/// Puts a message into a queue and takes it out again.
pub(super) async fn round_trip<C: Core>(call: &Call<C>, queue: &Arc<Queue>) -> Result<(), Failure> {
    let key = ShortStr::truncated(queue.name());
    let properties = PropertyList::default().encode();
    let body = Bytes::from_static(b"test_message");
    let message = MessageView::arrived(now_ms(), ShortStr::default(), key, properties, body)
        .map_err(|_| Failure::bad_request("invalid expiration"))?;
    append(call, std::slice::from_ref(queue), &message).await?;
    match take(call, queue, 1, Settlement::Accept).await?.is_empty() {
        true => Err(Failure::new(500, "internal_error", "the message did not come back")),
        false => Ok(()),
    }
}

/// Properties as they are said in JSON.
fn properties(said: Option<&Value>) -> Result<Properties, Failure> {
    let said = match said {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Array(none)) if none.is_empty() => Map::new(),
        Some(Value::Object(said)) => said.clone(),
        Some(_) => return Err(Failure::bad_request("properties must be an object")),
    };
    let mut list = PropertyList::default();
    for (name, value) in &said {
        let bytes = || match value {
            Value::String(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
            Value::Number(number) => Some(Bytes::from(number.to_string())),
            _ => None,
        };
        let small = || integer(Some(value)).and_then(|number| u8::try_from(number).ok());
        match name.as_str() {
            "content_type" => list.content_type = bytes(),
            "content_encoding" => list.content_encoding = bytes(),
            "delivery_mode" => list.delivery_mode = small(),
            "priority" => list.priority = small(),
            "correlation_id" => list.correlation_id = bytes(),
            "reply_to" => list.reply_to = bytes(),
            "expiration" => list.expiration = bytes(),
            "message_id" => list.message_id = bytes(),
            "timestamp" => list.timestamp = integer(Some(value)).and_then(|seconds| u64::try_from(seconds).ok()),
            "type" => list.kind = bytes(),
            "user_id" => list.user_id = bytes(),
            "app_id" => list.app_id = bytes(),
            "cluster_id" => list.cluster_id = bytes(),
            "headers" => {
                let headers = Arguments::from_json(value)
                    .ok_or_else(|| Failure::bad_request("headers must be an object without nulls"))?;
                list.headers = Some(FieldTable::from(&headers));
            }
            other => return Err(Failure::bad_request(format!("unknown property {other}"))),
        }
    }
    Ok(list.encode())
}

fn show_properties(properties: &Properties) -> Value {
    let Ok(list) = properties.list() else { return json!({}) };
    let mut shown = Map::new();
    let texts = [
        ("content_type", &list.content_type),
        ("content_encoding", &list.content_encoding),
        ("correlation_id", &list.correlation_id),
        ("reply_to", &list.reply_to),
        ("expiration", &list.expiration),
        ("message_id", &list.message_id),
        ("type", &list.kind),
        ("user_id", &list.user_id),
        ("app_id", &list.app_id),
        ("cluster_id", &list.cluster_id),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            shown.insert(name.into(), String::from_utf8_lossy(text).into());
        }
    }
    let numbers = [
        ("delivery_mode", list.delivery_mode.map(u64::from)),
        ("priority", list.priority.map(u64::from)),
        ("timestamp", list.timestamp),
    ];
    shown.extend(numbers.into_iter().filter_map(|(name, number)| Some((name.to_owned(), number?.into()))));
    if let Some(headers) = &list.headers {
        shown.insert("headers".into(), Argument::Table(headers.into()).to_json());
    }
    Value::Object(shown)
}
