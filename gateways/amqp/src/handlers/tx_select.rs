//! tx.select (90, 10): from now on publishes and acknowledgements wait for a commit.

use std::sync::atomic::Ordering;

use codec_amqp::tx;
use core_rpc::Core;

use super::Request;
use crate::errors::Refusal;

pub async fn handle<C: Core>(request: &mut Request<'_, C>, _: tx::Select) -> Result<(), Refusal> {
    let channel = &mut *request.channel;
    if channel.publishing.is_confirming {
        return Err(Refusal::precondition_failed("cannot switch from confirm to tx mode"));
    }
    channel.transaction.get_or_insert_default();
    channel.info.is_transactional.store(true, Ordering::Relaxed);
    request.reply(tx::SelectOk {});
    Ok(())
}
