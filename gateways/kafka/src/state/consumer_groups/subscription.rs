//! Which topics a group reads: those that its members name, and those that their regular expressions match.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use core_rpc::TopicId;
use gateway_runtime::hash::fnv1a;

use super::group::ConsumerGroup;
use super::member::Member;
use super::regex;
use super::topics::TopicImage;

/// What is known of the topics that members subscribe to.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// The revision of the topics as they were looked up. None: never.
    revision: Option<u64>,
    /// Subscriptions changed since.
    pub(super) is_outdated: bool,
    patterns: BTreeMap<String, Pattern>,
    /// The existing ones, with their numbers of partitions.
    pub(super) topics: BTreeMap<TopicId, u32>,
    /// Stands for `topics` in the record.
    pub(super) hash: u64,
}

#[derive(Debug)]
struct Pattern {
    compiled: regex_lite::Regex,
    /// The topics that it matches.
    names: BTreeSet<String>,
}

impl ConsumerGroup {
    /// Looks the topics up anew where they, or the subscriptions, changed. Returns whether the group now reads other
    /// topics or other numbers of partitions.
    pub(super) fn refresh_topics(&mut self, image: &dyn TopicImage) -> bool {
        let revision = image.revision();
        let are_topics_new = self.subscriptions.revision != Some(revision);
        if !are_topics_new && !self.subscriptions.is_outdated {
            return false;
        }
        self.refresh_patterns(image, are_topics_new);
        let subscriptions = &mut self.subscriptions;
        let mut names: BTreeSet<&str> =
            subscriptions.patterns.values().flat_map(|pattern| &pattern.names).map(String::as_str).collect();
        let mut last: Option<&Arc<[String]>> = None;
        for member in self.members.values() {
            // Members mostly share one list.
            if last.is_none_or(|last| !Arc::ptr_eq(last, &member.topics)) {
                names.extend(member.topics.iter().map(String::as_str));
                last = Some(&member.topics);
            }
        }
        let topics: BTreeMap<TopicId, u32> = names
            .into_iter()
            .filter_map(|name| image.by_name(name))
            .map(|topic| (topic.id, topic.partitions))
            .collect();
        let hash = hash(&topics);
        let changed = hash != subscriptions.hash;
        subscriptions.topics = topics;
        subscriptions.hash = hash;
        subscriptions.revision = Some(revision);
        subscriptions.is_outdated = false;
        self.is_unstored |= changed;
        changed
    }

    fn refresh_patterns(&mut self, image: &dyn TopicImage, are_topics_new: bool) {
        let wanted: BTreeSet<&str> = self.members.values().filter_map(|member| member.regex.as_deref()).collect();
        let patterns = &mut self.subscriptions.patterns;
        patterns.retain(|pattern, _| wanted.contains(pattern.as_str()));
        let mut outdated = Vec::new();
        for pattern in wanted {
            if !patterns.contains_key(pattern)
                && let Some(compiled) = regex::compile(pattern)
            {
                patterns.insert(pattern.to_owned(), Pattern { compiled, names: BTreeSet::new() });
                outdated.push(pattern.to_owned());
            }
        }
        if patterns.is_empty() || (!are_topics_new && outdated.is_empty()) {
            return;
        }
        let names = image.names();
        for (text, pattern) in patterns {
            if are_topics_new || outdated.contains(text) {
                let matching = names.iter().filter(|name| pattern.compiled.is_match(name));
                pattern.names = matching.cloned().collect();
            }
        }
    }

    /// The existing topics that a member reads, sorted.
    pub(super) fn topics_of(&self, member: &Member, image: &dyn TopicImage) -> Vec<TopicId> {
        let pattern = member.regex.as_ref().and_then(|regex| self.subscriptions.patterns.get(regex));
        let matched = pattern.into_iter().flat_map(|pattern| &pattern.names);
        let names = member.topics.iter().chain(matched);
        let mut ids: Vec<TopicId> = names.filter_map(|name| image.by_name(name)).map(|topic| topic.id).collect();
        ids.retain(|id| self.subscriptions.topics.contains_key(id));
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Whether the group reads a topic, so that its offsets there must stay. An expression that was not evaluated yet
    /// (after a restart, before the first heartbeat) is.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.members.values().any(|member| {
            let by_name = || member.topics.binary_search_by(|name| name.as_str().cmp(topic)).is_ok();
            let by_regex = |regex: &String| match self.subscriptions.patterns.get(regex) {
                Some(pattern) => pattern.compiled.is_match(topic),
                None => regex::compile(regex).is_some_and(|compiled| compiled.is_match(topic)),
            };
            by_name() || member.regex.as_ref().is_some_and(by_regex)
        })
    }
}

/// Of ids and numbers of partitions: it is stored, so it must be the same in every process.
fn hash(topics: &BTreeMap<TopicId, u32>) -> u64 {
    let bytes =
        topics.iter().flat_map(|(id, partitions)| id.0.to_be_bytes().into_iter().chain(partitions.to_be_bytes()));
    fnv1a(bytes)
}
