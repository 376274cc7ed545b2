//! What Kafka's consumers see of batches that other protocols wrote.

use bytes::Bytes;

use crate::amqp_message;
use crate::batch::{Batch, BatchHeader};
use crate::format::{FormatError, FormatId};
use crate::kafka_batch::{self, BatchEncoder, BatchError, Record};
use crate::message::Message;
use crate::mqtt_message;

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
    if batch.payload.len() > PAYLOAD_BYTES_MAX {
        return Err(FormatError);
    }
    match batch.header.format {
        FormatId::AMQP_091 => {
            let messages = amqp_message::messages(&batch.payload);
            encode(
                batch,
                leader_epoch,
                messages.map(|view| view.and_then(|v| Ok((v.position, amqp_message::to_message(&v)?)))),
            )
        }
        FormatId::MQTT => {
            let time_ms = mqtt_time_ms(batch);
            let messages = mqtt_message::messages(&batch.payload);
            encode(
                batch,
                leader_epoch,
                messages.map(|view| view.map(|v| (v.position, mqtt_message::to_message(&v, time_ms)))),
            )
        }
        _ => Err(FormatError),
    }
}

/// When the messages of a batch of MQTT were published: their gateway says it, and if it did not, the core.
pub(super) fn mqtt_time_ms(batch: &Batch) -> i64 {
    let BatchHeader { max_time_ms, append_time_ms, .. } = batch.header;
    if max_time_ms >= 0 { max_time_ms } else { append_time_ms }
}

/// The messages at their positions, as a record batch.
fn encode(
    batch: &Batch,
    leader_epoch: i32,
    messages: impl Iterator<Item = Result<(u32, Message), FormatError>>,
) -> Result<Bytes, FormatError> {
    let base_offset = i64::try_from(batch.header.base_offset).map_err(|_| FormatError)?;
    let last_offset_delta = i32::try_from(batch.header.count.saturating_sub(1)).map_err(|_| FormatError)?;
    let records = messages.map(|message| {
        let (position, message) = message?;
        let offset_delta = i32::try_from(position).map_err(|_| FormatError)?;
        Ok(kafka_batch::from_message(message, offset_delta))
    });
    let records = records
        .zip(0..)
        .map(|(record, index): (Result<Record, FormatError>, u32)| record.map_err(|_| BatchError::BadRecord { index }));
    let encoder = BatchEncoder { base_offset, partition_leader_epoch: leader_epoch, ..Default::default() };
    encoder.encode_spanning(records, Some(last_offset_delta)).map_err(|_| FormatError)
}
