//! The states of a group.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupState {
    /// No members. It may have offsets.
    Empty,
    /// Waiting for all members to join.
    PreparingRebalance,
    /// A generation is formed; its leader has not sent the assignments yet.
    CompletingRebalance,
    /// Every member has its assignment.
    Stable,
    /// Not, or no longer, kept here.
    Dead,
}

impl GroupState {
    /// The name that clients and tools see.
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }
}
