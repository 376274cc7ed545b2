//! The heartbeat of a member: with it, it joins, says what it wants and has, and learns what it is to have.

use std::collections::HashSet;
use std::sync::Arc;

use super::assignor::Assignor;
use super::group::{ConsumerGroup, ConsumerSettings};
use super::member::{AWAY, Member, MemberId, sorted};
use super::partitions::Partitions;
use super::regex;
use super::topics::TopicImage;
use crate::state::groups::GroupError;

/// What a member says. None: as before.
#[derive(Clone, Debug)]
pub struct HeartbeatRequest {
    /// Never empty: a member that has none is given one before.
    pub member_id: String,
    /// 0: it joins.
    pub epoch: i32,
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub rebalance_timeout_ms: Option<u32>,
    pub client_id: String,
    pub client_host: String,
    pub topics: Option<Vec<String>>,
    /// Empty: it has none any more.
    pub regex: Option<String>,
    pub assignor: Option<Assignor>,
    /// What it has.
    pub owned: Option<Partitions>,
}

/// The answer to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beaten {
    pub member_id: String,
    pub epoch: i32,
    pub heartbeat_interval_ms: u32,
    /// What it is to have now. None: as it was told before.
    pub assignment: Option<Partitions>,
}

/// How a member stands in the group before its request is followed.
enum Standing {
    New,
    Known(MemberId),
    /// A static member that comes back.
    Replaces(MemberId),
}

/// A member whose heartbeat was taken over, and that is to be answered.
struct Heard {
    member_id: MemberId,
    is_full: bool,
    owned: Option<Partitions>,
    subscribes_otherwise: bool,
}

impl HeartbeatRequest {
    /// The member says everything: it joined, or something went wrong and it starts over.
    fn is_full(&self) -> bool {
        self.epoch == 0 || (self.rebalance_timeout_ms.is_some() && self.topics.is_some() && self.owned.is_some())
    }
}

impl ConsumerGroup {
    /// A member joins or is alive. Where it is refused nothing has changed.
    pub fn heartbeat(
        &mut self,
        request: HeartbeatRequest,
        image: &dyn TopicImage,
        settings: &ConsumerSettings,
        now_ms: i64,
    ) -> Result<Beaten, GroupError> {
        let heard = self.hear(request, settings)?;
        self.follow_changes(heard.subscribes_otherwise, image);
        self.tell(heard, settings, now_ms)
    }

    /// Members that joined or were alive at about the same time: what [`ConsumerGroup::heartbeat`] would answer them in
    /// this order if all of them had already been heard. So the epoch rises once and one target is made, however many
    /// have come: the work of a joining thousand is that of each, not that of each times all.
    pub fn heartbeats(
        &mut self,
        requests: Vec<HeartbeatRequest>,
        image: &dyn TopicImage,
        settings: &ConsumerSettings,
        now_ms: i64,
    ) -> Vec<Result<Beaten, GroupError>> {
        let mut heard: Vec<Result<Heard, GroupError>> = Vec::with_capacity(requests.len());
        let mut answers = Vec::with_capacity(requests.len());
        let mut among: HashSet<String> = HashSet::new();
        for request in requests {
            // Whether it is refused depends on what is told to whoever came before in the same place.
            if request.instance_id.is_some() || among.contains(&request.member_id) {
                answers.extend(self.tell_all(std::mem::take(&mut heard), image, settings, now_ms));
                among.clear();
            }
            among.insert(request.member_id.clone());
            heard.push(self.hear(request, settings));
        }
        answers.extend(self.tell_all(heard, image, settings, now_ms));
        answers
    }

    fn tell_all(
        &mut self,
        heard: Vec<Result<Heard, GroupError>>,
        image: &dyn TopicImage,
        settings: &ConsumerSettings,
        now_ms: i64,
    ) -> Vec<Result<Beaten, GroupError>> {
        if heard.iter().any(Result::is_ok) {
            let changed = heard.iter().flatten().any(|heard| heard.subscribes_otherwise);
            self.follow_changes(changed, image);
        }
        heard.into_iter().map(|heard| self.tell(heard?, settings, now_ms)).collect()
    }

    /// Takes over what a member says.
    fn hear(&mut self, request: HeartbeatRequest, settings: &ConsumerSettings) -> Result<Heard, GroupError> {
        let standing = self.check_heartbeat(&request, settings)?;
        let (is_full, owned) = (request.is_full(), request.owned.clone());
        let member_id = match standing {
            Standing::Known(id) => id,
            Standing::New => {
                tracing::info!(group = self.id, member = request.member_id, "joins");
                self.add_member(&request.member_id, request.instance_id.as_deref())
            }
            Standing::Replaces(old_id) => {
                tracing::info!(group = self.id, member = request.member_id, predecessor = &*old_id, "comes back");
                self.replace_member(&old_id, &request.member_id)
            }
        };
        let subscribes_otherwise = self.update_member(&member_id, request);
        Ok(Heard { member_id, is_full, owned, subscribes_otherwise })
    }

    /// Moves a member that was heard towards its target, and answers it.
    fn tell(&mut self, heard: Heard, settings: &ConsumerSettings, now_ms: i64) -> Result<Beaten, GroupError> {
        let Heard { member_id, is_full, owned, .. } = heard;
        let before = self.unsettled(&member_id);
        self.reconcile(&member_id, owned.as_ref(), now_ms);
        self.renew_session(&member_id, settings.session_timeout_ms, now_ms);

        let member = self.members.get(&member_id).ok_or(GroupError::UnknownMember)?;
        let is_told = is_full || before.is_some_and(|before| before != member.assigned);
        Ok(Beaten {
            member_id: member.id.to_string(),
            epoch: member.epoch,
            heartbeat_interval_ms: settings.heartbeat_interval_ms,
            assignment: is_told.then(|| member.assigned.clone()),
        })
    }

