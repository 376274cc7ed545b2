//! The configurations of groups: entries `config/group/<namespace>/<group>` of the core's meta, mirrored here ([`StoredConfigs`]).

use std::time::Duration;

use core_rpc::{Core, Isolation, MetaError, OffsetAt, SeekTo};
use tokio_util::sync::CancellationToken;

use super::StoredConfigs;
use super::definition::{Allowed, Definition, Effect, Kind};
use crate::errors::{ErrorCode, Refusal};
use crate::state::consumer_groups::ConsumerTimes;

/// What was set, by key.
pub type GroupLabels = super::Labels;

const CONSUMER_HEARTBEAT_INTERVAL: &str = "consumer.heartbeat.interval.ms";
const CONSUMER_SESSION_TIMEOUT: &str = "consumer.session.timeout.ms";
const LOCK_DURATION: &str = "share.record.lock.duration.ms";
const HEARTBEAT_INTERVAL: &str = "share.heartbeat.interval.ms";
const SESSION_TIMEOUT: &str = "share.session.timeout.ms";
const OFFSET_RESET: &str = "share.auto.offset.reset";
const ISOLATION: &str = "share.isolation.level";

/// The keys that groups have, by name. Defaults and bounds are Kafka 4.1's.
pub const GROUP_CONFIGS: &[Definition] = &[
    Definition {
        name: CONSUMER_HEARTBEAT_INTERVAL,
        kind: Kind::Int,
        default: "5000",
        allowed: Allowed::Range(5000, 15000),
        effect: Effect::Obeyed,
        broker_synonym: Some("group.consumer.heartbeat.interval.ms"),
        documentation: "How often the members of a consumer group send heartbeats.",
    },
    Definition {
        name: CONSUMER_SESSION_TIMEOUT,
        kind: Kind::Int,
        default: "45000",
        allowed: Allowed::Range(45000, 60000),
        effect: Effect::Obeyed,
        broker_synonym: Some("group.consumer.session.timeout.ms"),
        documentation: "After what time without a heartbeat a member of a consumer group is removed.",
    },
    Definition {
        name: OFFSET_RESET,
        kind: Kind::String,
        default: "latest",
        allowed: Allowed::Any,
        effect: Effect::Obeyed,
        broker_synonym: None,
        documentation: "Where a share group begins on a partition it has not read: latest, earliest or by_duration:<ISO 8601>.",
    },
    Definition {
        name: HEARTBEAT_INTERVAL,
        kind: Kind::Int,
        default: "5000",
        allowed: Allowed::Range(5000, 15000),
        effect: Effect::Obeyed,
        broker_synonym: Some("group.share.heartbeat.interval.ms"),
        documentation: "How often the members of a share group send heartbeats.",
    },
    Definition {
        name: ISOLATION,
        kind: Kind::String,
        default: "read_uncommitted",
        allowed: Allowed::OneOf(&["read_committed", "read_uncommitted"]),
        effect: Effect::Obeyed,
        broker_synonym: None,
        documentation: "Whether a share group reads records of open and aborted transactions.",
    },
    Definition {
        name: LOCK_DURATION,
        kind: Kind::Int,
        default: "30000",
        allowed: Allowed::Range(15000, 60000),
        effect: Effect::Obeyed,
        broker_synonym: Some("group.share.record.lock.duration.ms"),
        documentation: "How long a record that was delivered to a member of a share group is its own.",
    },
    Definition {
        name: SESSION_TIMEOUT,
        kind: Kind::Int,
        default: "45000",
        allowed: Allowed::Range(45000, 60000),
        effect: Effect::Obeyed,
        broker_synonym: Some("group.share.session.timeout.ms"),
        documentation: "After what time without a heartbeat a member of a share group is removed.",
    },
];

/// A group's key of this name.
pub fn group_definition(name: &str) -> Option<&'static Definition> {
    GROUP_CONFIGS.iter().find(|definition| definition.name == name)
}

/// What a share group is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareConfig {
    pub lock_duration: Duration,
    pub heartbeat_interval_ms: i32,
    pub session_timeout: Duration,
    pub start: ShareStart,
    pub isolation: Isolation,
}

/// Where a share group begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareStart {
    Latest,
    Earliest,
    /// With the records of so long ago.
    Ago(Duration),
}

impl ShareStart {
    fn parse(value: &str) -> Option<ShareStart> {
        match value {
            "latest" => Some(ShareStart::Latest),
            "earliest" => Some(ShareStart::Earliest),
            _ => value.strip_prefix("by_duration:").and_then(iso_duration).map(ShareStart::Ago),
        }
    }

    pub fn seek(self, now_ms: i64) -> SeekTo {
        SeekTo::At(match self {
            ShareStart::Latest => OffsetAt::Latest,
            ShareStart::Earliest => OffsetAt::Earliest,
            ShareStart::Ago(ago) => {
                OffsetAt::Time(now_ms.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)).max(0))
            }
        })
    }
}

