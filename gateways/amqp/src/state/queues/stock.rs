//! Messages that a dispatcher has acquired and not dealt yet, in order. Pure.

use std::collections::VecDeque;

use bytes::Bytes;
use codec_record::Batch;
use codec_record::amqp_message::{ShortStr, walk};
use codec_record::translate::amqp_payload;
use core_rpc::{Acquired, AcquiredRange, SettleRange, Settlement};

/// What is in hand of a queue.
#[derive(Debug, Default)]
pub struct Stock {
    batches: VecDeque<StockBatch>,
}

/// The rest of one stored batch.
#[derive(Debug)]
pub struct StockBatch {
    /// The partition's number in the queue.
    pub partition: u32,
    pub payload: Bytes,
    /// Where the next message in the payload begins that was not looked at, and its offset.
    at: usize,
    offset_at: u64,
    /// What of it is ours and not dealt, rising.
    ranges: VecDeque<AcquiredRange>,
    uncounted_before: u64,
}

/// The next message.
#[derive(Clone, Copy, Debug)]
pub struct Next {
    pub offset: u64,
    pub at: u32,
    /// Stored bytes.
    pub bytes: usize,
    /// When it came, ms since the Unix epoch.
    pub time_ms: i64,
    /// When it is over, ms since the Unix epoch; 0: never.
    pub expires_ms: i64,
    pub acquisitions: u32,
    pub failures: u32,
    /// It may have been handed out more often: the core was restarted since.
    pub is_uncounted: bool,
}

/// What a batch has to give.
pub enum Step {
    Message(Next),
    /// These offsets hold no message: the log dropped them, or their bytes cannot be understood.
    Missing(SettleRange),
}

impl Stock {
    /// Adds what was acquired of a partition. Batches of other protocols are made AMQP's.
    pub fn add(&mut self, queue: &str, partition: u32, acquired: Acquired) {
        let mut ranges: VecDeque<AcquiredRange> = acquired.ranges.into();
        for batch in acquired.batches {
            let (first, last) = (batch.header.base_offset, batch.header.next_offset() - 1);
            let mut of_batch = VecDeque::with_capacity(ranges.len().min(4));
            while let Some(range) = ranges.front_mut() {
                if range.first > last {
                    break;
                }
                of_batch.push_back(AcquiredRange {
                    first: range.first.max(first),
                    last: range.last.min(last),
                    ..*range
                });
                if range.last > last {
                    range.first = last + 1;
                    break;
                }
                ranges.pop_front();
            }
            if !of_batch.is_empty() {
                let payload = payload_of(&batch, queue);
                let (ranges, uncounted_before) = (of_batch, acquired.uncounted_before);
                let batch = StockBatch { partition, payload, at: 0, offset_at: first, ranges, uncounted_before };
                self.batches.push_back(batch);
            }
        }
        debug_assert!(ranges.is_empty(), "messages were acquired without their batch");
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The batch whose messages come next.
    pub fn front(&mut self) -> Option<&mut StockBatch> {
        while self.batches.front().is_some_and(|batch| batch.ranges.is_empty()) {
            self.batches.pop_front();
        }
        self.batches.front_mut()
    }

    /// Takes out all that is left, by partition.
    pub fn drain(&mut self) -> Vec<(u32, Vec<SettleRange>)> {
        let range = |range: AcquiredRange| SettleRange::new(range.first, range.last, Settlement::Release);
        let ranges = |batch: StockBatch| (batch.partition, batch.ranges.into_iter().map(range).collect());
        self.batches.drain(..).map(ranges).collect()
    }
}

impl StockBatch {
    /// The next message, which stays until it is [`StockBatch::pop`]ped. None: nothing of the batch is left.
    pub fn next(&mut self) -> Option<Step> {
        let range = *self.ranges.front()?;
        let missing = |last: u64| Some(Step::Missing(SettleRange::new(range.first, last, Settlement::Accept)));
        loop {
            let Ok(Some(head)) = walk::head_at(&self.payload, self.at) else {
                return missing(range.last);
            };
            let offset = self.offset_at;
            if offset < range.first {
                (self.at, self.offset_at) = (head.next_at, offset + 1);
                continue;
            }
            if head.is_gone {
                return missing(offset);
            }
            return Some(Step::Message(Next {
                offset,
                at: self.at as u32,
                bytes: head.next_at - self.at,
                time_ms: head.time_ms,
                expires_ms: head.expires_ms,
                acquisitions: range.acquisitions,
                failures: range.failures,
                is_uncounted: offset < self.uncounted_before,
            }));
        }
    }

    /// The next message is dealt with, or what is missing up to there.
    pub fn pop(&mut self, last: u64) {
        let Some(range) = self.ranges.front_mut() else { return };
        if range.last <= last {
            self.ranges.pop_front();
        } else {
            range.first = last + 1;
        }
    }
}

/// The batch as AMQP stores messages. What is not of messages is empty: its places are settled.
fn payload_of(batch: &Batch, queue: &str) -> Bytes {
    amqp_payload(batch, &ShortStr::truncated(queue)).unwrap_or_else(|error| {
        tracing::warn!(queue, offset = batch.header.base_offset, %error, "a batch cannot be delivered");
        Bytes::new()
    })
}
