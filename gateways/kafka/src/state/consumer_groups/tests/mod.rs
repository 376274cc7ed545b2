//! Tests of consumer groups as state machines.

mod model;
mod script;
mod size;
