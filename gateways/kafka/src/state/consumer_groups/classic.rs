//! Members of the classic protocol in a consumer group, while it moves over.
//!
//! They do not lead and do not wait for each other: a join is answered at once with the member's epoch as its
//! generation, a sync with what the member has, and a heartbeat sends it to join again when there is something new.

use bytes::Bytes;
use codec_kafka::consumer_protocol::{self, ConsumerAssignment, ConsumerSubscription};
use core_rpc::PartitionId;

use super::group::{ConsumerGroup, ConsumerSettings};
use super::heartbeat::{replace_if_said, subscribe};
use super::member::{ClassicFacts, Member, MemberId, MemberState};
use super::partitions::Partitions;
use super::topics::TopicImage;
use crate::state::groups::{CONSUMER_PROTOCOL_TYPE, GroupError, JoinRefused, JoinRequest, Joined, Synced};

impl ConsumerGroup {
    /// A classic member joins, or joins again.
    pub fn classic_join(
        &mut self,
        request: JoinRequest,
        image: &dyn TopicImage,
        settings: &ConsumerSettings,
        now_ms: i64,
    ) -> Result<Joined, JoinRefused> {
        let refuse = |error, member_id: &str| JoinRefused { error, member_id: member_id.to_owned() };
        let is_new = request.member_id.is_empty();
        let prefix = request.instance_id.as_deref().unwrap_or(&request.client_id);
        let member_id = if is_new { format!("{prefix}-{}", request.fresh) } else { request.member_id.clone() };
        let subscription = self
            .check_classic_join(&request, &member_id, settings)
            .map_err(|error| refuse(error, &request.member_id))?;
        if is_new && request.instance_id.is_none() && request.member_id_required {
            return Err(refuse(GroupError::MemberIdRequired, &member_id));
        }
        let known = match &request.instance_id {
            Some(instance_id) if is_new => self.static_members.get(instance_id).cloned(),
            _ => self.members.get(member_id.as_str()).map(|member| member.id.clone()),
        };
        tracing::info!(group = self.id, member = member_id, "joins by the classic protocol");
        let member_id = match known {
            Some(known) if *known == *member_id => known,
            Some(predecessor) => self.replace_member(&predecessor, &member_id),
            None => self.add_member(&member_id, request.instance_id.as_deref()),
        };
        let owned = by_id(&subscription.owned_partitions, image);
        let (session_timeout_ms, rebalance_timeout_ms) =
            (u32::try_from(request.session_timeout_ms).unwrap_or(0), request.rebalance_timeout_ms);
        let changed = self.update_classic(&member_id, request, subscription);
        self.follow_changes(changed, image);
        self.reconcile(&member_id, Some(&owned), now_ms);
        self.renew_session(&member_id, session_timeout_ms, now_ms);

        let sync_ms = now_ms.saturating_add(i64::from(rebalance_timeout_ms));
        let member = self.members.get_mut(&member_id).ok_or_else(|| refuse(GroupError::UnknownMember, ""))?;
        member.deadlines.join_ms = None;
        member.deadlines.sync_ms = Some(sync_ms);
        let joined = Joined {
            member_id: member.id.to_string(),
            generation: member.epoch,
            protocol_type: Some(CONSUMER_PROTOCOL_TYPE.to_owned()),
            protocol: protocol_of(member).map(str::to_owned),
            leader: String::new(),
            skip_assignment: false,
            members: Vec::new(),
        };
        self.note_deadline(sync_ms);
        Ok(joined)
    }

    fn check_classic_join(
        &self,
        request: &JoinRequest,
        member_id: &str,
        settings: &ConsumerSettings,
    ) -> Result<ConsumerSubscription, GroupError> {
        let takes_place = request.instance_id.as_ref().is_some_and(|id| self.static_members.contains_key(id));
        if !takes_place {
            self.has_room_for(member_id, settings.members_max)?;
        }
        let supports = |name: &str| {
            let others = self.members.values().filter(|member| *member.id != *request.member_id);
            others.filter_map(|member| member.classic.as_ref()).all(|classic| knows(classic, name))
        };
        let fits = request.protocol_type == CONSUMER_PROTOCOL_TYPE
            && request.protocols.iter().any(|protocol| supports(&protocol.name));
        let subscription =
            request.protocols.first().and_then(|first| ConsumerSubscription::decode(&first.metadata).ok());
        let subscription = subscription.filter(|_| fits).ok_or(GroupError::InconsistentProtocol)?;
        if let Some(instance_id) = request.instance_id.as_ref().filter(|_| !request.member_id.is_empty()) {
            self.check_instance(instance_id, &request.member_id)?;
        }
        Ok(subscription)
    }

    /// Returns whether it subscribes otherwise than before.
    fn update_classic(
        &mut self,
        member_id: &MemberId,
        request: JoinRequest,
        subscription: ConsumerSubscription,
    ) -> bool {
        let topics = self.shared_list(subscription.topics);
        let Some(member) = self.members.get_mut(member_id) else { return false };
        let classic = ClassicFacts {
            session_timeout_ms: u32::try_from(request.session_timeout_ms).unwrap_or(0),
            protocols: request.protocols,
        };
        // What it owns is in its metadata, so that is never quite the same.
        self.is_unstored |= member.classic.as_ref() != Some(&classic);
        self.is_unstored |= replace_if_said(&mut member.rack_id, subscription.rack_id);
        self.is_unstored |= member.rebalance_timeout_ms != request.rebalance_timeout_ms;
        member.classic = Some(classic);
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        (member.client_id, member.client_host) = (request.client_id, request.client_host);
        member.deadlines.revocation_ms = None;
        member.assignor = None;
        let had_regex = member.regex.take().is_some();
        subscribe(member, Some(topics)) || had_regex
    }

