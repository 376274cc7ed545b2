//! queue.declare (50, 10): makes a queue, or finds it as it is said to be; passive: only looks for it.
//!
//! - Needs configure on the queue; one with a dead-letter exchange also read on the queue and write on the exchange. A passive
//!   one needs any permission on it.
//! - As in RabbitMQ the reserved prefix `amq.` is refused even for a queue that there is, and an exclusive queue is never durable.
//! - `amq.rabbitmq.reply-to`, the pseudo-queue of direct replies, is there for whoever asks; an address made from it while its
//!   channel has it, or while the other gateway lives that gave it.
//! - `x-name-prefix` begins the name that the server makes up.

use codec_amqp::{ShortStr, queue};
use core_rpc::Core;

use super::Request;
use crate::errors::Refusal;
use crate::state::access::Permission;
use crate::state::queues::{PSEUDO_QUEUE, Replies};
use crate::state::topology::{Argument, Arguments, QueueDeclare, Resource};

pub async fn handle<C: Core>(request: &mut Request<'_, C>, method: queue::Declare) -> Result<(), Refusal> {
    let name = method.queue.replace(['\r', '\n'], "");
    if name == PSEUDO_QUEUE || Replies::is_address(&name) {
        // An address is asked for to learn whether somebody still waits there.
        let gateway = request.gateway;
        let is_there = gateway.queues.replies.knows(&name) || gateway.reply_inboxes.of(&name).is_some();
        if name != PSEUDO_QUEUE && !is_there {
            let vhost = &request.connection.vhost;
            return Err(Refusal::not_found(format!("no {}", Resource::Queue(vhost, &name))));
        }
        return answer(request, method.no_wait, &name, 0, 1);
    }
    if method.passive {
        return passive(request, &name, method.no_wait).await;
    }
    let (gateway, connection) = (request.gateway.clone(), request.connection.clone());
    let arguments = Arguments::from(&method.arguments);
    let name = gateway.topology.queue_name(&connection.vhost, &name, &arguments)?;
    let resource = Resource::Queue(&connection.vhost, &name);
    gateway.access.check(&connection, Permission::Configure, resource)?;
    if gateway.topology.queue(&connection.vhost, &name).is_none() {
        match arguments.get("x-dead-letter-exchange") {
            None => {}
            Some(Argument::Text(exchange)) => {
                gateway.access.check(&connection, Permission::Read, resource)?;
                gateway.access.check(&connection, Permission::Write, Resource::Exchange(&connection.vhost, exchange))?;
            }
            Some(other) => {
                return Err(Refusal::precondition_failed(format!(
                    "invalid type '{}' for arg 'x-dead-letter-exchange' in {resource}",
                    other.type_name()
                )));
            }
        }
    }
    let declare = QueueDeclare {
        vhost: &connection.vhost,
        name: &name,
        durable: method.durable,
        exclusive: method.exclusive,
        auto_delete: method.auto_delete,
        arguments,
        connection: &connection.holder_prefix,
        user: &connection.user.name,
    };
    let (queue, is_new) = gateway.topology.declare_queue(declare).await?;
    gateway.lifecycle.used(&queue).await;
    gateway.lifecycle.relieved(&queue).await;
    // A queue that was just made has nothing; a client that makes thousands needs not wait for counts.
    let (messages, consumers) = match is_new || method.no_wait {
        true => (0, 0),
        false => (gateway.topology.counts(&queue).await?.ready, gateway.queues.consumers(queue.topic)),
    };
    answer(request, method.no_wait, &name, messages, consumers)
}

async fn passive<C: Core>(request: &mut Request<'_, C>, name: &str, no_wait: bool) -> Result<(), Refusal> {
    let (gateway, connection) = (request.gateway.clone(), request.connection.clone());
    let named = ShortStr::truncated(name);
    let name = request.channel.queue_name(&named)?;
    let resource = Resource::Queue(&connection.vhost, &name);
    gateway.access.check_any(&connection, resource)?;
    gateway.topology.look_for(resource).await?;
    let queue = gateway.topology.usable_queue(&connection.vhost, &name, &connection.holder_prefix)?;
    // Who asks for a queue uses it, as in RabbitMQ.
    gateway.lifecycle.used(&queue).await;
    gateway.lifecycle.relieved(&queue).await;
    let messages = gateway.topology.counts(&queue).await?.ready;
    let consumers = gateway.queues.consumers(queue.topic);
    answer(request, no_wait, &name, messages, consumers)
}

fn answer<C>(
    request: &mut Request<'_, C>,
    no_wait: bool,
    name: &str,
    messages: u64,
    consumers: usize,
) -> Result<(), Refusal> {
    let queue = ShortStr::truncated(name);
    request.channel.last_queue = Some(queue.detached());
    if !no_wait {
        request.reply(queue::DeclareOk {
            queue,
            message_count: messages.try_into().unwrap_or(u32::MAX),
            consumer_count: consumers.try_into().unwrap_or(u32::MAX),
        });
    }
    Ok(())
}
