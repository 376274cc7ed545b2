//! Where something is in a partition, and what a partition looks like.

use std::ops::ControlFlow;

use codec_record::Batch;
use core_rpc::{
    FetchError, FoundOffset, InspectAnswer, OffsetAt, OffsetsAnswer, OffsetsRequest, PartitionId, PartitionState,
};

use crate::cold::{self, Limit, walk};
use crate::engine::{Engine, Inner};
use crate::pack::index::{IndexEntry, time_of};
use crate::partition::Partition;

const NOT_FOUND: FoundOffset = FoundOffset { offset: None, time_ms: -1 };

impl Engine {
    pub async fn offsets(&self, request: OffsetsRequest) -> OffsetsAnswer {
        let by_time = |(_, at): &(PartitionId, OffsetAt)| matches!(at, OffsetAt::Time(_) | OffsetAt::MaxTime);
        let inner = self.inner.clone();
        if !request.queries.iter().any(by_time) {
            return inner.find_all(&request);
        }
        let slots = request.queries.len();
        let found = tokio::task::spawn_blocking(move || inner.find_all(&request)).await;
        found.unwrap_or_else(|_| vec![Err(FetchError::Unavailable); slots])
    }

    pub async fn inspect(&self, partitions: Vec<PartitionId>) -> InspectAnswer {
        let slots = partitions.len();
        let inner = self.inner.clone();
        let inspect = move || partitions.into_iter().map(|id| inner.inspect(id)).collect();
        tokio::task::spawn_blocking(inspect).await.unwrap_or_else(|_| vec![Err(FetchError::Unavailable); slots])
    }
}

impl Inner {
    fn find_all(&self, request: &OffsetsRequest) -> OffsetsAnswer {
        request.queries.iter().map(|(id, at)| self.find(*id, *at)).collect()
    }

    fn find(&self, id: PartitionId, at: OffsetAt) -> Result<FoundOffset, FetchError> {
        let partition = self.partition(id).ok_or(FetchError::UnknownPartition)?;
        let bounds = partition.bounds()?;
        let known = |offset| Ok(FoundOffset { offset: Some(offset), time_ms: -1 });
        match at {
            OffsetAt::Earliest => known(bounds.start_offset),
            OffsetAt::Latest => known(bounds.end_offset),
            OffsetAt::Stable => known(bounds.stable_offset),
            OffsetAt::Time(time_ms) => self.find_time(&partition, time_ms),
            OffsetAt::MaxTime => self.find_max_time(&partition),
        }
    }

    /// Times need not rise: the first batch in the order of offsets that has a record late enough answers.
    fn find_time(&self, partition: &Partition, time_ms: i64) -> Result<FoundOffset, FetchError> {
        let mut from = 0;
        loop {
            let late = |entry: &IndexEntry| match entry.max_time_ms >= time_ms {
                true => ControlFlow::Break(*entry),
                false => ControlFlow::Continue(()),
            };
            let Some(entry) = walk(partition, from, |segment| segment.max_time_ms < time_ms, late)? else {
                return Ok(NOT_FOUND);
            };
            let batch = read_one(partition, &entry)?;
            let header = &batch.header;
            let found = match header.max_time_ms < 0 {
                true => Some((0, time_of(header))),
                // A payload that its format cannot read is one record to us.
                false => (self.formats.get(header.format).first_at_or_after(header, &batch.payload, time_ms))
                    .unwrap_or(Some((0, header.max_time_ms))),
            };
            if let Some((position, time_ms)) = found {
                return place(partition, &batch, position, time_ms);
            }
            from = entry.next_offset();
        }
    }

    fn find_max_time(&self, partition: &Partition) -> Result<FoundOffset, FetchError> {
        // Two passes over the index: the greatest time (from whole packs by their sums), then the first batch that has it.
        let greatest = std::cell::Cell::new(None::<i64>);
        let skip = |segment: &crate::partition::Segment| {
            greatest.set(greatest.get().max(Some(segment.max_time_ms)));
            true
        };
        walk(partition, 0, skip, |entry| {
            greatest.set(greatest.get().max(Some(entry.max_time_ms)));
            ControlFlow::<()>::Continue(())
        })?;
        let Some(greatest) = greatest.get() else { return Ok(NOT_FOUND) };
        let has_it = |entry: &IndexEntry| match entry.max_time_ms == greatest {
            true => ControlFlow::Break(*entry),
            false => ControlFlow::Continue(()),
        };
        let Some(entry) = walk(partition, 0, |segment| segment.max_time_ms < greatest, has_it)? else {
            return Ok(NOT_FOUND);
        };
        let batch = read_one(partition, &entry)?;
        let header = &batch.header;
        let (position, time_ms) = match header.max_time_ms < 0 {
            true => (0, time_of(header)),
            false => {
                let found = self.formats.get(header.format).max_time(header, &batch.payload);
                found.unwrap_or((0, header.max_time_ms))
            }
        };
        place(partition, &batch, position, time_ms)
    }

    fn inspect(&self, id: PartitionId) -> Result<PartitionState, FetchError> {
        let partition = self.partition(id).ok_or(FetchError::UnknownPartition)?;
        let bounds = partition.bounds()?;
        let size_bytes = size_bytes(&partition)?;
        let mut producers = partition.producers.lock().states();
        let transactions = self.shards[partition.shard as usize].transactions.lock();
        for producer in &mut producers {
            producer.transaction_start = transactions.get(producer.id, id).and_then(|open| open.first_offset);
        }
        drop(transactions);
        Ok(PartitionState { bounds, size_bytes, producers })
    }
}

/// Bytes of the batches between start and end, headers included.
pub fn size_bytes(partition: &Partition) -> Result<u64, FetchError> {
    let size = std::cell::Cell::new(0);
    let skip = |segment: &crate::partition::Segment| {
        size.set(size.get() + segment.bytes);
        true
    };
    walk(partition, 0, skip, |entry| {
        size.set(size.get() + entry.stored_bytes());
        ControlFlow::<()>::Continue(())
    })?;
    Ok(size.get())
}

fn read_one(partition: &Partition, entry: &IndexEntry) -> Result<Batch, FetchError> {
    let offset = entry.base_offset.max(partition.bounds()?.start_offset);
    let batches = cold::read(partition, offset, Limit { bytes: 0, first_free: true, until: u64::MAX })?;
    batches.into_iter().next().ok_or(FetchError::Corrupt)
}

/// The answer; of a batch whose beginning is trimmed, the first offset that is kept.
fn place(partition: &Partition, batch: &Batch, position: u32, time_ms: i64) -> Result<FoundOffset, FetchError> {
    let found = batch.header.base_offset + u64::from(position);
    Ok(FoundOffset { offset: Some(found.max(partition.bounds()?.start_offset)), time_ms })
}
