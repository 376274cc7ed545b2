//! Append and trim: what goes through the writers' journals.

use std::future::Future;
use std::time::Instant;

use codec_record::Batch;
use core_rpc::{AppendAnswer, AppendError, AppendRequest, FetchError, TrimAnswer, TrimRequest};

use crate::engine::Engine;
use crate::shard::{Answer, Command};
use crate::wait::Answers;

/// A batch must fit into one pack, and a pack's positions are 32 bits.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 30;

impl Engine {
    /// Appends batches. They are in the writers' queues when this returns; the future only waits for the answer.
    ///
    /// The payloads' CRCs are not verified here: whoever took them from a network has done it.
    pub fn append(&self, request: AppendRequest) -> impl Future<Output = AppendAnswer> + Send + 'static {
        let begun = Instant::now();
        let slots = request.appends.len();
        let mut answers = vec![Err(AppendError::Unavailable); slots];
        let mut accepted = Vec::with_capacity(slots);
        for (slot, append) in request.appends.into_iter().enumerate() {
            let batch = append.batch;
            let Some((topic, partition)) = self.inner.topic_and_partition(append.partition) else {
                answers[slot] = Err(AppendError::UnknownPartition);
                continue;
            };
            let (durability, bytes_max) = {
                let settings = topic.settings.read();
                (settings.durability, settings.batch_bytes_max)
            };
            match check_batch(&batch, bytes_max) {
                Ok(()) => accepted.push((slot as u32, partition, batch, durability)),
                Err(error) => answers[slot] = Err(error),
            }
        }
        let (answers, receiver) = Answers::new(answers, accepted.len());
        let command = |(slot, partition, batch, durability)| {
            let answer = Answer { answers: answers.clone(), slot };
            let partition: std::sync::Arc<crate::partition::Partition> = partition;
            (partition.shard, Command::Append { partition, batch, durability, answer })
        };
        self.inner.push(accepted.into_iter().map(command).collect());
        drop(answers);
        let counts = self.inner.counts.clone();
        async move {
            let answer = receiver.await.unwrap_or_else(|_| vec![Err(AppendError::Unavailable); slots]);
            counts.append_answered(&answer, begun.elapsed());
            answer
        }
    }

    /// Moves start offsets forward, durably.
    pub fn trim(&self, request: TrimRequest) -> impl Future<Output = TrimAnswer> + Send + 'static {
        let slots = request.trims.len();
        let mut answers = vec![Err(FetchError::Unavailable); slots];
        let mut accepted = Vec::with_capacity(slots);
        for (slot, (id, before)) in request.trims.into_iter().enumerate() {
            match self.inner.partition(id) {
                Some(partition) => accepted.push((slot as u32, partition, before)),
                None => answers[slot] = Err(FetchError::UnknownPartition),
            }
        }
        let (answers, receiver) = Answers::new(answers, accepted.len());
        let command = |(slot, partition, before)| {
            let answer = Answer { answers: answers.clone(), slot };
            let partition: std::sync::Arc<crate::partition::Partition> = partition;
            (partition.shard, Command::Trim { partition, before, answer })
        };
        self.inner.push(accepted.into_iter().map(command).collect());
        drop(answers);
        async move { receiver.await.unwrap_or_else(|_| vec![Err(FetchError::Unavailable); slots]) }
    }
}

/// Whether a batch may be appended to a topic with this limit.
pub fn check_batch(batch: &Batch, bytes_max: u32) -> Result<(), AppendError> {
    if batch.payload.len() > (bytes_max as usize).min(PAYLOAD_BYTES_MAX) {
        return Err(AppendError::TooLarge { bytes_max });
    }
    if batch.header.payload_length as usize != batch.payload.len() || batch.header.count == 0 {
        return Err(AppendError::Corrupt);
    }
    Ok(())
}
