//! Reading stored messages by their offsets: what a channel or dispatcher holds, it knows by offset only.

use std::time::Duration;

use codec_amqp::ShortStr;
use codec_record::Batch;
use codec_record::amqp_message::MessageView;
use codec_record::translate::amqp_messages;
use core_rpc::{Core, FetchError, FetchPartition, FetchRequest, Isolation, PartitionId};

/// How much one fetch brings, bytes.
const FETCH_BYTES: u32 = 4 << 20;

/// A message and where it lies.
#[derive(Debug)]
pub struct Stored {
    pub offset: u64,
    pub message: MessageView,
}

/// The messages of a queue at these offsets, which rise; those that are there no more are left out.
pub async fn at<C: Core>(
    core: &C,
    queue: &str,
    partition: PartitionId,
    offsets: &[u64],
) -> Result<Vec<Stored>, FetchError> {
    let mut found = Vec::with_capacity(offsets.len());
    let mut wanted = offsets.iter().copied().peekable();
    while let Some(first) = wanted.peek().copied() {
        let batches = from(core, partition, first).await?;
        // Nothing is there any more.
        let Some(last) = batches.last() else { break };
        let end = last.header.next_offset();
        for batch in &batches {
            for stored in messages(batch, queue) {
                while wanted.next_if(|offset| *offset < stored.offset).is_some() {}
                if wanted.next_if_eq(&stored.offset).is_some() {
                    found.push(stored);
                }
            }
        }
        while wanted.next_if(|offset| *offset < end).is_some() {}
    }
    Ok(found)
}

/// Batches from an offset on, the first of which has it, where it is still there. Empty: nothing is there.
pub async fn from<C: Core>(core: &C, partition: PartitionId, offset: u64) -> Result<Vec<Batch>, FetchError> {
    let mut offset = offset;
    loop {
        let request = FetchRequest {
            partitions: vec![FetchPartition { partition, offset, bytes_max: FETCH_BYTES }],
            bytes_min: 0,
            bytes_max: FETCH_BYTES,
            wait: Duration::ZERO,
            isolation: Isolation::Committed,
        };
        match core.fetch(request).await.pop() {
            Some(Ok(fetched)) => return Ok(fetched.batches),
            // Trimmed meanwhile: what is left begins later.
            Some(Err(FetchError::OutOfRange(bounds))) if bounds.start_offset > offset => offset = bounds.start_offset,
            Some(Err(FetchError::OutOfRange(_))) | None => return Ok(Vec::new()),
            Some(Err(error)) => return Err(error),
        }
    }
}

/// The messages of a batch of a queue, whoever wrote it. What cannot be understood is no message.
pub fn messages(batch: &Batch, queue: &str) -> impl Iterator<Item = Stored> + use<> {
    let base_offset = batch.header.base_offset;
    let messages = amqp_messages(batch, &ShortStr::truncated(queue)).ok();
    let stored = move |message: MessageView| Stored { offset: base_offset + u64::from(message.position), message };
    messages.into_iter().flatten().map_while(Result::ok).map(stored)
}
