//! Everything frokost keeps on disk: the journal, the statements made from it, and the portal's records.
//!
//! All use of sled and every on-disk format lives in this crate and nowhere else ([`format`](mod@format) states the
//! formats once); no rule about money does.

mod durable_db;
pub mod format;
mod head_file;
pub mod keys;
pub mod records;
pub mod sealing;
pub mod sled_journal;
pub mod statements;

pub use records::Records;
pub use sealing::SealingKey;
pub use sled_journal::SledJournal;
pub use statements::SledStatements;
