//! basic.cancel (60, 30): a consumer ends. What it has and did not settle stays with the channel; what was on its way is
//! delivered before the answer. Cancelling what is not there is no error.

use codec_amqp::basic;
use core_rpc::Core;

use super::Request;
use crate::errors::Refusal;
use crate::state::queues::{Unasked, consumer_leaves};

pub async fn handle<C: Core>(request: &mut Request<'_, C>, method: basic::Cancel) -> Result<(), Refusal> {
    let tag = method.consumer_tag;
    let channel = &mut *request.channel;
    if channel.consuming.reply_to().is_some_and(|reply_to| reply_to.tag == tag) {
        if let Some(reply_to) = channel.consuming.set_reply_to(None) {
            request.gateway.queues.replies.forget(&reply_to.address);
        }
    } else if let Some(consumer) = channel.consuming.remove(&tag) {
        consumer_leaves(request.gateway, &consumer).await;
    }
    channel.count_consumers();
    if !method.no_wait {
        let method = Box::new(basic::CancelOk { consumer_tag: tag }.into());
        // The connection is there, for it asks.
        let _ = request.connection.outbox.push(Unasked::Method { channel: channel.number, method });
    }
    Ok(())
}
