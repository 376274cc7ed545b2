//! What a partition remembers of the producers that append to it, so that a retried append is recognised.

use std::collections::HashMap;

use codec_record::{BatchHeader, Producer};
use core_rpc::{AppendError, Appended, ProducerState};
use serde::{Deserialize, Serialize};

/// Batches remembered for each producer: as many as a client may have in flight and send again.
const REMEMBERED: usize = 5;

/// Sequences count to here, then begin again at 0.
const SEQUENCES: u64 = 1 << 31;

/// The producers of one partition.
#[derive(Clone, Debug, Default)]
pub struct Producers {
    by_id: HashMap<i64, ProducerEntry>,
    /// Of producers that have nothing here: the first batch that was refused for want of room. What follows it must not be
    /// appended before it, as an unknown producer's batches else may begin anywhere.
    refused: HashMap<i64, Refused>,
}

#[derive(Clone, Copy, Debug)]
struct Refused {
    epoch: i16,
    sequence: i32,
    time_ms: i64,
}

/// The last appends of one producer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerEntry {
    epoch: i16,
    /// Oldest first, at most [`REMEMBERED`].
    batches: Vec<Remembered>,
    last_time_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    first: i32,
    last: i32,
    base_offset: u64,
    append_time_ms: i64,
}

/// What is to happen with a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Check {
    Append,
    /// It was appended before, as this (without the start offset).
    Duplicate(Appended),
}

impl Producers {
    /// Whether a batch of `count` records may be appended now.
    pub fn check(&self, producer: Producer, count: u32, now_ms: i64, expiry_ms: i64) -> Result<Check, AppendError> {
        // Markers of a transaction carry an epoch but no sequence.
        let sequenced = producer.sequence >= 0;
        let known = self.by_id.get(&producer.id).filter(|entry| now_ms.saturating_sub(entry.last_time_ms) < expiry_ms);
        let Some(entry) = known else {
            let refused = self.refused.get(&producer.id);
            let is_behind = refused.is_some_and(|refused| {
                producer.epoch == refused.epoch
                    && producer.sequence > refused.sequence
                    && now_ms.saturating_sub(refused.time_ms) < expiry_ms
            });
            return if is_behind { Err(AppendError::SequenceGap) } else { Ok(Check::Append) };
        };
        if producer.epoch < entry.epoch {
            return Err(AppendError::ProducerFenced);
        }
        if !sequenced {
            return Ok(Check::Append);
        }
        if producer.epoch > entry.epoch {
            return if producer.sequence == 0 { Ok(Check::Append) } else { Err(AppendError::SequenceGap) };
        }
        let last = last_sequence(producer.sequence, count);
        let same = |batch: &&Remembered| batch.first == producer.sequence && batch.last == last;
        if let Some(batch) = entry.batches.iter().rev().find(same) {
            return Ok(Check::Duplicate(Appended {
                base_offset: batch.base_offset,
                append_time_ms: batch.append_time_ms,
                start_offset: 0,
                duplicate: true,
            }));
        }
        let Some(newest) = entry.batches.last() else {
            // A marker began the epoch.
            return if producer.sequence == 0 { Ok(Check::Append) } else { Err(AppendError::SequenceGap) };
        };
        let expected = (newest.last as u64 + 1) % SEQUENCES;
        let ahead = (producer.sequence as u64 + SEQUENCES - expected) % SEQUENCES;
        match ahead {
            0 => Ok(Check::Append),
            _ if ahead < SEQUENCES / 2 => Err(AppendError::SequenceGap),
            _ => Err(AppendError::SequenceForgotten),
        }
    }

    /// A batch that might have been appended has found no room; it will be sent again.
    pub fn refused(&mut self, producer: Producer, now_ms: i64) {
        if producer.sequence < 0 || self.by_id.contains_key(&producer.id) {
            return;
        }
        let refused = Refused { epoch: producer.epoch, sequence: producer.sequence, time_ms: now_ms };
        let known = self.refused.entry(producer.id).or_insert(refused);
        let is_earlier =
            refused.epoch > known.epoch || refused.epoch == known.epoch && refused.sequence < known.sequence;
        if is_earlier {
            *known = refused;
        }
    }

    /// Remembers an appended batch.
    pub fn appended(&mut self, producer: Producer, header: &BatchHeader) {
        self.refused.remove(&producer.id);
        let entry = self.by_id.entry(producer.id).or_insert_with(|| ProducerEntry {
            epoch: producer.epoch,
            batches: Vec::new(),
            last_time_ms: header.append_time_ms,
        });
        if producer.epoch != entry.epoch {
            entry.epoch = producer.epoch;
            entry.batches.clear();
        }
        entry.last_time_ms = header.append_time_ms;
        if producer.sequence < 0 {
            return;
        }
        if entry.batches.len() == REMEMBERED {
            entry.batches.remove(0);
        }
        entry.batches.push(Remembered {
            first: producer.sequence,
            last: last_sequence(producer.sequence, header.count),
            base_offset: header.base_offset,
            append_time_ms: header.append_time_ms,
        });
    }

    /// Forgets those that have not appended since `before_ms`, but for those to be kept.
    pub fn expire(&mut self, before_ms: i64, keep: impl Fn(i64) -> bool) {
        self.by_id.retain(|id, entry| entry.last_time_ms > before_ms || keep(*id));
        self.refused.retain(|_, refused| refused.time_ms > before_ms);
    }

    pub fn get(&self, id: i64) -> Option<&ProducerEntry> {
        self.by_id.get(&id)
    }

    /// Puts back what [`Producers::get`] had found.
    pub fn restore(&mut self, id: i64, entry: Option<ProducerEntry>) {
        match entry {
            Some(entry) => self.by_id.insert(id, entry),
            None => self.by_id.remove(&id),
        };
    }

