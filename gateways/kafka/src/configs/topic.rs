//! A topic's configuration: kept as the core topic's labels (key → value, only what was set), read once per change.

use std::collections::BTreeMap;

use codec_record::kafka_batch::{Codec, TimestampType};
use core_rpc::{BATCH_BYTES_MAX, Durability, Topic, TopicSettings};
use gateway_runtime::TopicView;

use super::topic_table::topic_definition;

/// Labels, or a configuration as it is asked for.
pub type Labels = BTreeMap<String, String>;

const DURABILITY: &str = "polymq.durability";

/// What handlers need of a topic's configuration, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// The largest record batch, bytes.
    pub max_message_bytes: u32,
    pub timestamp_type: TimestampType,
    /// How far a record's time may be behind the broker's, milliseconds.
    pub timestamp_before_max_ms: i64,
    /// How far a record's time may be ahead of the broker's, milliseconds.
    pub timestamp_after_max_ms: i64,
    /// How batches are stored; None: as they were sent.
    pub compression: Option<Codec>,
}

impl TopicView for TopicConfig {
    fn of(topic: &Topic) -> Self {
        TopicConfig {
            max_message_bytes: number(&topic.labels, "max.message.bytes").clamp(0, i64::from(i32::MAX)) as u32,
            timestamp_type: match value(&topic.labels, "message.timestamp.type") {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: number(&topic.labels, "message.timestamp.before.max.ms"),
            timestamp_after_max_ms: number(&topic.labels, "message.timestamp.after.max.ms"),
            compression: match value(&topic.labels, "compression.type") {
                "uncompressed" => Some(Codec::None),
                "gzip" => Some(Codec::Gzip),
                "snappy" => Some(Codec::Snappy),
                "lz4" => Some(Codec::Lz4),
                "zstd" => Some(Codec::Zstd),
                _ => None,
            },
        }
    }
}

/// The value of a key that is defined: what was set, or the default.
pub fn value<'a>(labels: &'a Labels, name: &str) -> &'a str {
    match labels.get(name) {
        Some(value) => value.trim(),
        None => topic_definition(name).map_or("", |definition| definition.default),
    }
}

fn number(labels: &Labels, name: &str) -> i64 {
    let default = || topic_definition(name).and_then(|definition| definition.default.parse().ok());
    value(labels, name).parse().ok().or_else(default).unwrap_or(0)
}

/// Whether a topic can have this configuration. The error says what is wrong.
pub fn check_labels(labels: &Labels) -> Result<(), String> {
    for (name, value) in labels {
        topic_definition(name).ok_or_else(|| format!("Unknown topic config name: {name}"))?.check(value)?;
    }
    check_flush(labels)
}

/// How often records are flushed is the durability's to say: what `flush.*` ask for must not be more.
fn check_flush(labels: &Labels) -> Result<(), String> {
    let durability = value(labels, DURABILITY);
    let (messages, ms) = (number(labels, "flush.messages"), number(labels, "flush.ms"));
    let refused = |name: &str| {
        Err(format!(
            "{name}={} is not supported with polymq.durability={durability}, which flushes less often; \
                     use polymq.durability=fsync",
            value(labels, name)
        ))
    };
    match durability {
        "fsync" => Ok(()),
        _ if messages != i64::MAX => refused("flush.messages"),
        "relaxed" if ms < 1000 => refused("flush.ms"),
        "memory" if ms != i64::MAX => refused("flush.ms"),
        _ => Ok(()),
    }
}

/// The durability by its name.
pub fn durability_of(name: &str) -> Option<Durability> {
    match name {
        "fsync" => Some(Durability::Fsync),
        "relaxed" => Some(Durability::Relaxed),
        "memory" => Some(Durability::Memory),
        _ => None,
    }
}

/// The configuration of a topic that is to be created; it gets this durability unless it names one itself.
pub fn with_durability(mut labels: Labels, durability: Durability) -> Labels {
    let name = match durability {
        Durability::Fsync => return labels,
        Durability::Relaxed => "relaxed",
        Durability::Memory => "memory",
    };
    labels.entry(DURABILITY.to_owned()).or_insert_with(|| name.to_owned());
    labels
}

/// What the core obeys of a configuration.
pub fn settings_of(labels: &Labels) -> TopicSettings {
    TopicSettings {
        durability: durability_of(value(labels, DURABILITY)).unwrap_or(Durability::Fsync),
        compaction: None,
        // -1 stands for no limit.
        retention_ms: u64::try_from(number(labels, "retention.ms")).ok(),
        retention_bytes: u64::try_from(number(labels, "retention.bytes")).ok(),
        batch_bytes_max: u32::try_from(number(labels, "max.message.bytes")).unwrap_or(0).min(BATCH_BYTES_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn a_topic_s_own_durability_goes_before_the_gateway_s() {
        let own = labels(&[("polymq.durability", "fsync")]);
        assert_eq!(settings_of(&with_durability(own, Durability::Memory)).durability, Durability::Fsync);
        let none = with_durability(Labels::new(), Durability::Relaxed);
        assert_eq!(settings_of(&none).durability, Durability::Relaxed);
        assert!(with_durability(Labels::new(), Durability::Fsync).is_empty());
    }

    #[test]
    fn settings_follow_the_labels() {
        let settings = settings_of(&labels(&[("retention.ms", "-1"), ("polymq.durability", "memory")]));
        assert_eq!((settings.retention_ms, settings.durability), (None, Durability::Memory));
        assert_eq!(settings_of(&Labels::new()).retention_ms, Some(604_800_000));
        assert_eq!(settings_of(&labels(&[("retention.bytes", "5")])).retention_bytes, Some(5));
    }

    #[test]
    fn unknown_names_and_impossible_combinations_are_refused() {
        assert!(check_labels(&labels(&[("retention.ms", "1"), ("flush.messages", "1")])).is_ok());
        assert!(check_labels(&labels(&[("retention", "1")])).is_err());
        assert!(check_labels(&labels(&[("polymq.durability", "relaxed"), ("flush.messages", "1")])).is_err());
        assert!(check_labels(&labels(&[("polymq.durability", "relaxed"), ("flush.ms", "5000")])).is_ok());
        assert!(check_labels(&labels(&[("polymq.durability", "memory"), ("flush.ms", "5000")])).is_err());
    }
}
