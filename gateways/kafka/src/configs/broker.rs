//! The broker's configuration, as far as it is described to clients. It is set when the gateway is started; clients
//! cannot change it.

use super::definition::Kind;
use crate::Config;

/// A key that brokers are described with.
pub struct BrokerConfig {
    pub name: &'static str,
    pub kind: Kind,
    /// The value, given how the gateway was started.
    pub value: fn(&Description) -> Option<String>,
    /// Whether the value was given to the gateway (otherwise it is built in).
    pub given: bool,
    pub documentation: &'static str,
}

/// What values are made from.
pub struct Description<'a> {
    pub config: &'a Config,
    pub advertised: &'a (String, u16),
}

pub static BROKER_CONFIGS: &[BrokerConfig] = &[];
