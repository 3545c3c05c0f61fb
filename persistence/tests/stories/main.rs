//! What is on disk, from outside. What could go wrong: a journal that breaks its port's promises, a group that is half there
//! after a crash, a damaged journal that is served as if it were whole.

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

mod conformance;
mod damage;
mod first_version;
mod mirror;
mod snapshots;
mod statements;

use frokost_engine::{
    AccountId, Amount, CallerId, Entry, Lsn, PersonId, Record, RequestKey, Sequence, Text, Timestamp,
};

/// `count` records after `head`.
pub fn records(head: u64, count: u64) -> Vec<Record> {
    (head + 1..=head + count)
        .map(|lsn| Record {
            lsn: Lsn(lsn),
            at: Timestamp(1_790_000_000_000 + lsn),
            key: RequestKey { caller: CallerId(1), sequence: Sequence(lsn) },
            fingerprint: lsn * 7,
            account: AccountId(lsn % 5 + 1),
            balance: Amount::from_ore(lsn as i64),
            by: PersonId(lsn % 2),
            text: Text::EMPTY,
            entry: Entry::Purchased { amount: Amount::from_ore(lsn as i64) },
        })
        .collect()
}
