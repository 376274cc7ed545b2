//! What connections share.

pub mod delayed;
pub mod filter;
pub mod publishing;
pub mod retained;
pub mod router;
pub mod sessions;
pub mod shares;
pub mod topics;
pub mod trie;

pub use publishing::{PublishError, Publishing, Round};
pub use retained::RetainedStore;
pub use router::Router;
pub use sessions::Sessions;
pub use shares::Shares;
pub use topics::{TopicRules, Topics};

/// What the filter of an exclusive subscription begins with.
pub const EXCLUSIVE_PREFIX: &str = "$exclusive/";
