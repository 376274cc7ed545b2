//! Sessions: what a client has subscribed to, what waits for it and what it has not acknowledged, whether it is connected or
//! not.
//!
//! - [`session`]: the object, and its rules.
//! - [`store`]: who keeps it, its [`record`] in the log, and when it ends.
//! - [`delivery`]: a message for a session. [`places`]: where it lies, in 16 bytes. [`backlog`]: those that wait. [`loader`]: reads them
//!   from there. [`attempts`]: what is published with QoS 2 to topics that do not lie with the sessions.

pub mod attempts;
pub mod backlog;
pub mod delivery;
pub mod loader;
pub mod places;
pub mod record;
pub mod session;
#[cfg(test)]
mod session_tests;
pub mod store;

pub use attempts::Attempt;
pub use delivery::{Delivery, Message, Place, ShareLease, SubscriptionIds, Wish};
pub use places::Places;
pub use session::{
    ConnectionId, Held, Limits, Resend, Run, Session, SessionKey, Snapshot, Subscribed, Taken, Unfit, Waiting,
};
pub use store::{Closing, Kicked, OpenError, OpenRequest, Opened, Sessions, StoredWill};
