//! What connections share.

mod answer_memory;
pub mod brokers;
pub mod consumer_groups;
mod counts;
mod deadlines;
pub mod fetch_sessions;
pub mod groups;
pub mod internal_topics;
mod producer_ids;
pub mod quotas;
pub mod security;
pub mod share_groups;
mod topic_image;
pub mod transactions;

pub use answer_memory::{AnswerMemory, Backlog, Brought, Limits, Reserved};
pub use brokers::{Brokers, CoordinatorKey};
pub use counts::Counts;
pub use fetch_sessions::FetchSessions;
pub use groups::{GroupConfig, Groups};
pub use internal_topics::Journal;
pub use producer_ids::ProducerIds;
pub use quotas::Quotas;
pub use share_groups::{ShareGroups, ShareSessions};
pub use topic_image::NamespaceTopics;
pub use transactions::{TransactionConfig, Transactions};
