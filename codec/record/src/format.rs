//! What the log core may ask of a payload, and the registry of formats it is given at start.

use crate::batch::BatchHeader;

/// Names the native form of a payload in the stored batch header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FormatId(pub u8);

impl FormatId {
    /// Opaque bytes: no keys, and the batch's time is every record's.
    pub const RAW: FormatId = FormatId(0);
    /// Kafka's record batch, version 2 (magic 2), whole, as the producer sent it.
    pub const KAFKA_BATCH_V2: FormatId = FormatId(1);
}

/// A payload that is not what its format says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payload is not a valid batch of its format")]
pub struct FormatError;

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
}

/// The formats a core knows, by id. An id that is not registered is treated as [`FormatId::RAW`].
#[derive(Clone, Default)]
pub struct Formats {
    known: Vec<(FormatId, &'static dyn Format)>,
}

impl Formats {
    /// Every format of this build.
    pub fn all() -> Formats {
        Formats::default().with(FormatId::KAFKA_BATCH_V2, &crate::kafka_batch::KafkaBatchFormat)
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
