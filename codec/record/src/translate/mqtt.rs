//! What MQTT's subscribers see of a batch, whoever wrote it.

use bytes::Bytes;

use super::names;
use crate::amqp_message;
use crate::batch::{Batch, BatchFlags};
use crate::format::{FormatError, FormatId};
use crate::kafka_batch::{self, DECOMPRESSED_BYTES_MAX, Records};
use crate::message::Message;
use crate::mqtt_message::{self, MessageView};

/// The messages of a batch of `topic`, in order; none of one that has no data of clients (a transaction's marker).
///
/// Those that MQTT wrote share the batch's memory. Others are converted one by one; they are published to what their key says, if
/// that is a topic name whose topic is this one, and else to the topic's own name. An error if the batch's format is not one of
/// messages, or it is not of its format.
pub fn mqtt_messages(batch: &Batch, topic: &str) -> Result<MqttMessages<'static>, FormatError> {
    messages_of(batch, topic, None)
}

/// The same where other rules say which topic is whose: `belongs` is asked for each key that is a topic name whether it is one of
/// this topic.
pub fn mqtt_messages_where<'a>(
    batch: &Batch,
    topic: &str,
    belongs: &'a Belongs<'a>,
) -> Result<MqttMessages<'a>, FormatError> {
    messages_of(batch, topic, Some(belongs))
}

/// Whether messages that are published to this name are a topic's.
pub type Belongs<'f> = dyn Fn(&str) -> bool + Sync + 'f;

fn messages_of<'a>(
    batch: &Batch,
    topic: &str,
    belongs: Option<&'a Belongs<'a>>,
) -> Result<MqttMessages<'a>, FormatError> {
    let header = &batch.header;
    let source = match header.format {
        _ if header.flags.contains(BatchFlags::CONTROL) => return Ok(MqttMessages { source: Source::None }),
        FormatId::MQTT => return Ok(MqttMessages { source: Source::Mqtt(mqtt_message::messages(&batch.payload)) }),
        FormatId::AMQP_091 => ForeignSource::Amqp(amqp_message::messages(&batch.payload)),
        FormatId::KAFKA_BATCH_V2 => {
            let head = kafka_batch::BatchHeader::parse(&batch.payload).map_err(|_| FormatError)?;
            if head.attributes.is_control() {
                return Ok(MqttMessages { source: Source::None });
            }
            let records = kafka_batch::records(&batch.payload, DECOMPRESSED_BYTES_MAX);
            ForeignSource::Kafka(records.map_err(|_| FormatError)?)
        }
        _ => return Err(FormatError),
    };
    let foreign = Foreign {
        source,
        topic: topic.to_owned(),
        name: names::name_of(topic).into(),
        belongs,
        append_time_ms: header.append_time_ms,
        count: header.count,
    };
    Ok(MqttMessages { source: Source::Foreign(Box::new(foreign)) })
}

/// The messages of a batch. After an error there are no more.
pub struct MqttMessages<'a> {
    source: Source<'a>,
}

enum Source<'a> {
    None,
    Mqtt(mqtt_message::Messages),
    Foreign(Box<Foreign<'a>>),
}

impl Iterator for MqttMessages<'_> {
    type Item = Result<MessageView, FormatError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let found = match &mut self.source {
            Source::None => return None,
            Source::Mqtt(messages) => return messages.next(),
            Source::Foreign(foreign) => foreign.next()?,
        };
        if found.is_err() {
            self.source = Source::None;
        }
        Some(found)
    }
}

/// Messages of another protocol.
struct Foreign<'a> {
    source: ForeignSource,
    topic: String,
    /// What those are published to whose key is no name.
    name: Bytes,
    belongs: Option<&'a Belongs<'a>>,
    append_time_ms: i64,
    count: u32,
}

enum ForeignSource {
    Amqp(amqp_message::Messages),
    Kafka(Records),
}

impl Foreign<'_> {
    fn next(&mut self) -> Option<Result<MessageView, FormatError>> {
        let found = match &mut self.source {
            ForeignSource::Amqp(messages) => messages.next()?.and_then(|view| {
                let message = amqp_message::to_message(&view)?;
                Ok((view.position, message))
            }),
            ForeignSource::Kafka(records) => records.next()?.map_err(|_| FormatError).and_then(|record| {
                let position = u32::try_from(record.offset_delta).map_err(|_| FormatError)?;
                Ok((position, kafka_batch::to_message(record)))
            }),
        };
        Some(found.and_then(|(position, message)| self.convert(position, message)))
    }

    fn convert(&self, position: u32, message: Message) -> Result<MessageView, FormatError> {
        // A position that a peer made up is an offset of another batch.
        if position >= self.count {
            return Err(FormatError);
        }
        let topic = match message.key.as_deref().and_then(names::checked) {
            Some(name) if self.owns(name) => message.key.clone(),
            _ => None,
        };
        let topic = topic.unwrap_or_else(|| self.name.clone());
        Ok(mqtt_message::from_message(message, position, topic, self.append_time_ms))
    }

    fn owns(&self, name: &str) -> bool {
        match self.belongs {
            Some(belongs) => belongs(name),
            None => names::is_topic_of(&self.topic, name),
        }
    }
}
