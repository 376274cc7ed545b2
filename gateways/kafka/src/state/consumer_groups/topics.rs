//! The topics as a group sees them: what it needs to know to assign their partitions.

use core_rpc::TopicId;

/// A topic and how many partitions it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicSize {
    pub id: TopicId,
    pub partitions: u32,
}

/// All topics that groups may read.
pub trait TopicImage: Send + Sync + 'static {
    /// A number that changes whenever a topic comes, goes or changes: while it stands, nothing need be looked up anew.
    fn revision(&self) -> u64;
    fn by_name(&self, name: &str) -> Option<TopicSize>;
    fn name_of(&self, id: TopicId) -> Option<String>;
    fn names(&self) -> Vec<String>;
}
