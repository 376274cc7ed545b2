//! One share group: its members, their epochs, and what each is to read. Pure.
//!
//! The group's epoch rises with every change of members, subscriptions or topics, and the target is then made anew at once; a
//! member takes it over with its next heartbeat, as nobody has to give anything up before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use core_rpc::TopicId;

use super::assignor::{self, Assignment};
use super::{FindTopic, MEMBERS_MAX};

const JOIN: i32 = 0;
const LEAVE: i32 = -1;

#[derive(Debug, Default)]
pub struct ShareGroup {
    epoch: i32,
    members: BTreeMap<String, Member>,
    /// The subscribed topics as they were when the target was made.
    topics: BTreeMap<String, (TopicId, u32)>,
    target: BTreeMap<String, Assignment>,
}

#[derive(Clone, Debug)]
struct Member {
    epoch: i32,
    previous_epoch: i32,
    /// What it was told last.
    assignment: Assignment,
    subscription: BTreeSet<String>,
    rack: Option<String>,
    client_id: String,
    client_host: String,
    deadline: Instant,
}

/// What a member says.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    pub member_id: String,
    /// 0: joins. -1: leaves.
    pub epoch: i32,
    pub rack: Option<String>,
    /// None: as before.
    pub subscription: Option<Vec<String>>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout: Duration,
}

impl Heartbeat {
    pub fn is_join(&self) -> bool {
        self.epoch == JOIN
    }

    pub fn is_leave(&self) -> bool {
        self.epoch == LEAVE
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    pub epoch: i32,
    /// None: as before.
    pub assignment: Option<Assignment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeartbeatError {
    UnknownGroup,
    UnknownMember,
    FencedEpoch,
    GroupFull,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGroupDescription {
    pub epoch: i32,
    pub members: Vec<MemberDescription>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    pub id: String,
    pub epoch: i32,
    pub rack: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub subscription: Vec<String>,
    pub assignment: Assignment,
}

impl ShareGroup {
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn heartbeat(
        &mut self,
        heartbeat: Heartbeat,
        now: Instant,
        topics: FindTopic<'_>,
    ) -> Result<HeartbeatAnswer, HeartbeatError> {
        if heartbeat.is_leave() {
            self.members.remove(&heartbeat.member_id).ok_or(HeartbeatError::UnknownMember)?;
            self.update(true, topics);
            return Ok(HeartbeatAnswer { epoch: LEAVE, assignment: None });
        }
        let is_join = heartbeat.is_join();
        let is_full = is_join || heartbeat.subscription.is_some();
        let changed = match self.members.get_mut(&heartbeat.member_id) {
            None if !is_join => return Err(HeartbeatError::UnknownMember),
            None => {
                if self.members.len() >= MEMBERS_MAX {
                    return Err(HeartbeatError::GroupFull);
                }
                let member = Member {
                    epoch: 0,
                    previous_epoch: 0,
                    assignment: Assignment::default(),
                    subscription: heartbeat.subscription.into_iter().flatten().collect(),
                    rack: heartbeat.rack,
                    client_id: heartbeat.client_id,
                    client_host: heartbeat.client_host,
                    deadline: now + heartbeat.session_timeout,
                };
                self.members.insert(heartbeat.member_id.clone(), member);
                true
            }
            Some(member) => {
                // An answer that was lost leaves a member one epoch behind.
                if !is_join && heartbeat.epoch != member.epoch && heartbeat.epoch != member.previous_epoch {
                    return Err(HeartbeatError::FencedEpoch);
                }
                member.deadline = now + heartbeat.session_timeout;
                (member.client_id, member.client_host) = (heartbeat.client_id, heartbeat.client_host);
                if heartbeat.rack.is_some() {
                    member.rack = heartbeat.rack;
                }
                let subscription = heartbeat.subscription.map(|names| names.into_iter().collect());
                let changed = subscription.as_ref().is_some_and(|names| *names != member.subscription);
                member.subscription = subscription.unwrap_or(std::mem::take(&mut member.subscription));
                changed
            }
        };
        self.update(changed, topics);
        let target = self.target.get(&heartbeat.member_id).cloned().unwrap_or_default();
        let Some(member) = self.members.get_mut(&heartbeat.member_id) else {
            return Err(HeartbeatError::UnknownMember);
        };
        // One that is behind did not hear of its assignment either.
        let tell = is_full || target != member.assignment || heartbeat.epoch != member.epoch;
        if member.epoch != self.epoch {
            member.previous_epoch = member.epoch;
            member.epoch = self.epoch;
        }
        member.assignment = target;
        Ok(HeartbeatAnswer { epoch: member.epoch, assignment: tell.then(|| member.assignment.clone()) })
    }

    /// Removes the members that were silent for too long.
    pub fn expire(&mut self, now: Instant) {
        let before = self.members.len();
        self.members.retain(|_, member| member.deadline > now);
        if self.members.len() < before {
            let known = std::mem::take(&mut self.topics);
            self.update(true, &|name| known.get(name).copied());
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.members.values().map(|member| member.deadline).min()
    }

    pub fn describe(&self) -> ShareGroupDescription {
        let describe = |(id, member): (&String, &Member)| MemberDescription {
            id: id.clone(),
            epoch: member.epoch,
            rack: member.rack.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            subscription: member.subscription.iter().cloned().collect(),
            assignment: member.assignment.clone(),
        };
        ShareGroupDescription { epoch: self.epoch, members: self.members.iter().map(describe).collect() }
    }

    /// Makes the target anew if something has changed.
    fn update(&mut self, changed: bool, topics: FindTopic<'_>) {
        let names: BTreeSet<&String> = self.members.values().flat_map(|member| &member.subscription).collect();
        let found = names.into_iter().filter_map(|name| Some((name.clone(), topics(name)?))).collect();
        if !changed && found == self.topics {
            return;
        }
        self.topics = found;
        self.epoch += 1;
        let of = |member: &Member| -> Vec<(TopicId, u32)> {
            member.subscription.iter().filter_map(|name| self.topics.get(name).copied()).collect()
        };
        let subscriptions = self.members.iter().map(|(id, member)| (id.clone(), of(member))).collect();
        self.target = assignor::assign(&subscriptions, &self.target);
    }
}
