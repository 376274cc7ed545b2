//! Consumer groups whose assignments the broker makes (KIP-848).
//!
//! [`ConsumerGroup`] is one group as a pure state machine: a request, the topics as they are and the time go in; the
//! answer comes out at once, for nobody waits for other members here. What changed must be stored before it is
//! answered: [`ConsumerGroup::to_store`] gives the record then.
//!
//! Three numbers drive it:
//!
//! ```text
//! group epoch        rises when members come or go, subscribe otherwise, or subscribed topics change
//! assignment epoch   the group epoch for which the target assignment was made: who is to have what in the end
//! member epoch       the target that a member has reached; its requests are fenced by it
//! ```
//! A member moves from what it has to its target by itself, at its own heartbeats:
//!
//! ```text
//!            has to give partitions up          it says that it gave them up
//!   Stable ────────────────────────► Unrevoked ─────────────────────────────┐
//!     ▲ ▲                                                                   │
//!     │ └──────────── all of the target is free ────────────────────────────┤
//!     └───── the rest is free ───── Unreleased ◄──── others still have some ┘
//! ```
//! The one thing that must never happen is that two members have a partition at once: `held` names the holder of each
//! partition, from the moment it is assigned until its member has said that it gave it up, or is out.
//!
//! While a group moves over from the classic protocol, members of that protocol are served here too: their rejoins
//! are what heartbeats are to the others ([`classic`](self)).

mod assignor;
mod classic;
mod commit;
mod describe;
mod expiry;
mod group;
mod heartbeat;
mod leave;
mod member;
mod migration;
mod partitions;
mod reconcile;
mod record;
mod regex;
mod subscription;
mod target;
mod topics;

#[cfg(test)]
mod tests;

pub use assignor::Assignor;
pub use commit::Committing;
pub use describe::{ConsumerGroupDescription, ConsumerGroupState, ConsumerMemberDescription};
pub use group::{ConsumerGroup, ConsumerSettings, ConsumerTimes};
pub use heartbeat::{Beaten, HeartbeatRequest};
pub use leave::Departure;
pub use migration::MigratedMember;
pub use partitions::Partitions;
pub use record::{CONSUMER_RECORD_VERSION, ConsumerGroupRecord};
pub use topics::{TopicImage, TopicSize};
