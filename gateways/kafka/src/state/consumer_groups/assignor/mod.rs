//! Who is to have what: pure functions from subscriptions and earlier targets to a target assignment.

mod range;
mod uniform;
mod uniform_mixed;

use std::collections::BTreeMap;

use core_rpc::TopicId;
use serde::{Deserialize, Serialize};

use super::member::MemberId;
use super::partitions::Partitions;

/// The ways to assign that members can ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Assignor {
    /// Balanced over all topics, and as few moves as that allows.
    #[default]
    Uniform,
    /// Per topic, consecutive partitions to each member in order; equal partitions of equal topics to the same member.
    Range,
}

impl Assignor {
    pub const ALL: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }
}

/// What an assignor is told of a member.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) id: &'a MemberId,
    pub(super) instance_id: Option<&'a str>,
    /// The existing topics that it subscribes to, sorted.
    pub(super) topics: &'a [TopicId],
    /// What it was to have before.
    pub(super) before: &'a Partitions,
}

/// `candidates` are sorted by id; `topics` are those that anybody subscribes to, with their numbers of partitions. The
/// result has the candidates' order.
pub(super) fn assign(assignor: Assignor, candidates: &[Candidate], topics: &BTreeMap<TopicId, u32>) -> Vec<Partitions> {
    let all_read_the_same = candidates.windows(2).all(|pair| pair[0].topics == pair[1].topics);
    match assignor {
        Assignor::Range => range::assign(candidates, topics),
        Assignor::Uniform if all_read_the_same => uniform::assign(candidates, topics),
        Assignor::Uniform => uniform_mixed::assign(candidates, topics),
    }
}

#[cfg(test)]
mod tests;
