//! What the journal and snapshots say of lease maps: bodies of the entries of kinds 16 to 18.
//!
//! A settle entry holds what ranges became, not what was asked, so that replaying it needs nothing but the map. Whatever it does not
//! name is as it was; a lease is never written.

use std::sync::Arc;

use core_rpc::GroupName;
use serde::{Deserialize, Serialize};

use super::runs::Block;

/// What a range of messages became.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    Settled,
    Available {
        acquisitions: u32,
        failures: u32,
    },
    /// Available from then on, ms since the Unix epoch.
    Delayed {
        acquisitions: u32,
        failures: u32,
        until_ms: i64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkedRange {
    pub first: u64,
    /// Inclusive.
    pub last: u64,
    pub mark: Mark,
}

/// Body of a settle entry.
pub type SettleBody = SettleBodyOf<GroupName, Vec<MarkedRange>>;

/// [`SettleBody`], of what it is made of or of references to that.
#[derive(Debug, Serialize, Deserialize)]
pub struct SettleBodyOf<Group, Marks> {
    pub group: Group,
    /// The map's floor before this entry: it also moves where there are no messages, or the log was trimmed.
    pub floor: u64,
    pub marks: Marks,
    /// Messages that were accepted and rejected by it.
    pub accepted: u64,
    pub rejected: u64,
}

/// Body of a seek entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SeekBody {
    pub group: GroupName,
    pub floor: u64,
    /// Only if the group has no map there.
    pub if_absent: bool,
}

/// A map in a snapshot of before there were delays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseSnapshot {
    pub floor: u64,
    pub marks: Vec<MarkedRange>,
    pub accepted_total: u64,
    pub rejected_total: u64,
}

/// A map in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMap {
    pub floor: u64,
    /// From the floor on, without gaps: so many messages are this.
    pub runs: Vec<(u64, Mark)>,
    pub accepted_total: u64,
    pub rejected_total: u64,
}

/// A map as it was at a moment: shares its leaves with the map, and becomes a [`StoredMap`] when it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "StoredMap", from = "StoredMap")]
pub struct LeaseImage {
    /// Of the runs behind `blocks`.
    stored: StoredMap,
    blocks: Vec<Arc<Block>>,
}

impl LeaseImage {
    pub fn new(floor: u64, blocks: Vec<Arc<Block>>, accepted_total: u64, rejected_total: u64) -> LeaseImage {
        LeaseImage { stored: StoredMap { floor, runs: Vec::new(), accepted_total, rejected_total }, blocks }
    }

    pub fn into_stored(self) -> StoredMap {
        let LeaseImage { mut stored, blocks } = self;
        for (begin, end, cell) in blocks.iter().flat_map(|block| block.from(0)) {
            let (messages, mark) = (end - begin + 1, cell.mark());
            match stored.runs.last_mut() {
                Some((before, last)) if *last == mark => *before += messages,
                _ => stored.runs.push((messages, mark)),
            }
        }
        stored
    }
}

impl From<LeaseImage> for StoredMap {
    fn from(image: LeaseImage) -> StoredMap {
        image.into_stored()
    }
}

impl From<StoredMap> for LeaseImage {
    fn from(stored: StoredMap) -> LeaseImage {
        LeaseImage { stored, blocks: Vec::new() }
    }
}

impl From<LeaseSnapshot> for LeaseImage {
    fn from(snapshot: LeaseSnapshot) -> LeaseImage {
        let LeaseSnapshot { floor, marks, accepted_total, rejected_total } = snapshot;
        let runs = marks.into_iter().map(|marked| (marked.last - marked.first + 1, marked.mark)).collect();
        StoredMap { floor, runs, accepted_total, rejected_total }.into()
    }
}

impl PartialEq for LeaseImage {
    fn eq(&self, other: &LeaseImage) -> bool {
        self.clone().into_stored() == other.clone().into_stored()
    }
}

impl Eq for LeaseImage {}