    /// A classic member asks for what it has.
    pub fn classic_sync(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        protocol: (Option<&str>, Option<&str>),
        image: &dyn TopicImage,
        now_ms: i64,
    ) -> Result<Synced, GroupError> {
        let id = self.check_classic(member_id, instance_id, generation)?;
        let member = self.classic_member(&id)?;
        let (protocol_type, name) = protocol;
        let is_other = |theirs: Option<&str>, ours: Option<&str>| theirs.is_some() && theirs != ours;
        if is_other(protocol_type, Some(CONSUMER_PROTOCOL_TYPE)) || is_other(name, protocol_of(member)) {
            return Err(GroupError::InconsistentProtocol);
        }
        // One that has to give partitions up does that first.
        if self.epoch != member.epoch && member.state != MemberState::Unrevoked {
            self.expect_rejoin(&id, now_ms);
            return Err(GroupError::RebalanceInProgress);
        }
        let synced = Synced {
            protocol_type: Some(CONSUMER_PROTOCOL_TYPE.to_owned()),
            protocol: protocol_of(member).map(str::to_owned),
            assignment: assignment_bytes(member, image),
        };
        let timeout_ms = session_timeout_ms(member);
        if let Some(member) = self.members.get_mut(&id) {
            member.deadlines.sync_ms = None;
        }
        self.renew_session(&id, timeout_ms, now_ms);
        Ok(synced)
    }

    /// A classic member is alive, and hears whether it must join again.
    pub fn classic_heartbeat(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now_ms: i64,
    ) -> Result<(), GroupError> {
        let id = self.check_classic(member_id, instance_id, generation)?;
        let member = self.classic_member(&id)?;
        let (epoch, state, timeout_ms) = (member.epoch, member.state, session_timeout_ms(member));
        self.renew_session(&id, timeout_ms, now_ms);
        let is_outdated = match state {
            MemberState::Stable => epoch != self.epoch,
            MemberState::Unrevoked => true,
            MemberState::Unreleased => epoch != self.epoch || !self.waits_for_others(&id),
        };
        if !is_outdated {
            return Ok(());
        }
        self.expect_rejoin(&id, now_ms);
        Err(GroupError::RebalanceInProgress)
    }

    fn check_classic(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<MemberId, GroupError> {
        if let Some(instance_id) = instance_id {
            self.check_instance(instance_id, member_id)?;
        }
        let member = self.classic_member(member_id)?;
        if member.epoch != generation {
            return Err(GroupError::IllegalGeneration);
        }
        Ok(member.id.clone())
    }

    /// A member of the other protocol has no business here.
    pub(super) fn classic_member(&self, member_id: &str) -> Result<&Member, GroupError> {
        self.members.get(member_id).filter(|member| member.classic.is_some()).ok_or(GroupError::UnknownMember)
    }

    fn expect_rejoin(&mut self, member_id: &MemberId, now_ms: i64) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        if member.deadlines.join_ms.is_none() {
            let at_ms = now_ms.saturating_add(i64::from(member.rebalance_timeout_ms));
            member.deadlines.join_ms = Some(at_ms);
            self.note_deadline(at_ms);
        }
    }
}

fn knows(classic: &ClassicFacts, name: &str) -> bool {
    classic.protocols.iter().any(|protocol| protocol.name == name)
}

fn session_timeout_ms(member: &Member) -> u32 {
    member.classic.as_ref().map_or(0, |classic| classic.session_timeout_ms)
}

/// The protocol that a classic member is told to use: its favourite, as it makes no difference here.
fn protocol_of(member: &Member) -> Option<&str> {
    member.classic.as_ref()?.protocols.first().map(|protocol| protocol.name.as_str())
}

/// What a member has, as the classic protocol says it, in the version in which the member speaks.
pub(super) fn assignment_bytes(member: &Member, image: &dyn TopicImage) -> Bytes {
    let metadata = member.classic.as_ref().and_then(|classic| classic.protocols.first()).map(|first| &first.metadata);
    let version = metadata.and_then(|bytes| Some(i16::from_be_bytes(*bytes.first_chunk()?))).unwrap_or(0);
    let partitions = member.assigned.by_topic().filter_map(|(id, indexes)| {
        let partitions = indexes.iter().filter_map(|index| i32::try_from(*index).ok()).collect();
        Some(consumer_protocol::TopicPartitions { topic: image.name_of(id)?, partitions })
    });
    let assignment = ConsumerAssignment { assigned_partitions: partitions.collect(), user_data: None };
    let encoded = assignment.encode(version.clamp(0, consumer_protocol::VERSION_MAX));
    // Only names longer than any topic's can fail.
    encoded.unwrap_or_default()
}

/// Partitions by name, as the classic protocol has them. Topics that are gone are left out.
pub(super) fn by_id(named: &[consumer_protocol::TopicPartitions], image: &dyn TopicImage) -> Partitions {
    let of_topic = |topic: &consumer_protocol::TopicPartitions| {
        let id = image.by_name(&topic.topic).map(|topic| topic.id);
        let indexes = topic.partitions.iter().filter_map(|index| u32::try_from(*index).ok());
        indexes.filter_map(move |index| Some(PartitionId { topic: id?, index })).collect::<Vec<_>>()
    };
    named.iter().flat_map(of_topic).collect()
}
