//! Transfers: what is settled and appended in one commit.

use std::future::Future;

use codec_record::BatchFlags;
use core_rpc::{AppendError, Durability, TransferAnswer, TransferError, TransferRequest};

use crate::append::{PAYLOAD_BYTES_MAX, check_batch};
use crate::engine::{Engine, Inner};
use crate::shard::transfers::{Lives, Transfer};
use crate::shard::{Answer, Command};
use crate::wait::Answers;

impl Engine {
    /// Settles and appends, all of it or nothing. It is in the writer's queue when this returns; the future only waits for
    /// the answer.
    ///
    /// `lives`: whether the request's session does; who knows the sessions says it. It is asked when the transfer's turn has come.
    ///
    /// The payloads' CRCs are not verified here, as with [`Engine::append`].
    pub fn transfer(
        &self,
        request: TransferRequest,
        lives: Option<Lives>,
    ) -> impl Future<Output = TransferAnswer> + Send + 'static {
        let begun = self.inner.begin_transfer(request, lives);
        async move {
            let Some(receiver) = begun? else { return Ok(Vec::new()) };
            let mut answers = receiver.await.map_err(|_| TransferError::Unavailable)?;
            answers.pop().unwrap_or(Err(TransferError::Unavailable))
        }
    }
}

type Begun = Option<tokio::sync::oneshot::Receiver<Vec<TransferAnswer>>>;

impl Inner {
    /// None: there is nothing to do.
    fn begin_transfer(&self, request: TransferRequest, lives: Option<Lives>) -> Result<Begun, TransferError> {
        let mut place = Place::default();
        let mut settles = Vec::with_capacity(request.settles.len());
        for (at, (id, ranges)) in request.settles.into_iter().enumerate() {
            let failed = |error| TransferError::Settle { at: at as u32, error };
            let Some((topic, partition)) = self.topic_and_partition(id) else {
                return Err(failed(core_rpc::LeaseError::UnknownPartition));
            };
            let settings = topic.settings.read();
            place.add(settings.together, partition.shard, settings.durability)?;
            settles.push((self.lease_slot(&request.group, id).map_err(failed)?, ranges));
        }
        let mut appends = Vec::with_capacity(request.appends.len());
        let mut payload_bytes = 0;
        for (at, append) in request.appends.into_iter().enumerate() {
            let failed = |error| TransferError::Append { at: at as u32, error };
            let Some((topic, partition)) = self.topic_and_partition(append.partition) else {
                return Err(failed(AppendError::UnknownPartition));
            };
            let settings = topic.settings.read();
            place.add(settings.together, partition.shard, settings.durability)?;
            check_batch(&append.batch, settings.batch_bytes_max).map_err(failed)?;
            let flags = append.batch.header.flags;
            payload_bytes += append.batch.payload.len();
            let is_whole = !flags.contains(BatchFlags::TRANSACTIONAL) && !flags.contains(BatchFlags::CONTROL);
            if !is_whole || payload_bytes > PAYLOAD_BYTES_MAX {
                return Err(TransferError::Invalid);
            }
            appends.push((partition, append.batch, settings.durability));
        }
        let Some(shard) = place.shard else { return Ok(None) };
        let (answers, receiver) = Answers::new(vec![Err(TransferError::Unavailable)], 1);
        let answer = Answer { answers, slot: 0 };
        let needs_sync = place.needs_sync;
        let transfer = Transfer { lives, holder: request.holder, settles, appends, needs_sync, answer };
        self.push(vec![(shard, Command::Transfer(Box::new(transfer)))]);
        Ok(Some(receiver))
    }
}

/// Where all of a transfer lies.
#[derive(Default)]
struct Place {
    shard: Option<u32>,
    needs_sync: bool,
}

impl Place {
    fn add(&mut self, together: bool, shard: u32, durability: Durability) -> Result<(), TransferError> {
        self.needs_sync |= durability == Durability::Fsync;
        if together && *self.shard.get_or_insert(shard) == shard { Ok(()) } else { Err(TransferError::NotTogether) }
    }
}
