//! What connections share.

pub mod access;
pub mod auto_subscribe;
pub mod counts;
pub mod delayed;
pub mod exclusive;
pub mod filter;
pub mod publishing;
pub mod retained;
pub mod rewrite;
pub mod router;
pub mod sessions;
pub mod shares;
pub mod sys;
pub mod topics;
pub mod trie;

pub use access::Access;
pub use counts::Counts;
pub use publishing::{PublishError, Publishing, Round};
pub use retained::RetainedStore;
pub use rewrite::Rewrite;
pub use router::Router;
pub use sessions::Sessions;
pub use shares::Shares;
pub use sys::Sys;
pub use topics::{TopicRules, Topics};

/// What the filter of an exclusive subscription begins with.
pub const EXCLUSIVE_PREFIX: &str = "$exclusive/";
