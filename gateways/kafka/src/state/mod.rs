//! What connections share.

mod producer_ids;

pub use producer_ids::ProducerIds;
