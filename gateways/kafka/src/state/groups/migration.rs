//! A group moves over to the consumer protocol when its first member of that protocol comes, and back when the last
//! one goes (`group.consumer.migration.policy=bidirectional`).

use super::config::GroupConfig;
use super::effect::Effect;
use super::error::GroupError;
use super::group::{Group, Storing};
use super::member::Member;
use super::state::GroupState;
use crate::state::consumer_groups::{ConsumerGroup, MigratedMember, TopicImage};

impl Group {
    /// The consumer group that this one would be. Refused where it is not one of consumers, or too large.
    pub fn to_consumer_group(
        &self,
        image: &dyn TopicImage,
        members_max: usize,
        now_ms: i64,
    ) -> Result<ConsumerGroup, GroupError> {
        if self.members.is_empty() {
            return Ok(ConsumerGroup::new(self.id.clone(), self.generation));
        }
        if !self.is_of_consumers() || self.members.len() > members_max {
            return Err(GroupError::NotAConsumerGroup);
        }
        let migrated = |member: &Member| MigratedMember {
            id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
            assignment: member.assignment.clone(),
        };
        let members = self.members.values().map(migrated).collect();
        ConsumerGroup::upgraded(self.id.clone(), self.generation, members, image, now_ms)
            .ok_or(GroupError::NotAConsumerGroup)
    }

    /// Sends whoever waits to join again: it will find the consumer group.
    pub fn dissolve(&mut self) -> Vec<Effect> {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in &ids {
            self.refuse_waiting(id, GroupError::RebalanceInProgress);
        }
        std::mem::take(&mut self.effects)
    }

    /// The classic group that a consumer group of classic members becomes: stored with what they have, then they are
    /// called to join again, as somebody left.
    pub fn from_consumer_group(
        consumer_group: &ConsumerGroup,
        image: &dyn TopicImage,
        config: GroupConfig,
        now_ms: i64,
    ) -> (Self, Vec<Effect>) {
        let mut group = Group::new(consumer_group.id().to_owned(), config, now_ms);
        group.generation = consumer_group.epoch();
        if consumer_group.is_empty() {
            return (group, Vec::new());
        }
        group.protocol_type = Some(super::subscription::CONSUMER_PROTOCOL_TYPE.to_owned());
        for migrated in consumer_group.classic_members(image) {
            if let Some(instance_id) = &migrated.instance_id {
                group.static_members.insert(instance_id.clone(), migrated.id.clone());
            }
            group.members.insert(migrated.id.clone(), member(migrated));
        }
        group.leader = group.members.keys().next().cloned();
        group.protocol = group.elect_protocol();
        group.subscribed_topics = group.compute_subscribed_topics();
        group.enter(GroupState::Stable, now_ms);
        let record = group.to_record();
        let ids: Vec<String> = group.members.keys().cloned().collect();
        for id in &ids {
            group.renew_session(id, now_ms);
        }
        group.prepare_rebalance("the last member of the consumer protocol left", now_ms);
        group.storing = Some(Storing::Migrated);
        group.effects.push(Effect::Store(record));
        let effects = std::mem::take(&mut group.effects);
        (group, effects)
    }
}

fn member(migrated: MigratedMember) -> Member {
    Member {
        id: migrated.id,
        instance_id: migrated.instance_id,
        client_id: migrated.client_id,
        client_host: migrated.client_host,
        rebalance_timeout_ms: migrated.rebalance_timeout_ms,
        session_timeout_ms: migrated.session_timeout_ms,
        protocols: migrated.protocols,
        assignment: migrated.assignment,
        is_new: false,
        awaiting_join: None,
        awaiting_sync: None,
        session_deadline_ms: None,
    }
}
