//! basic.qos (60, 10): how many messages may be at a client. For consumers made from now on, or (`global`) for all of the
//! channel together, at once: who does not acknowledge takes no place of it, but gets nothing while there is none. RabbitMQ knows
//! no limit in bytes.

use codec_amqp::basic;
use core_rpc::Core;

use std::sync::atomic::Ordering;

use super::Request;
use crate::errors::Refusal;

pub async fn handle<C: Core>(request: &mut Request<'_, C>, method: basic::Qos) -> Result<(), Refusal> {
    if method.prefetch_size != 0 {
        return Err(Refusal::not_implemented(format!("prefetch_size!=0 ({})", method.prefetch_size)));
    }
    let count = u32::from(method.prefetch_count);
    if method.global {
        request.channel.consuming.set_channel_prefetch(count);
        request.channel.info.global_prefetch_count.store(count, Ordering::Relaxed);
    } else {
        request.channel.consuming.set_prefetch(count);
        request.channel.info.prefetch_count.store(count, Ordering::Relaxed);
    }
    request.reply(basic::QosOk {});
    Ok(())
}
