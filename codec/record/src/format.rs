//! What the log core may ask of a payload, and the registry of formats it is given at start.

use bytes::Bytes;

use crate::batch::BatchHeader;

/// Names the native form of a payload in the stored batch header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FormatId(pub u8);

impl FormatId {
    /// Opaque bytes: no keys, and the batch's time is every record's.
    pub const RAW: FormatId = FormatId(0);
    /// Kafka's record batch, version 2 (magic 2), whole, as the producer sent it.
    pub const KAFKA_BATCH_V2: FormatId = FormatId(1);
    /// Messages of AMQP 0-9-1, one or more: see [`crate::amqp_message::stored`].
    pub const AMQP_091: FormatId = FormatId(2);
    /// Messages of MQTT, of every version, one or more: see [`crate::mqtt_message::stored`].
    pub const MQTT: FormatId = FormatId(3);
}

/// A payload that is not what its format says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payload is not a valid batch of its format")]
pub struct FormatError;

/// What compaction wants to know of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordKey<'a> {
    pub position: u32,
    /// None: it has none, though its format knows keys.
    pub key: Option<&'a [u8]>,
    /// It deletes its key.
    pub tombstone: bool,
    /// From this time on, ms since the Unix epoch, it is as good as a tombstone. None: never.
    pub expires_ms: Option<i64>,
}

/// What is left of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retained {
    /// Every record: the payload stays as it is.
    All,
    /// This payload, with at least one record.
    Some {
        payload: Bytes,
        /// The greatest time of a record that is left, ms since the Unix epoch; -1 if the format has none.
        max_time_ms: i64,
    },
    /// No record. This payload has none, and what readers need to know of the batch's offsets.
    None { payload: Bytes },
}

/// The few verbs that the log core may ask of a payload. Positions are offsets relative to the batch's base.
pub trait Format: Send + Sync {
    /// The first record whose time is at or after `time_ms`: (position, its time). None if there is none.
    fn first_at_or_after(
        &self,
        header: &BatchHeader,
        payload: &[u8],
        time_ms: i64,
    ) -> Result<Option<(u32, i64)>, FormatError>;

    /// The first record that has the batch's greatest time: (position, its time).
    fn max_time(&self, header: &BatchHeader, payload: &[u8]) -> Result<(u32, i64), FormatError>;

    /// Whether records have keys, by which they can be compacted. Without, the two verbs below are not called.
    fn has_keys(&self) -> bool {
        false
    }

    /// Shows the keys of all records, in order.
    fn keys(
        &self,
        header: &BatchHeader,
        payload: &[u8],
        visit: &mut dyn FnMut(RecordKey<'_>),
    ) -> Result<(), FormatError> {
        let _ = (header, payload, visit);
        Err(FormatError)
    }

    /// The payload with only those records that `keep` wants, which is asked for each in order. Records keep their
    /// positions, times and all else; so does the batch, its last position and its producer's sequence included.
    fn retain(
        &self,
        header: &BatchHeader,
        payload: &[u8],
        keep: &mut dyn FnMut(RecordKey<'_>) -> bool,
    ) -> Result<Retained, FormatError> {
        let _ = (header, payload, keep);
        Err(FormatError)
    }
}

/// The formats a core knows, by id. An id that is not registered is treated as [`FormatId::RAW`].
#[derive(Clone, Default)]
pub struct Formats {
    known: Vec<(FormatId, &'static dyn Format)>,
}

impl Formats {
    /// Every format of this build.
    pub fn all() -> Formats {
        Formats::default()
            .with(FormatId::KAFKA_BATCH_V2, &crate::kafka_batch::KafkaBatchFormat)
            .with(FormatId::AMQP_091, &crate::amqp_message::AmqpFormat)
            .with(FormatId::MQTT, &crate::mqtt_message::MqttFormat)
    }

    pub fn with(mut self, id: FormatId, format: &'static dyn Format) -> Self {
        self.known.push((id, format));
        self
    }

    pub fn get(&self, id: FormatId) -> &'static dyn Format {
        self.known.iter().find(|(known, _)| *known == id).map_or(&Raw, |(_, format)| *format)
    }
}

/// Opaque payloads: every record has the batch's greatest time.
struct Raw;

impl Format for Raw {
    fn first_at_or_after(
        &self,
        header: &BatchHeader,
        _payload: &[u8],
        time_ms: i64,
    ) -> Result<Option<(u32, i64)>, FormatError> {
        Ok((header.max_time_ms >= time_ms).then_some((0, header.max_time_ms)))
    }

    fn max_time(&self, header: &BatchHeader, _payload: &[u8]) -> Result<(u32, i64), FormatError> {
        Ok((0, header.max_time_ms))
    }
}
