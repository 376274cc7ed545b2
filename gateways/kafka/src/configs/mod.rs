//! The configurations of topics and brokers: their definitions, what values they take, and what is obeyed.

mod broker;
mod definition;
mod topic;
mod topic_table;

pub use broker::{BROKER_CONFIGS, BrokerConfig};
pub use definition::{Definition, Effect, Kind};
pub use topic::{TopicConfig, check_labels, settings_of};
pub use topic_table::{TOPIC_CONFIGS, topic_definition};
