//! Tests of what a producer may send.
