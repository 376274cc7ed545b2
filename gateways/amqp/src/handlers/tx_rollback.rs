//! tx.rollback (90, 30): what was published since the last commit is forgotten, what was acknowledged is unacknowledged
//! again (it is not delivered again for that).

use codec_amqp::tx;
use core_rpc::Core;

use super::Request;
use crate::errors::Refusal;

pub async fn handle<C: Core>(request: &mut Request<'_, C>, _: tx::Rollback) -> Result<(), Refusal> {
    if !request.channel.roll_back() {
        return Err(Refusal::precondition_failed("channel is not transactional"));
    }
    request.reply(tx::RollbackOk {});
    Ok(())
}
