//! Ending transactions, and looking which are open.

use std::future::Future;
use std::sync::Arc;

use core_rpc::{OpenTransaction, PartitionId, TransactionEnd, TransactionError};

use crate::engine::{Engine, Inner};
use crate::pack::entry::FenceBody;
use crate::shard::{Answer, Command, Ended, Shard};
use crate::wait::Answers;

impl Engine {
    /// Ends a producer's transaction in all shards. The commands are in the writers' queues when this returns; the future
    /// only waits for the answer.
    ///
    /// Not atomic over the shards: whoever gets no answer, or an error, makes the same call again.
    pub fn transaction_end(&self, end: TransactionEnd) -> impl Future<Output = Ended> + Send + 'static {
        let begun = self.inner.begin_end(end);
        async move {
            let answers = begun?.await.map_err(|_| TransactionError::Unavailable)?;
            let mut ended = answers.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
            ended.sort_unstable();
            Ok(ended)
        }
    }

    /// The open transactions of one producer, or of all (None), by producer and partition.
    pub fn transactions_open(&self, producer_id: Option<i64>) -> Vec<OpenTransaction> {
        let mut found = Vec::new();
        for shard in &self.inner.shards {
            let transactions = shard.transactions.lock();
            match producer_id {
                Some(id) => found.extend(transactions.of(id, i16::MAX).map(|(partition, open)| (id, partition, open))),
                None => found.extend(transactions.all()),
            }
        }
        found.retain(|(_, partition, _)| self.inner.partition(*partition).is_some());
        found.sort_unstable_by_key(|(id, partition, _)| (*id, *partition));
        let described =
            |(producer_id, partition, open): (i64, PartitionId, crate::transactions::Open)| OpenTransaction {
                producer_id,
                epoch: open.epoch,
                partition,
                first_offset: open.first_offset,
                last_time_ms: open.last_time_ms,
            };
        found.into_iter().map(described).collect()
    }
}

impl Inner {
    /// After recovery: what one shard remembers of a producer holds for those that have lost it, as nothing of theirs was synced
    /// since. Where a transaction is open its end was not carried out.
    pub fn share_fences(&self) {
        let (mut fences, mut decisions) = (Vec::new(), Vec::new());
        for shard in &self.shards {
            let transactions = shard.transactions.lock();
            fences.extend(transactions.fences());
            decisions.extend(transactions.decisions());
        }
        for shard in &self.shards {
            let mut transactions = shard.transactions.lock();
            for (id, fence) in &fences {
                transactions.raise(*id, fence.epoch, fence.time_ms);
            }
            for (id, decision) in &decisions {
                if !transactions.is_open(*id, i16::MAX) {
                    transactions.carried_out(*id, Some(*decision));
                }
            }
        }
    }

    fn begin_end(&self, end: TransactionEnd) -> Result<tokio::sync::oneshot::Receiver<Vec<Ended>>, TransactionError> {
        if !end.marker_is_valid() {
            return Err(TransactionError::Marker);
        }
        let is_fenced = |id| self.shards.iter().any(|shard| shard.transactions.lock().is_fenced(id, end.epoch));
        if is_fenced(end.producer_id) {
            return Err(TransactionError::ProducerFenced);
        }
        let last_decision = |shard: &Arc<Shard>| shard.transactions.lock().last_decision(end.producer_id);
        if end.decision.is_some_and(|decision| self.shards.iter().any(|shard| decision < last_decision(shard))) {
            return Err(TransactionError::Outdated);
        }
        if self.shards.iter().any(|shard| shard.is_stopping()) {
            return Err(TransactionError::Unavailable);
        }
        let time_ms = self.clock.now_ms();
        let mut open = Vec::new();
        let mut commands = Vec::new();
        for shard in &self.shards {
            // In one lock: what a writer took of older epochs before is seen here, what it takes later it refuses.
            let mut transactions = shard.transactions.lock();
            let is_new = transactions.raise(end.producer_id, end.epoch, time_ms);
            // What is open by now came after it.
            if transactions.is_carried_out(end.producer_id, end.decision) && !transactions.is_ending(end.producer_id) {
                continue;
            }
            if transactions.is_open(end.producer_id, end.ended_epoch_max) {
                open.push(shard.number);
            } else if transactions.carried_out(end.producer_id, end.decision) || is_new {
                let (producer_id, epoch) = (end.producer_id, end.epoch);
                let body = FenceBody { producer_id, epoch, time_ms, decision: end.decision.unwrap_or_default() };
                commands.push((shard.number, Command::Fence { body }));
            }
        }
        // With nothing open, and no new epoch that tells this decision from the next, one shard remembers it durably.
        if open.is_empty() && end.epoch == end.ended_epoch_max && !commands.is_empty() {
            open.push(0);
        }
        let (answers, receiver) = Answers::new(vec![Err(TransactionError::Unavailable); open.len()], open.len());
        let end = Arc::new(end);
        for (slot, shard) in open.into_iter().enumerate() {
            let answer = Answer { answers: answers.clone(), slot: slot as u32 };
            commands.push((shard, Command::End { end: end.clone(), answer }));
        }
        self.push(commands);
        Ok(receiver)
    }
}
