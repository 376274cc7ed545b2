//! queue.declare (50, 10): makes a queue, or finds it as it is said to be; passive: only looks for it.
//!
//! - Needs configure on the queue; one with a dead-letter exchange also read on the queue and write on the exchange. A passive
//!   one needs any permission on it.
//! - As in RabbitMQ the reserved prefix `amq.` is refused even for a queue that there is, and an exclusive queue is never durable.
//! - `amq.rabbitmq.reply-to`, the pseudo-queue of direct replies, is there for whoever asks; an address made from it while its
//!   channel has it, or while the other gateway lives that gave it.
//! - `x-name-prefix` begins the name that the server makes up.
//! - Of declares that a client sends one behind the other without waiting, the next begins while the core keeps the one before
//!   ([`handle_run`]): so they share its commits. One that is refused by what is known here ends the run before the next begins.

use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use codec_amqp::in_place::{FrameView, peek};
use codec_amqp::{FrameKind, Method, ShortStr, queue};
use core_rpc::Core;

use super::Request;
use crate::Gateway;
use crate::errors::Refusal;
use crate::state::access::Permission;
use crate::state::queues::{PSEUDO_QUEUE, Replies};
use crate::state::registry::Connection;
use crate::state::topology::{Argument, Arguments, QueueDeclare, Resource};

/// The most declares that are begun behind each other.
const RUN_MAX: usize = 128;

/// Class and method.
const DECLARE: [u8; 4] = [0, 50, 0, 10];

/// A queue that is there.
struct Declared {
    name: String,
    messages: u64,
    consumers: usize,
}

pub async fn handle<C: Core>(request: &mut Request<'_, C>, method: queue::Declare) -> Result<(), Refusal> {
    let name = named(&method);
    if name == PSEUDO_QUEUE || Replies::is_address(&name) {
        // An address is asked for to learn whether somebody still waits there.
        let gateway = request.gateway;
        let is_there = gateway.queues.replies.knows(&name) || gateway.reply_inboxes.of(&name).is_some();
        if name != PSEUDO_QUEUE && !is_there {
            let vhost = &request.connection.vhost;
            return Err(Refusal::not_found(format!("no {}", Resource::Queue(vhost, &name))));
        }
        return answer(request, method.no_wait, &Declared { name, messages: 0, consumers: 1 });
    }
    if method.passive {
        return passive(request, &name, method.no_wait).await;
    }
    let declared = declare(request.gateway.clone(), request.connection.clone(), &method).await?;
    answer(request, method.no_wait, &declared)
}

/// What a frame and those behind it declare, if they are several that may be begun behind each other; and the bytes of those behind.
pub(crate) fn run(first: &FrameView<'_>, behind: &[u8], frame_bytes_max: usize) -> Option<(Vec<queue::Declare>, usize)> {
    let mut names = HashSet::new();
    let mut next = |frame: &FrameView<'_>| {
        if frame.channel != first.channel || frame.kind != FrameKind::Method || !frame.payload.starts_with(&DECLARE) {
            return None;
        }
        match Method::decode(&bytes::Bytes::copy_from_slice(frame.payload)) {
            Ok(Method::QueueDeclare(method)) if !method.passive => {
                let name = named(&method);
                // Of the same name the next must find what the one before made.
                let is_usual = name != PSEUDO_QUEUE && !Replies::is_address(&name);
                (is_usual && (name.is_empty() || names.insert(name))).then_some(method)
            }
            // It is refused in its turn.
            _ => None,
        }
    };
    let mut methods = vec![next(first)?];
    let mut bytes = 0;
    while methods.len() < RUN_MAX
        && let Ok(Some(frame)) = peek(&behind[bytes..], frame_bytes_max)
        && let Some(method) = next(&frame)
    {
        methods.push(method);
        bytes += frame.frame_bytes();
    }
    (methods.len() > 1).then_some((methods, bytes))
}

/// Handles what [`run`] found.
pub(crate) async fn handle_run<C: Core>(
    request: &mut Request<'_, C>,
    methods: Vec<queue::Declare>,
) -> Result<(), Refusal> {
    if request.gateway.topology.vhost_limit(&request.connection.vhost, "max-queues").is_some() {
        // Each is counted before the next.
        for method in methods {
            Box::pin(handle(request, method)).await?;
        }
        return Ok(());
    }
    for (no_wait, declared) in begin_all(request.gateway, request.connection, methods).await {
        answer(request, no_wait, &declared?)?;
    }
    Ok(())
}

/// One of a run.
enum Begun {
    Waits(Pin<Box<dyn Future<Output = Result<Declared, Refusal>> + Send>>),
    Done(Result<Declared, Refusal>),
}

impl Begun {
    fn poll(&mut self, context: &mut Context<'_>) {
        if let Begun::Waits(declaring) = self
            && let Poll::Ready(done) = declaring.as_mut().poll(context)
        {
            *self = Begun::Done(done);
        }
    }
}

/// Begins each when the one before waits for the core, or is done; none behind one that is refused. Returns what became of those
/// that were begun, in order, when all are done, and whether nobody waits for the answer.
async fn begin_all<C: Core>(
    gateway: &Arc<Gateway<C>>,
    connection: &Arc<Connection>,
    methods: Vec<queue::Declare>,
) -> Vec<(bool, Result<Declared, Refusal>)> {
    let mut left = methods.into_iter();
    let mut begun: Vec<(bool, Begun)> = Vec::new();
    poll_fn(|context| {
        begun.iter_mut().for_each(|(_, one)| one.poll(context));
        while !begun.iter().any(|(_, one)| matches!(one, Begun::Done(Err(_))))
            && let Some(method) = left.next()
        {
            let no_wait = method.no_wait;
            let (gateway, connection) = (gateway.clone(), connection.clone());
            let mut one = Begun::Waits(Box::pin(async move { declare(gateway, connection, &method).await }));
            one.poll(context);
            begun.push((no_wait, one));
        }
        if begun.iter().all(|(_, one)| matches!(one, Begun::Done(_))) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let done = |(no_wait, one)| match one {
        Begun::Done(declared) => Some((no_wait, declared)),
        Begun::Waits(_) => None,
    };
    begun.into_iter().filter_map(done).collect()
}

fn named(method: &queue::Declare) -> String {
    method.queue.replace(['\r', '\n'], "")
}

async fn declare<C: Core>(
    gateway: Arc<Gateway<C>>,
    connection: Arc<Connection>,
    method: &queue::Declare,
) -> Result<Declared, Refusal> {
    let arguments = Arguments::from(&method.arguments);
    let name = gateway.topology.queue_name(&connection.vhost, &named(method), &arguments)?;
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
    Ok(Declared { name, messages, consumers })
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
    answer(request, no_wait, &Declared { name: name.to_string(), messages, consumers })
}

fn answer<C>(request: &mut Request<'_, C>, no_wait: bool, declared: &Declared) -> Result<(), Refusal> {
    let queue = ShortStr::truncated(&declared.name);
    request.channel.last_queue = Some(queue.detached());
    if !no_wait {
        request.reply(queue::DeclareOk {
            queue,
            message_count: declared.messages.try_into().unwrap_or(u32::MAX),
            consumer_count: declared.consumers.try_into().unwrap_or(u32::MAX),
        });
    }
    Ok(())
}
