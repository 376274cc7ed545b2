//! Which protocol a generation uses: the one most members prefer among those that all support.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::group::Group;
use super::state::GroupState;

/// An assignment protocol a member supports, and what it says of itself for it (opaque).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    pub name: String,
    pub metadata: Bytes,
}

/// A name given twice would be counted twice; the first one stands.
pub(super) fn without_repeated_names(protocols: Vec<Protocol>) -> Vec<Protocol> {
    let mut kept: Vec<Protocol> = Vec::with_capacity(protocols.len());
    for protocol in protocols {
        if kept.iter().all(|other| other.name != protocol.name) {
            kept.push(protocol);
        }
    }
    kept
}

impl Group {
    /// Whether a member with these protocols could be in the group.
    pub(super) fn accepts_protocols(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| self.all_members_support(&protocol.name))
    }

    fn all_members_support(&self, protocol: &str) -> bool {
        self.members.values().all(|member| member.supports(protocol))
    }

    /// Each member votes for the first of its protocols that all support; most votes win, then the lesser name.
    /// None only if there are no members, for every member was checked against the others when it joined.
    pub(super) fn elect_protocol(&self) -> Option<String> {
        let first = self.members.values().next()?;
        let candidates: Vec<&str> = first
            .protocols
            .iter()
            .map(|protocol| protocol.name.as_str())
            .filter(|name| self.all_members_support(name))
            .collect();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote = member.protocols.iter().find(|protocol| candidates.contains(&protocol.name.as_str()));
            if let Some(vote) = vote {
                *votes.entry(vote.name.as_str()).or_default() += 1;
            }
        }
        // `rev` because `max_by_key` keeps the last of equals.
        votes.into_iter().rev().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned())
    }
}
