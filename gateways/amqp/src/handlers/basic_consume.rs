//! basic.consume (60, 20): messages of a queue are sent as they come.
//!
//! - The pseudo-queue `amq.rabbitmq.reply-to` gives the channel an address for direct replies.
//! - `no_local` is ignored, as in RabbitMQ.
//! - Quorum queues take no consumer of a channel with a prefetch of its own (`basic.qos` with `global`), as in RabbitMQ.

use codec_amqp::{FieldTable, ShortStr, basic};
use core_rpc::Core;

use super::Request;
use crate::errors::Refusal;
use crate::state::access::Permission;
use crate::state::channel::ReplyTo;
use crate::state::queues::{ConsumeRequest, PSEUDO_QUEUE, Queues, ReplyConsumer};
use crate::state::topology::{Queue, QueueType, Resource};

pub async fn handle<C: Core>(request: &mut Request<'_, C>, method: basic::Consume) -> Result<(), Refusal> {
    let name = request.channel.queue_name(&method.queue)?;
    let tag = match method.consumer_tag.is_empty() {
        true => request.channel.consuming.generate_tag(),
        false => method.consumer_tag.detached(),
    };
    if name == *PSEUDO_QUEUE {
        request.gateway.reply_inboxes.open().await;
        consume_replies(request, &method, &tag)?;
    } else {
        let queue = request.usable_queue(&name, Permission::Read).await?;
        if request.channel.consuming.has_tag(&tag) {
            return Err(reused(&tag));
        }
        let priority = priority(queue.resource(), &method.arguments)?;
        check_arguments(&queue, &method.arguments)?;
        let channel_prefetch = request.channel.consuming.window().window.limit();
        if queue.queue_type() == QueueType::Quorum && channel_prefetch > 0 {
            return Err(Refusal::not_implemented(format!("{} does not support global qos", queue.resource())));
        }
        let consume = ConsumeRequest {
            queue,
            tag: tag.clone(),
            no_ack: method.no_ack,
            exclusive: method.exclusive,
            priority,
            arguments: method.arguments,
        };
        Queues::consume(request.gateway, request.connection, request.channel, consume).await?;
    }
    request.channel.count_consumers();
    if !method.no_wait {
        request.reply(basic::ConsumeOk { consumer_tag: tag });
    }
    Ok(())
}

fn reused(tag: &ShortStr) -> Refusal {
    Refusal::not_allowed(format!("attempt to reuse consumer tag '{tag}'"))
}

/// `x-priority`.
fn priority(resource: Resource<'_>, arguments: &FieldTable) -> Result<i32, Refusal> {
    let Some(value) = arguments.get("x-priority") else { return Ok(0) };
    let priority = value.as_integer().and_then(|priority| i32::try_from(priority).ok());
    priority.ok_or_else(|| {
        Refusal::precondition_failed(format!(
            "invalid arg 'x-priority' for {resource}: \"expected integer, got {}\"",
            value.type_name()
        ))
    })
}

/// An argument that means something to consumers of queues of other types only is a mistake.
fn check_arguments(queue: &Queue, arguments: &FieldTable) -> Result<(), Refusal> {
    const OF_QUEUES: [&str; 1] = ["x-priority"];
    const OF_STREAMS: [&str; 3] = ["x-stream-offset", "x-stream-filter", "x-stream-match-unfiltered"];
    let foreign: &[&str] = if queue.is_stream() { &OF_QUEUES } else { &OF_STREAMS };
    match foreign.iter().find(|name| arguments.contains(name)) {
        None => Ok(()),
        Some(name) => Err(Refusal::precondition_failed(format!(
            "invalid arg '{name}' for {} of queue type rabbit_{}_queue",
            queue.resource(),
            queue.queue_type().name()
        ))),
    }
}

fn consume_replies<C: Core>(
    request: &mut Request<'_, C>,
    method: &basic::Consume,
    tag: &ShortStr,
) -> Result<(), Refusal> {
    let channel = &mut *request.channel;
    if channel.consuming.reply_to().is_some() {
        return Err(Refusal::precondition_failed("reply consumer already set"));
    }
    if !method.no_ack {
        return Err(Refusal::precondition_failed("reply consumer cannot acknowledge"));
    }
    if channel.consuming.has_tag(tag) {
        return Err(reused(tag));
    }
    let consumer = ReplyConsumer {
        channel: channel.number,
        channel_life: channel.consuming.life(),
        tag: tag.clone(),
        outbox: request.connection.outbox.clone(),
    };
    let address = request.gateway.queues.replies.register(consumer);
    channel.consuming.set_reply_to(Some(ReplyTo { tag: tag.clone(), address }));
    Ok(())
}
