//! The target assignment: made anew for each group epoch.

use std::collections::{BTreeMap, HashMap};

use core_rpc::TopicId;

use super::assignor::{Assignor, Candidate, assign};
use super::group::ConsumerGroup;
use super::partitions::Partitions;
use super::topics::TopicImage;

impl ConsumerGroup {
    /// What subscriptions and topics are now: bumps the group epoch if they changed (or `changed` says so), and makes
    /// the target of the newest epoch.
    pub(super) fn follow_changes(&mut self, changed: bool, image: &dyn TopicImage) {
        self.subscriptions.is_outdated |= changed;
        let other_topics = self.refresh_topics(image);
        if changed || other_topics {
            self.bump_epoch();
            tracing::debug!(group = self.id, epoch = self.epoch, "the group epoch rises");
        }
        if self.epoch != self.assignment_epoch {
            self.make_target(image);
        }
    }

    fn make_target(&mut self, image: &dyn TopicImage) {
        let assignor = self.preferred_assignor();
        // By subscription: members mostly have the same.
        let mut read: HashMap<(*const String, usize, Option<&str>), Vec<TopicId>> = HashMap::new();
        let key = |member: &'_ super::member::Member| (member.topics.as_ptr(), member.topics.len());
        for member in self.members.values() {
            let (list, length) = key(member);
            let entry = read.entry((list, length, member.regex.as_deref()));
            entry.or_insert_with(|| self.topics_of(member, image));
        }
        let candidates: Vec<Candidate> = self
            .members
            .values()
            .map(|member| {
                let (list, length) = key(member);
                let topics = read.get(&(list, length, member.regex.as_deref()));
                Candidate {
                    id: &member.id,
                    instance_id: member.instance_id.as_deref(),
                    topics: topics.map(Vec::as_slice).unwrap_or_default(),
                    before: &member.target,
                }
            })
            .collect();
        let targets: Vec<Partitions> = assign(assignor, &candidates, &self.subscriptions.topics);
        for (member, target) in self.members.values_mut().zip(targets) {
            member.target = target;
        }
        self.assignor = assignor;
        self.assignment_epoch = self.epoch;
        self.is_unstored = true;
    }

    /// The one that most members ask for; of equals the first in [`Assignor::ALL`]. Uniform if nobody asks.
    pub(super) fn preferred_assignor(&self) -> Assignor {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for assignor in self.members.values().filter_map(|member| member.assignor) {
            *votes.entry(assignor).or_default() += 1;
        }
        votes.into_iter().rev().max_by_key(|(_, count)| *count).map_or(Assignor::default(), |(assignor, _)| assignor)
    }
}
