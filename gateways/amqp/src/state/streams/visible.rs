//! Which of the batches that were fetched have messages for everyone: not those of aborted transactions. Pure.

use codec_record::{Batch, BatchFlags};
use core_rpc::Fetched;

/// The batches without markers and without what was aborted, which the fetch says.
pub fn visible(fetched: Fetched) -> impl Iterator<Item = Batch> {
    let aborted = fetched.aborted;
    fetched.batches.into_iter().filter(move |batch| {
        let header = &batch.header;
        let is_aborted = |producer_id: i64| {
            aborted.iter().any(|aborted| {
                let offsets = aborted.first_offset..=aborted.last_offset;
                aborted.producer_id == producer_id && offsets.contains(&header.base_offset)
            })
        };
        let is_marker = header.flags.contains(BatchFlags::CONTROL);
        let is_of_transaction = header.flags.contains(BatchFlags::TRANSACTIONAL);
        !(is_marker || is_of_transaction && header.producer.is_some_and(|producer| is_aborted(producer.id)))
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use codec_record::{FormatId, Producer};
    use core_rpc::{AbortedTransaction, Bounds};

    use super::*;

    fn batch(base_offset: u64, producer: i64, flags: u8) -> Batch {
        let mut batch = Batch::new(FormatId::RAW, 1, 0, Bytes::from_static(b"x"));
        batch.header.base_offset = base_offset;
        batch.header.producer = Some(Producer { id: producer, epoch: 0, sequence: 0 });
        batch.header.flags = BatchFlags(flags);
        batch
    }

    #[test]
    fn what_was_aborted_is_not_seen() {
        const OPEN: u8 = BatchFlags::TRANSACTIONAL.0;
        const MARKER: u8 = BatchFlags::TRANSACTIONAL.0 | BatchFlags::CONTROL.0;
        let batches = vec![
            batch(0, 1, OPEN),
            batch(1, 2, OPEN),
            batch(2, 3, 0),
            batch(3, 1, MARKER),
            // The same producer's next one is committed.
            batch(4, 1, OPEN),
            batch(5, 2, MARKER),
            batch(6, 1, MARKER),
            batch(7, 1, OPEN),
        ];
        let aborted =
            |producer_id, first_offset, last_offset| AbortedTransaction { producer_id, first_offset, last_offset };
        let aborted = vec![aborted(1, 7, 9), aborted(1, 0, 3)];
        let found = visible(Fetched { bounds: Bounds::default(), batches, aborted });
        let offsets: Vec<u64> = found.map(|batch| batch.header.base_offset).collect();
        assert_eq!(offsets, [1, 2, 4]);
    }
}
