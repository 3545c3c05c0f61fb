//! The journal port: an ordered log of records with one writer. Who implements it decides where the bytes go;
//! the engine only relies on what is written here, and one conformance suite holds every implementation to it.
//!
//! A writer claims a shard, which gives it an epoch and shuts every earlier writer out, and appends groups. A
//! group is durable as a whole or not there at all.

use std::sync::Arc;

use crate::entry::Record;
use crate::id::Lsn;

/// A set of accounts with one journal and one owner. There is one, 0, until there are many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shard(pub u32);

/// The right to append, from [`Journal::claim`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// What was claimed.
    pub shard: Shard,
    /// Rises with every claim; an append with an older one is [`AppendError::Fenced`].
    pub epoch: u64,
    /// The last durable record; the next one has the position after it.
    pub head: Lsn,
}

/// An ordered log of records.
pub trait Journal: Send {
    /// Takes the log over. Everything that can be read after it is durable, and no earlier claim can append
    /// any more.
    ///
    /// # Errors
    /// [`JournalError`] where the log is damaged or cannot be written; nothing has changed then.
    fn claim(&mut self, shard: Shard, owner: &str) -> Result<Claim, JournalError>;

    /// Appends a group after `expected` and returns its last position once it survives a power cut.
    /// `records` is not empty and its positions follow `expected` without a gap. Asking again with the same
    /// records after [`AppendError::Unknown`] is safe: the group is there once.
    ///
    /// # Errors
    /// See [`AppendError`].
    fn append(&mut self, claim: &Claim, expected: Lsn, records: &[Record]) -> Result<Lsn, AppendError>;

    /// Removes records before `before` that nobody needs any more, whole groups from the front, a bounded number at a time.
    /// The last group always stays. True when there is nothing left to remove.
    ///
    /// # Errors
    /// See [`AppendError`]; after [`AppendError::Failed`] nothing can be appended either.
    fn truncate_before(&mut self, claim: &Claim, before: Lsn) -> Result<bool, AppendError>;

    /// A reader of the same log that other threads may use.
    fn reader(&self) -> Arc<dyn JournalReader>;
}

/// Reads a log while its writer goes on.
pub trait JournalReader: Send + Sync {
    /// The records from `from` on, in order. What is read may not be durable yet at the very end: whoever
    /// tells somebody about it stops at the durable position.
    fn read_from(&self, from: Lsn) -> Records<'_>;

    /// The first position that can be read: 1 until the front is cut off.
    ///
    /// # Errors
    /// [`JournalError`] where the log cannot be read.
    fn first(&self) -> Result<Lsn, JournalError>;
}

/// Records in order, or the reason why there are no more.
pub type Records<'a> = Box<dyn Iterator<Item = Result<Record, JournalError>> + 'a>;

/// Why a group was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Somebody else has claimed the log since.
    #[error("another engine has taken this journal over (claim {ours}, now {theirs})")]
    Fenced {
        /// Our epoch.
        ours: u64,
        /// The newer one.
        theirs: u64,
    },
    /// It was sent and the answer is lost: ask again with the same records.
    #[error("whether the group was written is not known: {0}")]
    Unknown(String),
    /// It failed for good; nothing more can be said about what is durable. The process must stop and recover.
    #[error("the journal cannot be written: {0}")]
    Failed(String),
}

/// Why a log cannot be read or claimed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// What is stored is not what was written.
    #[error("the journal is damaged at LSN {lsn}: {what}")]
    Damaged {
        /// The first position that cannot be trusted.
        lsn: Lsn,
        /// What is wrong with it.
        what: String,
    },
    /// Something else uses it.
    #[error("the journal is in use by another process")]
    InUse,
    /// It cannot be reached.
    #[error("the journal cannot be used: {0}")]
    Storage(String),
}