    /// For a snapshot, by id.
    pub fn entries(&self) -> Vec<(i64, ProducerEntry)> {
        let mut entries: Vec<_> = self.by_id.iter().map(|(id, entry)| (*id, entry.clone())).collect();
        entries.sort_unstable_by_key(|(id, _)| *id);
        entries
    }

    pub fn from_entries(entries: Vec<(i64, ProducerEntry)>) -> Producers {
        Producers { by_id: entries.into_iter().collect(), ..Producers::default() }
    }

    /// For an operator, by id; without those that an RPC client made up for batches that have none. Where transactions
    /// begin is not known here.
    pub fn states(&self) -> Vec<ProducerState> {
        let state = |(id, entry): (i64, ProducerEntry)| ProducerState {
            id,
            epoch: entry.epoch,
            last_sequence: entry.batches.last().map_or(-1, |batch| batch.last),
            last_time_ms: entry.last_time_ms,
            transaction_start: None,
        };
        self.entries().into_iter().filter(|(id, _)| *id >= 0).map(state).collect()
    }
}

fn last_sequence(first: i32, count: u32) -> i32 {
    ((first as u64 + u64::from(count) - 1) % SEQUENCES) as i32
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use codec_record::{Batch, FormatId};

    use super::*;

    const EXPIRY_MS: i64 = 1000;

    struct Log(Producers, u64);

    impl Log {
        fn append(&mut self, epoch: i16, sequence: i32, count: u32) -> Result<(u64, bool), AppendError> {
            self.append_at(epoch, sequence, count, 0)
        }

        fn append_at(&mut self, epoch: i16, sequence: i32, count: u32, now: i64) -> Result<(u64, bool), AppendError> {
            let producer = Producer { id: 7, epoch, sequence };
            if let Check::Duplicate(appended) = self.0.check(producer, count, now, EXPIRY_MS)? {
                return Ok((appended.base_offset, true));
            }
            let mut header = Batch::new(FormatId::RAW, count, -1, Bytes::new()).header;
            (header.base_offset, header.append_time_ms) = (self.1, now);
            self.1 += u64::from(count);
            self.0.appended(producer, &header);
            Ok((header.base_offset, false))
        }
    }

    #[test]
    fn sequences_are_kept() {
        let mut log = Log(Producers::default(), 0);
        assert_eq!(log.append(3, 10, 5), Ok((0, false)), "the first may have any sequence");
        assert_eq!(log.append(3, 15, 1), Ok((5, false)));
        assert_eq!(log.append(3, 10, 5), Ok((0, true)));
        assert_eq!(log.append(3, 10, 4), Err(AppendError::SequenceForgotten));
        assert_eq!(log.append(3, 17, 1), Err(AppendError::SequenceGap));
        assert_eq!(log.append(2, 16, 1), Err(AppendError::ProducerFenced));
        assert_eq!(log.append(4, 1, 1), Err(AppendError::SequenceGap));
        assert_eq!(log.append(4, 0, 1), Ok((6, false)));
        assert_eq!(log.append(4, -1, 1), Ok((7, false)), "a marker has no sequence");
        for sequence in 1..6 {
            log.append(4, sequence, 1).unwrap();
        }
        assert_eq!(log.append(4, 1, 1), Ok((8, true)));
        assert_eq!(log.append(4, 0, 1), Err(AppendError::SequenceForgotten));
        assert_eq!(log.append(5, -1, 1), Ok((13, false)));
        assert_eq!(log.append(5, 6, 1), Err(AppendError::SequenceGap), "a marker began the epoch");
        assert_eq!(log.append(5, 0, 1), Ok((14, false)));
    }

    #[test]
    fn sequences_wrap() {
        let mut log = Log(Producers::default(), 0);
        log.append(0, i32::MAX - 2, 2).unwrap();
        assert_eq!(log.append(0, i32::MAX, 3), Ok((2, false)));
        assert_eq!(log.append(0, i32::MAX, 3), Ok((2, true)));
        assert_eq!(log.append(0, 2, 1), Ok((5, false)));
        assert_eq!(log.append(0, i32::MAX - 3, 1), Err(AppendError::SequenceForgotten));
    }

    #[test]
    fn what_follows_a_refused_batch_is_not_appended_before_it() {
        let mut log = Log(Producers::default(), 0);
        for sequence in [0, 1] {
            log.0.refused(Producer { id: 7, epoch: 0, sequence }, 0);
        }
        assert_eq!(log.append(0, 2, 1), Err(AppendError::SequenceGap));
        assert_eq!(log.append(0, 1, 1), Err(AppendError::SequenceGap));
        assert_eq!(log.append_at(0, 2, 1, EXPIRY_MS), Ok((0, false)), "it does not come any more");
        let mut log = Log(Producers::default(), 0);
        log.0.refused(Producer { id: 7, epoch: 0, sequence: 0 }, 0);
        assert_eq!(log.append(0, 0, 1), Ok((0, false)));
        assert_eq!(log.append(0, 1, 1), Ok((1, false)));
        log.0.refused(Producer { id: 7, epoch: 0, sequence: 2 }, 0);
        assert_eq!(log.append(0, 3, 1), Err(AppendError::SequenceGap), "as of any known producer");
    }

    #[test]
    fn the_silent_are_forgotten() {
        let mut log = Log(Producers::default(), 0);
        log.append_at(1, 0, 1, 0).unwrap();
        assert_eq!(log.append_at(1, 9, 1, EXPIRY_MS - 1), Err(AppendError::SequenceGap));
        assert_eq!(log.append_at(0, 9, 1, EXPIRY_MS), Ok((1, false)));
    }
}
