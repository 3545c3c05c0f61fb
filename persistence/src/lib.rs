//! Everything frokost keeps on disk: the journal, the statements made from it, and the portal's records.
//!
//! All use of sled and every on-disk format lives in this crate and nowhere else ([`format`](mod@format) states the
//! formats once); no rule about money does.

pub mod affinity;
mod block_file;
mod durable_db;
pub mod file_journal;
pub mod format;
mod group_reader;
mod head_file;
pub mod keys;
pub mod mirrored_journal;
pub mod one_flush;
pub mod priority;
pub mod records;
pub mod sealing;
mod segments;
pub mod sled_journal;
pub mod snapshots;
mod spare_threads;
mod statement_ends;
mod statement_log;
pub mod statements;
mod zeros_ahead;

pub use file_journal::FileJournal;
pub use head_file::acknowledged;
pub use mirrored_journal::MirroredJournal;
pub use records::Records;
pub use sealing::SealingKey;
pub use sled_journal::SledJournal;
pub use snapshots::FileSnapshots;
pub use statements::LoggedStatements;