/// A duration like `P1DT2H3M4.5S`: days and less, not negative.
fn iso_duration(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('P')?;
    let (days, rest) = match text.split_once('T') {
        Some((days, rest)) if !rest.is_empty() => (days, rest),
        Some(_) => return None,
        None => (text, ""),
    };
    let mut seconds = 0.0;
    let mut parts = 0;
    for (mut part, units) in [(days, &[('D', 86_400.0)][..]), (rest, &[('H', 3600.0), ('M', 60.0), ('S', 1.0)][..])] {
        for (unit, factor) in units {
            if let Some((number, behind)) = part.split_once(*unit) {
                let is_plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
                seconds += number.parse::<f64>().ok().filter(|_| is_plain)? * factor;
                part = behind;
                parts += 1;
            }
        }
        if !part.is_empty() {
            return None;
        }
    }
    if parts == 0 { None } else { Duration::try_from_secs_f64(seconds).ok() }
}

/// The configurations of all groups of a namespace.
#[derive(Clone)]
pub struct GroupConfigs<C> {
    stored: StoredConfigs<C>,
}

impl<C: Core> GroupConfigs<C> {
    pub async fn start(core: C, namespace: &str, stop: CancellationToken) -> Result<Self, MetaError> {
        Ok(GroupConfigs { stored: StoredConfigs::start(core, "group", namespace, stop).await? })
    }

    /// The groups for which something was set.
    pub fn names(&self) -> Vec<String> {
        self.stored.names()
    }

    /// What was set for a group.
    pub fn labels(&self, group: &str) -> GroupLabels {
        self.stored.labels(group)
    }

    /// What is set for a consumer group; the gateway's own settings are for the others.
    pub fn consumer(&self, group: &str) -> ConsumerTimes {
        let labels = self.labels(group);
        let millis = |name: &str| labels.get(name)?.parse().ok();
        ConsumerTimes {
            session_timeout_ms: millis(CONSUMER_SESSION_TIMEOUT),
            heartbeat_interval_ms: millis(CONSUMER_HEARTBEAT_INTERVAL),
        }
    }

    pub fn share(&self, group: &str) -> ShareConfig {
        let labels = self.labels(group);
        // What is stored was checked; a later version's value that is unknown here is as if it were not set.
        let millis = |name: &str| value(&labels, name).parse::<u64>().unwrap_or(30_000);
        ShareConfig {
            lock_duration: Duration::from_millis(millis(LOCK_DURATION)),
            heartbeat_interval_ms: i32::try_from(millis(HEARTBEAT_INTERVAL)).unwrap_or(5000),
            session_timeout: Duration::from_millis(millis(SESSION_TIMEOUT)),
            start: ShareStart::parse(value(&labels, OFFSET_RESET)).unwrap_or(ShareStart::Latest),
            isolation: match value(&labels, ISOLATION) {
                "read_committed" => Isolation::Committed,
                _ => Isolation::All,
            },
        }
    }

    /// Changes a group's configuration; `change` may be called several times.
    pub async fn alter(
        &self,
        group: &str,
        validate_only: bool,
        change: impl Fn(&GroupLabels) -> Result<GroupLabels, Refusal>,
    ) -> Result<(), Refusal> {
        let checked = |before: &GroupLabels| {
            let labels = change(before)?;
            check(&labels).map_err(|message| Refusal::new(ErrorCode::InvalidConfig, message))?;
            Ok(labels)
        };
        self.stored.alter(group, validate_only, checked).await
    }
}

/// The value of a key, set or default.
pub fn value<'a>(labels: &'a GroupLabels, name: &str) -> &'a str {
    let default = || group_definition(name).map_or("", |definition| definition.default);
    labels.get(name).map_or_else(default, String::as_str)
}

fn check(labels: &GroupLabels) -> Result<(), String> {
    for (name, value) in labels {
        let definition = group_definition(name).ok_or_else(|| format!("Unknown group config name: {name}"))?;
        definition.check(value)?;
        if name == OFFSET_RESET && ShareStart::parse(value).is_none() {
            return Err(format!(
                "Invalid value {value} for configuration {name}: not latest, earliest or by_duration:"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        assert_eq!(iso_duration("PT1H"), Some(Duration::from_secs(3600)));
        assert_eq!(iso_duration("P1DT2M3.5S"), Some(Duration::from_millis(86_523_500)));
        for text in ["", "P", "PT", "1H", "PT-1H", "P1H", "PT1D", "PTxS"] {
            assert_eq!(iso_duration(text), None, "{text}");
        }
    }

    #[test]
    fn values_are_checked() {
        let labels = |name: &str, value: &str| GroupLabels::from([(name.to_owned(), value.to_owned())]);
        for (name, value, allowed) in [
            (OFFSET_RESET, "earliest", true),
            (OFFSET_RESET, "by_duration:PT1H", true),
            (OFFSET_RESET, "by_duration:1", false),
            (LOCK_DURATION, "15000", true),
            (LOCK_DURATION, "14999", false),
            (ISOLATION, "read_committed", true),
            (CONSUMER_HEARTBEAT_INTERVAL, "5000", true),
            (CONSUMER_SESSION_TIMEOUT, "60001", false),
            ("no.such", "1", false),
        ] {
            assert_eq!(check(&labels(name, value)).is_ok(), allowed, "{name}={value}");
        }
        for definition in GROUP_CONFIGS {
            assert_eq!(check(&labels(definition.name, definition.default)), Ok(()), "{}", definition.name);
        }
    }
}
