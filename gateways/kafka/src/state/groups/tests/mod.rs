//! Tests of the state machine: scripts with their expected answers, and seeded random histories.

mod model;
mod script;
