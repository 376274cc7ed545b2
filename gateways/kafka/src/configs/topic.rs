//! A topic's configuration: kept as the core topic's labels (key → value, only what was set), read once per change.

use std::collections::BTreeMap;

use codec_record::kafka_batch::{Codec, TimestampType};
use core_rpc::{BATCH_BYTES_MAX, Compaction, Durability, Topic, TopicSettings};
use gateway_runtime::TopicView;

use super::definition::elements;
use super::inherit::inherited;
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
    /// Whether records need a key.
    pub compacted: bool,
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
            compacted: has_policy(&topic.labels, "compact"),
        }
    }
}

/// Whether old records are cleaned in this way.
fn has_policy(labels: &Labels, policy: &str) -> bool {
    elements(value(labels, "cleanup.policy")).any(|element| element == policy)
}

/// The value of a key that is defined: what was set for the topic, or for all brokers, or the default.
pub fn value<'a>(labels: &'a Labels, name: &str) -> &'a str {
    let set = labels.get(name).map(|value| value.trim()).or_else(|| inherited(labels, name));
    set.unwrap_or_else(|| topic_definition(name).map_or("", |definition| definition.default))
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
    let (least, most) = (number(labels, "min.compaction.lag.ms"), number(labels, "max.compaction.lag.ms"));
    if least > most {
        return Err(format!("min.compaction.lag.ms={least} is more than max.compaction.lag.ms={most}"));
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

/// The configuration of a topic that is to be created; it gets this durability unless it names one itself.
pub fn with_durability(mut labels: Labels, durability: Durability) -> Labels {
    if durability != Durability::Fsync {
        labels.entry(DURABILITY.to_owned()).or_insert_with(|| durability.name().to_owned());
    }
    labels
}

/// What the core obeys of a configuration.
pub fn settings_of(labels: &Labels) -> TopicSettings {
    // -1 stands for no limit, and limits are for those who delete.
    let limit = |name| u64::try_from(number(labels, name)).ok().filter(|_| has_policy(labels, "delete"));
    TopicSettings {
        durability: value(labels, DURABILITY).parse().unwrap_or(Durability::Fsync),
        compaction: has_policy(labels, "compact").then(|| compaction_of(labels)),
        retention_ms: limit("retention.ms"),
        retention_bytes: limit("retention.bytes"),
        batch_bytes_max: u32::try_from(number(labels, "max.message.bytes")).unwrap_or(0).min(BATCH_BYTES_MAX),
        ..TopicSettings::default()
    }
}

fn compaction_of(labels: &Labels) -> Compaction {
    let lag_ms_max = number(labels, "max.compaction.lag.ms");
    let dirty_ratio: f64 = value(labels, "min.cleanable.dirty.ratio").parse().unwrap_or(0.5);
    Compaction {
        tombstone_retention_ms: number(labels, "delete.retention.ms").max(0) as u64,
        lag_ms_min: number(labels, "min.compaction.lag.ms").max(0) as u64,
        lag_ms_max: u64::try_from(lag_ms_max).ok().filter(|_| lag_ms_max != i64::MAX),
        dirty_ppm_min: (dirty_ratio.clamp(0.0, 1.0) * 1e6) as u32,
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
    fn the_cleanup_policy_says_what_limits_and_compacts() {
        let settings = |policy| settings_of(&labels(&[("cleanup.policy", policy), ("retention.bytes", "5")]));
        assert_eq!((settings("delete").retention_bytes, settings("delete").compaction), (Some(5), None));
        let both = settings("compact, delete");
        assert_eq!((both.retention_bytes, both.compaction.is_some()), (Some(5), true));
        assert_eq!((settings("").retention_ms, settings("").compaction), (None, None));
        let compacted = settings("compact");
        assert_eq!((compacted.retention_ms, compacted.retention_bytes), (None, None));
        let defaults =
            Compaction { tombstone_retention_ms: 86_400_000, lag_ms_min: 0, lag_ms_max: None, dirty_ppm_min: 500_000 };
        assert_eq!(compacted.compaction, Some(defaults));
        let given = labels(&[
            ("cleanup.policy", "compact"),
            ("delete.retention.ms", "1"),
            ("min.compaction.lag.ms", "2"),
            ("max.compaction.lag.ms", "3"),
            ("min.cleanable.dirty.ratio", "0.01"),
        ]);
        let wanted =
            Compaction { tombstone_retention_ms: 1, lag_ms_min: 2, lag_ms_max: Some(3), dirty_ppm_min: 10_000 };
        assert_eq!(settings_of(&given).compaction, Some(wanted));
        assert!(check_labels(&given).is_ok());
        // As Kafka refuses it.
        assert!(check_labels(&labels(&[("min.compaction.lag.ms", "3"), ("max.compaction.lag.ms", "2")])).is_err());
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
