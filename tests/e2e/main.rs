//! The program from outside, as a newcomer, a till, a parent and a power cut meet it. Each module's header says what could go
//! wrong and how it is provoked. Everything listens on loopback, on ports the system chooses.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    unreachable_pub,
    reason = "tests stop where they are wrong"
)]

mod attackers;
mod bad_input;
mod browser;
mod crash;
mod faults;
mod forgetful_image;
mod installation;
mod load;
mod load_ends;
mod loop_disk;
mod mail;
mod mail_server;
mod monitoring;
mod newcomer;
mod nobody_listens;
mod payments;
mod portal;
mod portal_access;
mod portal_killed;
mod portal_together;
mod processor;
mod rush;
mod second_copy;
mod tills;
