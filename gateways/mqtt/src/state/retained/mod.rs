//! Retained messages: of each topic name the last one that was published to be retained (3.3.1.3).
//!
//! - [`index`]: names and what is retained under them; [`scan`] walks it by a filter. Both are pure.
//! - [`store`]: keeps an index of what the log has, and delivers from it. [`stale`]: has the log forget what is over.

mod index;
mod scan;
mod stale;
mod store;
#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod tests;

pub use index::{Body, Chunk, Cursor, Retained, RetainedIndex};
pub use store::RetainedStore;
