//! confirm.select (85, 10): from now on publishes are numbered, and answered when they are kept.

use std::sync::atomic::Ordering;

use codec_amqp::confirm;
use core_rpc::Core;

use super::Request;
use crate::errors::Refusal;

pub async fn handle<C: Core>(request: &mut Request<'_, C>, method: confirm::Select) -> Result<(), Refusal> {
    let channel = &mut *request.channel;
    if channel.transaction.is_some() {
        return Err(Refusal::precondition_failed("cannot switch from tx to confirm mode"));
    }
    channel.publishing.is_confirming = true;
    channel.info.is_confirming.store(true, Ordering::Relaxed);
    if !method.no_wait {
        request.reply(confirm::SelectOk {});
    }
    Ok(())
}
