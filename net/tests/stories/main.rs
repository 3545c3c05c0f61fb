//! The wire from both ends. What could go wrong: bytes that mean something else to a till in another language, a frame that
//! harms others than its sender, somebody let in who should not be.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "tests stop where they are wrong"
)]

mod busy_peers;
mod certificates;
mod frames;
mod slow_readers;
mod vectors;
mod world;
