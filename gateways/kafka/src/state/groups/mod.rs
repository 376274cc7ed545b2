//! Groups: the coordinator of Kafka's classic group protocol, and the shell around groups of either protocol.
//!
//! Two layers. [`Group`] is one group as a pure state machine: an event and the time go in, [`Effect`]s come out
//! (answers to parked requests, a record to store), and it names its next deadline. It knows no socket, no clock and
//! no storage, so every rebalance can be replayed in a test. [`Groups`] is the shell around many of them: it loads
//! and stores records, parks requests, and runs one timer for all. A group of the newer protocol
//! ([`super::consumer_groups`]) lives in the same shell: an id has one group, which may move from one protocol to the
//! other (`migration`).
//!
//! The states, and what moves a group between them:
//!
//! ```text
//!            first join                    all joined, or the rebalance timeout
//!   Empty ───────────────► PreparingRebalance ───────────────► CompletingRebalance
//!     ▲                      │       ▲   ▲                        │          │
//!     └──────────────────────┘       │   └────────────────────────┘          │ leader's SyncGroup,
//!        nobody is left              │      join, leave, expiry              │ once stored
//!                                    └──────────────────── Stable ◄──────────┘
//! ```
//!
//! What is stored is what must survive: a group that became Stable (with its assignments), one that became Empty,
//! and a static member's new id. A rebalance under way is not: after a restart the last stable generation is
//! restored, and its members either heartbeat on or join again.

mod config;
mod describe;
mod effect;
mod error;
mod expiry;
mod group;
mod heartbeat;
mod join;
mod leave;
mod member;
mod migration;
mod protocol;
mod rebalance;
mod record;
mod shell;
mod state;
mod static_member;
mod subscription;
mod sync;

#[cfg(test)]
mod tests;

pub use config::GroupConfig;
pub use describe::{GroupDescription, MemberDescription, OffsetAge};
pub use effect::{Effect, JoinRefused, Joined, JoinedMember, Synced, Ticket};
pub use error::{GroupError, StoreError};
pub use group::Group;
pub use join::JoinRequest;
pub use leave::Leaver;
pub use protocol::Protocol;
pub use record::{GroupRecord, MemberRecord, RecordError};
pub use shell::{Commit, Committer, Groups, ListedGroup, Reader, read_lifetime};
pub use state::GroupState;
pub use subscription::CONSUMER_PROTOCOL_TYPE;
pub use sync::SyncRequest;
