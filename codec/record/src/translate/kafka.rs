//! What Kafka's consumers see of batches that other protocols wrote.

use bytes::Bytes;

use crate::amqp_message;
use crate::batch::Batch;
use crate::format::{FormatError, FormatId};
use crate::kafka_batch::{self, BatchEncoder, BatchError, Record};

/// The largest payload that is converted: what comes out may be larger, for headers become text, and must stay below
/// 2 GiB. No gateway writes such batches.
const PAYLOAD_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The batch as a whole record batch at the same offsets, not compressed. Messages that are gone leave holes, as after a
/// compaction. An error if its format is not one of messages, or it is not of its format.
pub fn kafka_batch(batch: &Batch, leader_epoch: i32) -> Result<Bytes, FormatError> {
    if batch.header.format == FormatId::KAFKA_BATCH_V2 {
        let [prefix, rest] = kafka_batch::rebased(&batch.payload, batch.header.base_offset as i64, leader_epoch)
            .map_err(|_| FormatError)?;
        return Ok([prefix, rest].concat().into());
    }
    if batch.header.format != FormatId::AMQP_091 || batch.payload.len() > PAYLOAD_BYTES_MAX {
        return Err(FormatError);
    }
    let base_offset = i64::try_from(batch.header.base_offset).map_err(|_| FormatError)?;
    let last_offset_delta = i32::try_from(batch.header.count.saturating_sub(1)).map_err(|_| FormatError)?;
    let records = amqp_message::messages(&batch.payload).map(|view| {
        let view = view?;
        let offset_delta = i32::try_from(view.position).map_err(|_| FormatError)?;
        Ok(kafka_batch::from_message(amqp_message::to_message(&view)?, offset_delta))
    });
    let records = records
        .zip(0..)
        .map(|(record, index): (Result<Record, FormatError>, u32)| record.map_err(|_| BatchError::BadRecord { index }));
    let encoder = BatchEncoder { base_offset, partition_leader_epoch: leader_epoch, ..Default::default() };
    encoder.encode_spanning(records, Some(last_offset_delta)).map_err(|_| FormatError)
}
