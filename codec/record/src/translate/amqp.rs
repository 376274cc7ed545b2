//! What AMQP's consumers see of a batch, whoever wrote it.

use bytes::Bytes;

use super::kafka::mqtt_time_ms;
use crate::amqp_message::{self, MessageView, Messages, ShortStr, Writer};
use crate::batch::{Batch, BatchFlags};
use crate::format::{FormatError, FormatId};
use crate::kafka_batch::{self, DECOMPRESSED_BYTES_MAX, Records};
use crate::message::HeaderValue;
use crate::mqtt_message;

/// The delivery mode of what need not survive.
const TRANSIENT: i64 = 1;

/// The messages of a batch of `topic`, in order; none of one that has no data of clients (a transaction's marker).
/// Those that AMQP wrote share the batch's memory; those of others are converted one by one: exchange "", routing
/// key the topic. An error if its format is not one of messages, or it is not of its format.
pub fn amqp_messages(batch: &Batch, topic: &ShortStr) -> Result<AmqpMessages, FormatError> {
    let source = match batch.header.format {
        _ if batch.header.flags.contains(BatchFlags::CONTROL) => Source::None,
        FormatId::AMQP_091 => Source::Amqp(amqp_message::messages(&batch.payload)),
        FormatId::KAFKA_BATCH_V2 => {
            let header = kafka_batch::BatchHeader::parse(&batch.payload).map_err(|_| FormatError)?;
            match header.attributes.is_control() {
                true => Source::None,
                false => {
                    let records = kafka_batch::records(&batch.payload, DECOMPRESSED_BYTES_MAX);
                    Source::Kafka(records.map_err(|_| FormatError)?)
                }
            }
        }
        FormatId::MQTT => {
            Source::Mqtt { messages: mqtt_message::messages(&batch.payload), time_ms: mqtt_time_ms(batch) }
        }
        _ => return Err(FormatError),
    };
    Ok(AmqpMessages { source, topic: topic.clone(), append_time_ms: batch.header.append_time_ms })
}

/// The same as a payload of [`FormatId::AMQP_091`], at the same positions: for those who want to go through it themselves.
pub fn amqp_payload(batch: &Batch, topic: &ShortStr) -> Result<Bytes, FormatError> {
    if batch.header.format == FormatId::AMQP_091 && !batch.header.flags.contains(BatchFlags::CONTROL) {
        return Ok(batch.payload.clone());
    }
    let mut writer = Writer::new();
    for message in amqp_messages(batch, topic)? {
        let message = message?;
        // Positions rise, whoever wrote them; what a peer made up must not be filled up to.
        if message.position >= batch.header.count || message.position < writer.count() {
            return Err(FormatError);
        }
        while writer.count() < message.position {
            writer.append_gone();
        }
        writer.append(&message);
    }
    Ok(writer.take_payload())
}

/// The messages of a batch. After an error there are no more.
#[derive(Debug, Clone)]
pub struct AmqpMessages {
    source: Source,
    topic: ShortStr,
    append_time_ms: i64,
}

#[derive(Debug, Clone)]
enum Source {
    None,
    Amqp(Messages),
    Kafka(Records),
    /// All of the batch's time, ms since the Unix epoch.
    Mqtt {
        messages: mqtt_message::Messages,
        time_ms: i64,
    },
}

impl Iterator for AmqpMessages {
    type Item = Result<MessageView, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = match &mut self.source {
            Source::None => return None,
            Source::Amqp(messages) => return messages.next(),
            Source::Kafka(records) => records.next()?.ok().and_then(|record| {
                let position = u32::try_from(record.offset_delta).ok()?;
                let message = kafka_batch::to_message(record);
                Some(amqp_message::from_message(message, position, &self.topic, self.append_time_ms))
            }),
            Source::Mqtt { messages, time_ms } => messages.next()?.ok().map(|view| {
                let mut message = mqtt_message::to_message(&view, *time_ms);
                if view.qos == 0 {
                    // At most once is what AMQP calls not persistent.
                    message.headers.push((amqp_message::DELIVERY_MODE.into(), HeaderValue::Integer(TRANSIENT)));
                }
                amqp_message::from_message(message, view.position, &self.topic, self.append_time_ms)
            }),
        };
        if found.is_none() {
            self.source = Source::None;
        }
        Some(found.ok_or(FormatError))
    }
}
