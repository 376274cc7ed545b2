//! The configurations of topics and brokers: their definitions, what values they take, and what is obeyed.

pub mod alter;
mod broker;
mod change;
pub mod client_metrics;
mod definition;
pub mod dynamic;
pub mod group;
pub mod inherit;
mod stored;
mod topic;
mod topic_table;

pub use broker::{BrokerConfig, broker_configs};
pub use change::{Change, Operation, applied};
pub use definition::{Definition, Effect, Kind};
pub use stored::StoredConfigs;
pub use topic::{Labels, TopicConfig, check_labels, settings_of, value, with_durability};
pub use topic_table::{TOPIC_CONFIGS, topic_definition};

/// Where a value comes from, as DescribeConfigs numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    Topic = 1,
    /// Set for one broker while it runs.
    DynamicBroker = 2,
    /// Set for all brokers while they run.
    DynamicDefault = 3,
    StaticBroker = 4,
    Default = 5,
    BrokerLogger = 6,
    ClientMetrics = 7,
    Group = 8,
}
