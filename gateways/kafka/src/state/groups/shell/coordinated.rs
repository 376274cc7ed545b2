//! A group of either protocol, as the shell sees it.

use bytes::Bytes;

use crate::state::consumer_groups::{ConsumerGroup, ConsumerGroupRecord, ConsumerGroupState, TopicImage};
use crate::state::groups::config::GroupConfig;
use crate::state::groups::describe::OffsetAge;
use crate::state::groups::effect::Effect;
use crate::state::groups::error::GroupError;
use crate::state::groups::group::Group;
use crate::state::groups::record::{GroupRecord, RecordError};
use crate::state::groups::state::GroupState;
use crate::state::groups::subscription::CONSUMER_PROTOCOL_TYPE;

pub(super) enum Coordinated {
    Classic(Box<Group>),
    Consumer(Box<ConsumerGroup>),
}

/// What is to be stored of a group.
pub(super) enum Record {
    Classic(GroupRecord),
    Consumer(ConsumerGroupRecord),
}

impl Record {
    pub(super) fn encode(&self) -> Result<Bytes, RecordError> {
        match self {
            Record::Classic(record) => record.encode(),
            Record::Consumer(record) => record.encode(),
        }
    }
}

impl Coordinated {
    /// The group as one of the classic protocol. A consumer group without members becomes one.
    pub(super) fn as_classic(
        &mut self,
        image: &dyn TopicImage,
        config: GroupConfig,
        now_ms: i64,
    ) -> Result<&mut Group, &mut ConsumerGroup> {
        if let Coordinated::Consumer(group) = self
            && group.is_empty()
        {
            let (classic, _nobody_waits) = Group::from_consumer_group(group, image, config, now_ms);
            *self = Coordinated::Classic(Box::new(classic));
        }
        match self {
            Coordinated::Classic(group) => Ok(group),
            Coordinated::Consumer(group) => Err(group),
        }
    }

    /// Turns a consumer group whose members are all classic into a classic one.
    pub(super) fn downgrade(&mut self, image: &dyn TopicImage, config: GroupConfig, now_ms: i64) -> Vec<Effect> {
        let Coordinated::Consumer(group) = self else { return Vec::new() };
        if !group.is_all_classic() {
            return Vec::new();
        }
        tracing::info!(group = group.id(), "moves back to the classic protocol");
        let (classic, effects) = Group::from_consumer_group(group, image, config, now_ms);
        *self = Coordinated::Classic(Box::new(classic));
        effects
    }

    /// Gives the group up: whoever waits is sent to its coordinator.
    pub(super) fn unload(&mut self) -> Vec<Effect> {
        match self {
            Coordinated::Classic(group) => group.unload(),
            // Nobody waits in one.
            Coordinated::Consumer(_) => Vec::new(),
        }
    }

    pub(super) fn tick(&mut self, now_ms: i64) -> Vec<Effect> {
        match self {
            Coordinated::Classic(group) => group.tick(now_ms),
            Coordinated::Consumer(group) => {
                group.tick(now_ms);
                Vec::new()
            }
        }
    }

    pub(super) fn next_deadline_ms(&self) -> Option<i64> {
        match self {
            Coordinated::Classic(group) => group.next_deadline_ms(),
            Coordinated::Consumer(group) => group.next_deadline_ms(),
        }
    }

    /// What changed and is stored by nobody yet. Classic groups say that by an effect.
    pub(super) fn take_changed(&mut self) -> Option<Record> {
        match self {
            Coordinated::Classic(_) => None,
            Coordinated::Consumer(group) => group.take_changed().map(Record::Consumer),
        }
    }

    /// Nothing would be lost if this group were forgotten, but for its stored record.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Coordinated::Classic(group) => group.is_idle(),
            Coordinated::Consumer(group) => group.is_empty(),
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        matches!(self, Coordinated::Classic(group) if group.state() == GroupState::Dead)
    }

    /// The name of its state, as clients and tools see it.
    pub(super) fn state_name(&self) -> &'static str {
        match self {
            Coordinated::Classic(group) => group.state().name(),
            Coordinated::Consumer(group) => group.state().name(),
        }
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Coordinated::Classic(_) => super::CLASSIC,
            Coordinated::Consumer(_) => "consumer",
        }
    }

    pub(super) fn protocol_type(&self) -> &str {
        match self {
            Coordinated::Classic(group) => group.protocol_type(),
            Coordinated::Consumer(_) => CONSUMER_PROTOCOL_TYPE,
        }
    }

    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        match self {
            Coordinated::Classic(group) => group.is_subscribed_to(topic),
            Coordinated::Consumer(group) => group.is_subscribed_to(topic),
        }
    }

    /// Whether the group may be deleted.
    pub(super) fn check_delete(&self) -> Result<(), GroupError> {
        match self {
            Coordinated::Classic(group) => group.check_delete(),
            Coordinated::Consumer(group) if group.state() == ConsumerGroupState::Empty => Ok(()),
            Coordinated::Consumer(_) => Err(GroupError::GroupNotEmpty),
        }
    }

    /// Whether offsets may be deleted at all; [`Coordinated::is_subscribed_to`] says which.
    pub(super) fn check_offset_delete(&self) -> Result<(), GroupError> {
        match self {
            Coordinated::Classic(group) => group.check_offset_delete(),
            Coordinated::Consumer(_) => Ok(()),
        }
    }

    /// From which commit or moment on its offsets age. None: they do not age now.
    pub(super) fn offsets_age_from(&self) -> Option<OffsetAge> {
        match self {
            Coordinated::Classic(group) => group.offsets_age_from(),
            Coordinated::Consumer(_) => Some(OffsetAge::SinceCommit),
        }
    }
}
