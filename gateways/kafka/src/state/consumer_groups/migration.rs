//! A group moves over from the classic protocol, and back.

use std::sync::Arc;

use bytes::Bytes;
use codec_kafka::consumer_protocol::{ConsumerAssignment, ConsumerSubscription};

use super::classic::{assignment_bytes, by_id};
use super::group::ConsumerGroup;
use super::member::{ClassicFacts, Member};
use super::topics::TopicImage;
use crate::state::groups::Protocol;

/// A classic member on its way from one kind of group to the other.
#[derive(Clone, Debug)]
pub struct MigratedMember {
    pub id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: u32,
    pub session_timeout_ms: u32,
    pub protocols: Vec<Protocol>,
    /// As the classic protocol has it. Empty: none yet.
    pub assignment: Bytes,
}

impl ConsumerGroup {
    /// A group of classic members, with what they have. None: what they say of themselves cannot be read.
    pub fn upgraded(
        id: String,
        generation: i32,
        members: Vec<MigratedMember>,
        image: &dyn TopicImage,
        now_ms: i64,
    ) -> Option<Self> {
        let mut group = ConsumerGroup::new(id, generation);
        for migrated in members {
            let subscription = ConsumerSubscription::decode(&migrated.protocols.first()?.metadata).ok()?;
            let mut assigned = match migrated.assignment.is_empty() {
                true => Default::default(),
                false => by_id(&ConsumerAssignment::decode(&migrated.assignment).ok()?.assigned_partitions, image),
            };
            // A leader may have erred; then the first one has it.
            let claimed: Vec<_> = assigned.iter().filter(|partition| group.held.contains_key(partition)).collect();
            claimed.into_iter().for_each(|partition| assigned.remove(partition));
            let topics = group.shared_list(subscription.topics);
            let member_id = group.add_member(&migrated.id, migrated.instance_id.as_deref());
            let member = group.members.get_mut(&member_id)?;
            *member = Member {
                instance_id: migrated.instance_id,
                rack_id: subscription.rack_id,
                client_id: migrated.client_id,
                client_host: migrated.client_host,
                rebalance_timeout_ms: migrated.rebalance_timeout_ms,
                topics,
                epoch: generation,
                previous_epoch: generation,
                target: assigned.clone(),
                assigned,
                classic: Some(ClassicFacts {
                    session_timeout_ms: migrated.session_timeout_ms,
                    protocols: migrated.protocols,
                }),
                ..Member::new(Arc::clone(&member_id))
            };
            group.hold(&member_id);
            group.renew_session(&member_id, migrated.session_timeout_ms, now_ms);
        }
        group.subscriptions.is_outdated = true;
        Some(group)
    }

    /// Its classic members, with what they have.
    pub fn classic_members(&self, image: &dyn TopicImage) -> Vec<MigratedMember> {
        let migrated = |member: &Member| {
            let classic = member.classic.clone()?;
            Some(MigratedMember {
                id: member.id.to_string(),
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: classic.session_timeout_ms,
                assignment: assignment_bytes(member, image),
                protocols: classic.protocols,
            })
        };
        self.members.values().filter_map(migrated).collect()
    }
}
