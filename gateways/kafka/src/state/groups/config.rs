//! What an operator may set about groups. The names in the comments are Kafka's broker settings.

use std::time::Duration;

use super::error::GroupError;

/// Limits and delays of all groups of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// How long the first rebalance of an empty group waits for more members (`group.initial.rebalance.delay.ms`).
    pub initial_rebalance_delay_ms: u32,
    /// `group.min.session.timeout.ms`.
    pub session_timeout_ms_min: u32,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_ms_max: u32,
    /// `group.max.size` and `group.consumer.max.size`.
    pub members_max: usize,
    /// How long a member of the consumer protocol may be silent (`group.consumer.session.timeout.ms`).
    pub consumer_session_timeout_ms: u32,
    /// How often a member of the consumer protocol is asked to heartbeat (`group.consumer.heartbeat.interval.ms`).
    pub consumer_heartbeat_interval_ms: u32,
    /// How long a new member may stay parked in its first join. It has no id to heartbeat with yet, and a peer that
    /// vanished must not be waited for in every later rebalance.
    pub new_member_join_timeout_ms: u32,
    /// The longest metadata of an offset commit, in UTF-16 units as Kafka counts (`offset.metadata.max.bytes`).
    pub offset_metadata_length_max: usize,
    /// How long the offsets of an empty group are kept (`offsets.retention.minutes`).
    pub offsets_retention: Duration,
    /// How often expired offsets are looked for (`offsets.retention.check.interval.ms`).
    pub offsets_retention_check: Duration,
}

impl Default for GroupConfig {
    /// Kafka 4.1's defaults.
    fn default() -> Self {
        GroupConfig {
            initial_rebalance_delay_ms: 3_000,
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            members_max: i32::MAX as usize,
            consumer_session_timeout_ms: 45_000,
            consumer_heartbeat_interval_ms: 5_000,
            new_member_join_timeout_ms: 300_000,
            offset_metadata_length_max: 4_096,
            offsets_retention: Duration::from_secs(7 * 24 * 3_600),
            offsets_retention_check: Duration::from_secs(600),
        }
    }
}

impl GroupConfig {
    /// Whether a member of the classic protocol may ask for this session timeout.
    pub(super) fn check_session_timeout(&self, timeout_ms: i32) -> Result<(), GroupError> {
        let bounds = self.session_timeout_ms_min..=self.session_timeout_ms_max;
        let is_within = u32::try_from(timeout_ms).is_ok_and(|timeout_ms| bounds.contains(&timeout_ms));
        if is_within { Ok(()) } else { Err(GroupError::InvalidSessionTimeout) }
    }
}
