//! A group as it is stored, and as it comes back.
//!
//! One record holds the whole group, so that a single conditional write decides between two gateways that both think
//! they coordinate it. It is kept small: topics and lists of topics are written once and then named by their position,
//! partitions are runs, and a target is only written where it differs from what the member has. A thousand members
//! with a thousand partitions are about 150 kB.
//!
//! ```text
//! value of `group/<namespace>/<group>`:
//!   version u8 = 2 │ ConsumerGroupRecord in postcard
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use core_rpc::{PartitionId, TopicId};
use serde::{Deserialize, Serialize};

use super::assignor::Assignor;
use super::group::{ConsumerGroup, ConsumerSettings};
use super::member::{ClassicFacts, Deadlines, Member, MemberId, MemberState};
use super::partitions::Partitions;
use crate::state::groups::RecordError;

/// The first byte of a consumer group's record; a classic group's have another.
pub const CONSUMER_RECORD_VERSION: u8 = 2;

/// What of a group must survive the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerGroupRecord {
    epoch: i32,
    assignment_epoch: i32,
    assignor: Assignor,
    /// Of the subscribed topics as they were at this epoch.
    topics_hash: u64,
    topics: Vec<u128>,
    subscriptions: Vec<Vec<String>>,
    members: Vec<MemberRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct MemberRecord {
    id: String,
    instance_id: Option<String>,
    rack_id: Option<String>,
    client_id: String,
    client_host: String,
    rebalance_timeout_ms: u32,
    /// Position in `subscriptions`.
    subscription: u32,
    regex: Option<String>,
    assignor: Option<Assignor>,
    epoch: i32,
    previous_epoch: i32,
    state: MemberState,
    assigned: Runs,
    revoking: Runs,
    /// None: what it has.
    target: Option<Runs>,
    classic: Option<ClassicFacts>,
}

/// Partitions: per topic (its position in `topics`), runs of (distance from the end of the run before, length).
type Runs = Vec<(u32, Vec<(u32, u32)>)>;

impl ConsumerGroupRecord {
    pub fn encode(&self) -> Result<Bytes, RecordError> {
        postcard::to_extend(self, vec![CONSUMER_RECORD_VERSION]).map(Bytes::from).map_err(RecordError::Damaged)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            Some((&CONSUMER_RECORD_VERSION, rest)) => postcard::from_bytes(rest).map_err(RecordError::Damaged),
            other => Err(RecordError::Version(other.map(|(version, _)| *version))),
        }
    }
}

/// Gives things positions in a list.
struct Positions<K, T> {
    known: HashMap<K, u32>,
    list: Vec<T>,
}

impl<K: std::hash::Hash + Eq, T> Positions<K, T> {
    fn new() -> Self {
        Positions { known: HashMap::new(), list: Vec::new() }
    }

    fn of(&mut self, key: K, make: impl FnOnce() -> T) -> u32 {
        *self.known.entry(key).or_insert_with(|| {
            self.list.push(make());
            (self.list.len() - 1) as u32
        })
    }
}

impl ConsumerGroup {
    pub(super) fn to_record(&self) -> ConsumerGroupRecord {
        let mut topics: Positions<TopicId, u128> = Positions::new();
        let mut subscriptions: Positions<Arc<[String]>, Vec<String>> = Positions::new();
        let mut runs = |partitions: &Partitions| to_runs(partitions, &mut topics);
        let members = self.members.values().map(|member| MemberRecord {
            id: member.id.to_string(),
            instance_id: member.instance_id.clone(),
            rack_id: member.rack_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            subscription: subscriptions.of(member.topics.clone(), || member.topics.to_vec()),
            regex: member.regex.clone(),
            assignor: member.assignor,
            epoch: member.epoch,
            previous_epoch: member.previous_epoch,
            state: member.state,
            assigned: runs(&member.assigned),
            revoking: runs(&member.revoking),
            target: (member.target != member.assigned).then(|| runs(&member.target)),
            classic: member.classic.clone(),
        });
        let members = members.collect();
        ConsumerGroupRecord {
            epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            assignor: self.assignor,
            topics_hash: self.subscriptions.hash,
            topics: topics.list,
            subscriptions: subscriptions.list,
            members,
        }
    }

    /// A group as it was stored; all members' sessions start anew.
    pub fn restore(id: String, record: ConsumerGroupRecord, settings: &ConsumerSettings, now_ms: i64) -> Self {
        let mut group = ConsumerGroup::new(id, record.epoch);
        group.assignment_epoch = record.assignment_epoch;
        group.assignor = record.assignor;
        group.subscriptions.hash = record.topics_hash;
        let lists: Vec<Arc<[String]>> = record.subscriptions.into_iter().map(Arc::from).collect();
        for stored in record.members {
            let id: MemberId = Arc::from(stored.id);
            let partitions = |runs: &Runs| from_runs(runs, &record.topics);
            let assigned = partitions(&stored.assigned);
            let member = Member {
                id: id.clone(),
                instance_id: stored.instance_id,
                rack_id: stored.rack_id,
                client_id: stored.client_id,
                client_host: stored.client_host,
                rebalance_timeout_ms: stored.rebalance_timeout_ms,
                topics: lists.get(stored.subscription as usize).cloned().unwrap_or_else(|| Arc::from([])),
                regex: stored.regex,
                assignor: stored.assignor,
                epoch: stored.epoch,
                previous_epoch: stored.previous_epoch,
                state: stored.state,
                target: stored.target.as_ref().map_or_else(|| assigned.clone(), partitions),
                assigned,
                revoking: partitions(&stored.revoking),
                classic: stored.classic,
                deadlines: Deadlines::default(),
            };
            let session_timeout_ms =
                member.classic.as_ref().map_or(settings.session_timeout_ms, |classic| classic.session_timeout_ms);
            if let Some(instance_id) = &member.instance_id {
                group.static_members.insert(instance_id.clone(), id.clone());
            }
            let is_revoking = member.state == MemberState::Unrevoked && member.classic.is_none();
            let revocation_ms = now_ms.saturating_add(i64::from(member.rebalance_timeout_ms));
            group.members.insert(id.clone(), member);
            group.hold(&id);
            group.renew_session(&id, session_timeout_ms, now_ms);
            if is_revoking && let Some(member) = group.members.get_mut(&id) {
                member.deadlines.revocation_ms = Some(revocation_ms);
                group.note_deadline(revocation_ms);
            }
        }
        group
    }
}

fn to_runs(partitions: &Partitions, topics: &mut Positions<TopicId, u128>) -> Runs {
    partitions
        .by_topic()
        .map(|(topic, indexes)| {
            let mut runs: Vec<(u32, u32)> = Vec::new();
            let mut end = 0;
            for &index in indexes {
                match runs.last_mut() {
                    Some((_, length)) if index == end => *length += 1,
                    _ => runs.push((index - end, 1)),
                }
                end = index + 1;
            }
            (topics.of(topic, || topic.0), runs)
        })
        .collect()
}

fn from_runs(runs: &Runs, topics: &[u128]) -> Partitions {
    let mut partitions = Partitions::default();
    for (position, runs) in runs {
        let Some(topic) = topics.get(*position as usize).map(|id| TopicId(*id)) else { continue };
        let mut end: u32 = 0;
        for (distance, length) in runs {
            let start = end.saturating_add(*distance);
            end = start.saturating_add(*length);
            partitions.extend((start..end).map(|index| PartitionId { topic, index }));
        }
    }
    partitions
}
