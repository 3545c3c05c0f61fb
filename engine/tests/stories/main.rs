//! The engine from outside, on a journal whose faults are scripted. What could go wrong: an answer that leaves before it is
//! durable, a sale that counts twice or not at all across a crash, a queue without bounds, one account's panic that hurts others.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "tests stop where they are wrong"
)]

mod bounds;
mod durability;
mod everybody;
mod harness;
mod keys;
mod naive;
mod panics;
mod property;
mod simulator;
mod snapshotting;
mod transfers;
