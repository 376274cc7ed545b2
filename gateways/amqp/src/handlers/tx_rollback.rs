//! tx.rollback (90, 30): what was published since the last commit is forgotten, what was acknowledged is unacknowledged
//! again (it is not delivered again for that).

use codec_amqp::tx;
use core_rpc::Core;

use super::Request;
use crate::errors::Refusal;
use crate::state::channel::Transaction;

pub async fn handle<C: Core>(request: &mut Request<'_, C>, _: tx::Rollback) -> Result<(), Refusal> {
    let channel = &mut *request.channel;
    let Some(transaction) = &mut channel.transaction else {
        return Err(Refusal::precondition_failed("channel is not transactional"));
    };
    let Transaction { settles, .. } = std::mem::take(transaction);
    for (taken, _) in settles.into_iter().rev() {
        channel.consuming.restore(taken);
    }
    request.reply(tx::RollbackOk {});
    Ok(())
}
