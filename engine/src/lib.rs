//! The transaction engine of frokost: rules, account actors and the ports it is connected by.
//!
//! It never touches a file, a socket or a clock itself: storage comes through [`journal::Journal`]
//! and [`statement::Projection`], time through [`time::Clock`]. What is decided here is decided by pure functions
//! ([`account::Account::decide`]); the actors around them only carry messages.

pub mod account;
pub mod accounts;
mod actors;
pub mod amount;
pub mod audit;
pub mod books;
pub mod caller;
pub mod card;
mod cell;
pub mod command;
mod committer;
mod committer_queue;
pub mod dedup;
mod directory;
mod door;
pub mod engine;
pub mod entry;
pub mod fast_map;
pub mod forgetting;
pub mod id;
pub mod journal;
mod key_list;
pub mod ledger;
pub mod ledger_state;
pub mod memory_journal;
pub mod memory_snapshots;
pub mod memory_statements;
pub mod outcome;
mod patience;
mod pending;
pub mod permits;
mod projector;
pub mod read_ahead;
mod recovery;
pub mod rejection;
mod releaser;
pub mod rules;
pub mod snapshot;
mod snapshotter;
pub mod statement;
pub mod text;
pub mod time;
mod watchdog;
pub mod wishes;

pub use account::Account;
pub use amount::Amount;
pub use caller::{Caller, Role};
pub use card::CardNumber;
pub use command::{Asked, Command, Query};
pub use door::CallerHandle;
pub use engine::{Config, Engine, Fatal, Ports, StartError, StepBack};
pub use entry::{Entry, Record};
pub use id::{
    AccountId, AgreementNumber, Attempt, CallerId, Lsn, OrderNumber, PayoutNumber, PersonId, RequestKey, SchoolId,
    Sequence,
};
pub use outcome::{AccountView, Outcome, Receipt};
pub use pending::{AnswerSink, Reply};
pub use read_ahead::ReadAhead;
pub use rejection::Rejection;
pub use text::{Currency, Details, Text};
pub use time::{Clock, Timestamp};
