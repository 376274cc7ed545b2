//! Sessions: what a client has subscribed to, what waits for it and what it has not acknowledged, whether it is connected or
//! not.
//!
//! - [`session`]: the object, and its rules.
//! - [`store`]: who keeps it, its [`record`] in the log, and when it ends ([`deadlines`]).
//! - [`delivery`]: a message for a session. [`places`]: where it lies, in 16 bytes. [`loader`]: reads it from there.

pub mod deadlines;
pub mod delivery;
pub mod loader;
pub mod places;
pub mod record;
pub mod session;
#[cfg(test)]
mod session_tests;
pub mod store;

pub use delivery::{Delivery, Message, Place, ShareLease, SubscriptionIds, Wish};
pub use places::Places;
pub use session::{
    ConnectionId, Held, Limits, Resend, Session, SessionKey, Snapshot, Subscribed, Taken, Unfit, Waiting,
};
pub use store::{Closing, Kicked, OpenError, OpenRequest, Opened, Sessions, StoredWill};
