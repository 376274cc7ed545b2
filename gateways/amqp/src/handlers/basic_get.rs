//! basic.get (60, 70): the next message of a queue, if there is one, and how many are left.

use codec_amqp::{ContentMethod, basic};
use codec_record::amqp_message::walk;
use core_rpc::Core;

use super::Request;
use crate::errors::Refusal;
use crate::state::access::Permission;
use crate::state::queues::{Queues, counted, now_s};

pub async fn handle<C: Core>(request: &mut Request<'_, C>, method: basic::Get) -> Result<(), Refusal> {
    let name = request.channel.queue_name(&method.queue)?;
    let queue = request.usable_queue(&name, Permission::Read).await?;
    if queue.is_stream() {
        let text = format!("basic.get not supported by stream queues queue '{}' in vhost '{}'", queue.name, queue.vhost);
        return Err(Refusal::not_implemented(text));
    }
    let counters = request.channel.info.clone();
    let counters = &counters.counters;
    request.gateway.lifecycle.used(&queue).await;
    request.gateway.lifecycle.relieved(&queue).await;
    let Some(got) = Queues::get(request.gateway, &queue).await? else {
        counters.get_empty.add(1);
        request.reply(basic::GetEmpty {});
        return Ok(());
    };
    // Counted behind the message: it is the client's now.
    let left = match request.gateway.topology.counts(&queue).await {
        Ok(left) => left,
        Err(refusal) => {
            got.give_back();
            return Err(refusal);
        }
    };
    let Ok(parts) = walk::parts_at(&got.payload, got.message.at as usize) else {
        got.give_back();
        return Err(Refusal::internal_error("a stored message cannot be read"));
    };
    let channel = &mut *request.channel;
    let delivery_tag = channel.consuming.got(&got.live, got.partition, &got.message, method.no_ack, now_s());
    if method.no_ack { counters.get_no_ack.add(1) } else { counters.get.add(1) }
    counters.redeliver.add(u64::from(got.message.is_redelivered()));
    channel.count_unacked();
    let get_ok = ContentMethod::GetOk {
        delivery_tag,
        redelivered: got.message.is_redelivered(),
        exchange: parts.exchange,
        routing_key: parts.routing_key,
        message_count: u32::try_from(left.ready).unwrap_or(u32::MAX),
    };
    let frame_bytes_max = request.connection.negotiated.frame_max as usize;
    let properties = counted(&queue, &got.message, parts.properties);
    let properties = properties.as_ref().map_or(parts.properties, |properties| properties.raw());
    request.replies.put_content(channel.number, get_ok, properties, &parts.body_of(&got.payload), frame_bytes_max);
    Ok(())
}
