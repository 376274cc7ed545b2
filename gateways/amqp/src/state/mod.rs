//! What connections share, and what one channel remembers.

pub mod access;
pub mod alarms;
pub mod channel;
pub mod lifecycle;
pub mod queues;
pub mod registry;
pub mod streams;
pub mod topology;

pub use access::Access;
pub use alarms::Alarms;
pub use channel::{Channel, Channels};
pub use gateway_runtime::{CoreSession, Purpose};
pub use lifecycle::Lifecycle;
pub use queues::Queues;
pub use registry::{Connection, Registry};
pub use topology::Topology;
