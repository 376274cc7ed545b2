//! What connections share.

pub mod groups;
mod producer_ids;

pub use groups::{GroupConfig, Groups};
pub use producer_ids::ProducerIds;
