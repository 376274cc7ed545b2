//! What the journal and snapshots say of lease maps: bodies of the entries of kinds 16 to 18.
//!
//! A settle entry holds what ranges became, not what was asked, so that replaying it needs nothing but the map. Whatever it does not
//! name is as it was; a lease is never written.

use core_rpc::GroupName;
use serde::{Deserialize, Serialize};

/// What a range of messages became.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    Settled,
    Available { acquisitions: u32, failures: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkedRange {
    pub first: u64,
    /// Inclusive.
    pub last: u64,
    pub mark: Mark,
}

/// Body of a settle entry.
#[derive(Debug, Serialize, Deserialize)]
pub struct SettleBody {
    pub group: GroupName,
    /// The map's floor before this entry: it also moves where there are no messages, or the log was trimmed.
    pub floor: u64,
    pub marks: Vec<MarkedRange>,
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

/// A map in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseSnapshot {
    pub floor: u64,
    pub marks: Vec<MarkedRange>,
    pub accepted_total: u64,
    pub rejected_total: u64,
}
