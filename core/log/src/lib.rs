//! The storage engine of the log core.
//!
//! Everything it keeps goes through [`disk`].

pub mod clock;
pub mod disk;
pub mod meta;
