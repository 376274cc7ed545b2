//! basic.recover-async (60, 100): as basic.recover, without an answer.

use codec_amqp::basic;
use core_rpc::Core;

use super::Request;
use super::basic_recover::recover;
use crate::errors::Refusal;

pub async fn handle<C: Core>(request: &mut Request<'_, C>, method: basic::RecoverAsync) -> Result<(), Refusal> {
    recover(request, method.requeue)
}
