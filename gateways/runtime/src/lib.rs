//! What every gateway shares: configuration, logging, signals, the listener with its drain, the ready file, the
//! cluster's identity, sessions at the core, who of its kind lives, a mirror of a part of meta, and a cache of the topics. No wire protocol is
//! known here.

pub mod address;
pub mod clock;
pub mod config;
pub mod core_session;
pub mod deadlines;
pub mod hash;
pub mod health;
pub mod identity;
pub mod listener;
pub mod marks;
mod md5;
pub mod membership;
pub mod mirror;
pub mod mosquitto;
pub mod scram;
pub mod settling;
pub mod stream;
pub mod tls;
pub mod token;
pub mod topic_cache;
pub mod users;

pub use address::OptionalAddress;
pub use clock::now_ms;
pub use core_process::{admin, logging, ready, signals, workers};
pub use core_session::{CoreSession, Purpose};
pub use deadlines::Deadlines;
pub use identity::Identity;
pub use marks::Marks;
pub use membership::{Member, Members, Membership, NodeId, Registration};
pub use mirror::Mirror;
pub use stream::{Carried, Stream};
pub use topic_cache::{CachedTopic, TopicCache, TopicView};
