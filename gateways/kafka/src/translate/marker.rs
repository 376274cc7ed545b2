//! The marker that ends a transaction on a partition, as Kafka's consumers expect it.

use codec_record::kafka_batch::end_marker as encode;
use codec_record::{Batch, BatchFlags, FormatId, Producer};
use core_rpc::Outcome;

use crate::state::transactions::ProducerEpoch;

/// Which coordinator decided. There is one at a time, by compare-and-set, and no election that would count them.
pub const COORDINATOR_EPOCH: i32 = 0;

/// A marker of this producer and epoch.
pub fn end_marker(producer: ProducerEpoch, outcome: Outcome, now_ms: i64) -> Batch {
    let payload = encode(producer.id, producer.epoch, outcome == Outcome::Commit, COORDINATOR_EPOCH, now_ms);
    let mut batch = Batch::new(FormatId::KAFKA_BATCH_V2, 1, now_ms, payload);
    batch.header.flags = BatchFlags(BatchFlags::CONTROL.0 | BatchFlags::TRANSACTIONAL.0);
    batch.header.producer = Some(Producer { id: producer.id, epoch: producer.epoch, sequence: -1 });
    batch
}