    /// What a member has, if that may be about to change.
    fn unsettled(&self, member_id: &MemberId) -> Option<Partitions> {
        let member = self.members.get(member_id)?;
        (!member.is_reconciled_to(self.assignment_epoch)).then(|| member.assigned.clone())
    }

    fn check_heartbeat(&self, request: &HeartbeatRequest, settings: &ConsumerSettings) -> Result<Standing, GroupError> {
        let joins = request.epoch == 0;
        let standing = match &request.instance_id {
            Some(instance_id) if joins => self.check_static_join(request, instance_id)?,
            Some(instance_id) => {
                self.check_instance(instance_id, &request.member_id)?;
                self.check_known(request)?
            }
            None if joins && !self.members.contains_key(request.member_id.as_str()) => Standing::New,
            None => self.check_known(request)?,
        };
        // Whoever takes a place makes no group larger.
        if matches!(standing, Standing::New) {
            self.has_room_for(&request.member_id, settings.members_max)?;
        }
        let known = match &standing {
            Standing::New => None,
            Standing::Known(id) | Standing::Replaces(id) => {
                self.members.get(id).and_then(|member| member.regex.as_ref())
            }
        };
        match &request.regex {
            Some(pattern) if !pattern.is_empty() && known != Some(pattern) && regex::compile(pattern).is_none() => {
                Err(GroupError::InvalidRegex)
            }
            _ => Ok(standing),
        }
    }

    fn check_static_join(&self, request: &HeartbeatRequest, instance_id: &str) -> Result<Standing, GroupError> {
        let Some(current) = self.static_members.get(instance_id).and_then(|id| self.members.get(id)) else {
            return match self.members.contains_key(request.member_id.as_str()) {
                true => self.check_known(request),
                false => Ok(Standing::New),
            };
        };
        if current.epoch == AWAY || current.classic.is_some() {
            return Ok(Standing::Replaces(current.id.clone()));
        }
        // The answer to its join may have been lost.
        if *current.id == *request.member_id {
            return self.check_known(request);
        }
        Err(GroupError::UnreleasedInstance)
    }

    /// Whether the member's epoch is its current one, or the one before from a request whose answer was lost.
    fn check_known(&self, request: &HeartbeatRequest) -> Result<Standing, GroupError> {
        let member = self.members.get(request.member_id.as_str()).ok_or(GroupError::UnknownMember)?;
        let owns_no_more = |owned: &Partitions| owned.is_subset_of(&member.assigned);
        let is_late = request.epoch < member.epoch
            && request.epoch == member.previous_epoch
            && request.owned.as_ref().is_some_and(owns_no_more);
        match request.epoch == member.epoch || is_late {
            true => Ok(Standing::Known(member.id.clone())),
            false => Err(GroupError::FencedEpoch),
        }
    }

    /// Takes over what the member says of itself. Returns whether it subscribes otherwise than before.
    fn update_member(&mut self, member_id: &MemberId, request: HeartbeatRequest) -> bool {
        let topics = request.topics.map(|topics| self.shared_list(topics));
        let Some(member) = self.members.get_mut(member_id) else { return false };
        let mut is_other = false;
        let mut set = |differs: bool| is_other |= differs;
        set(replace_if_said(&mut member.instance_id, request.instance_id));
        set(replace_if_said(&mut member.rack_id, request.rack_id));
        set(replace_if_said(&mut member.assignor, request.assignor));
        if let Some(timeout_ms) = request.rebalance_timeout_ms {
            set(std::mem::replace(&mut member.rebalance_timeout_ms, timeout_ms) != timeout_ms);
        }
        set(member.client_id != request.client_id || member.client_host != request.client_host);
        (member.client_id, member.client_host) = (request.client_id, request.client_host);
        set(member.classic.take().is_some());
        // They were about its rejoins.
        (member.deadlines.join_ms, member.deadlines.sync_ms) = (None, None);
        let mut subscribes_otherwise = subscribe(member, topics);
        if let Some(regex) = request.regex {
            let regex = Some(regex).filter(|regex| !regex.is_empty());
            subscribes_otherwise |= member.regex != regex;
            member.regex = regex;
        }
        self.is_unstored |= is_other || subscribes_otherwise;
        subscribes_otherwise
    }

    /// A list of topics, shared with a member that has the same.
    pub(super) fn shared_list(&self, topics: Vec<String>) -> Arc<[String]> {
        let topics = sorted(topics);
        let same = self.members.values().find(|member| member.topics == topics);
        same.map_or(topics, |member| member.topics.clone())
    }
}

/// Returns whether that is a change.
pub(super) fn subscribe(member: &mut Member, topics: Option<Arc<[String]>>) -> bool {
    let Some(topics) = topics.filter(|topics| *topics != member.topics) else { return false };
    member.topics = topics;
    true
}

/// Returns whether that is a change.
pub(super) fn replace_if_said<T: PartialEq>(kept: &mut Option<T>, said: Option<T>) -> bool {
    if said.is_none() || *kept == said {
        return false;
    }
    *kept = said;
    true
}
