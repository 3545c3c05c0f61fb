//! The statement port: postings by account and month, written behind the journal and read by the portal. It has a
//! watermark of its own and may always be thrown away and made anew from the journal; nothing is ever decided from it.

use crate::entry::Record;
use crate::id::{AccountId, Lsn};
use crate::time::Month;

/// Writes what the journal says into a form that is quick to read.
pub trait Projection: Send {
    /// The last record that is in it.
    fn watermark(&self) -> Lsn;

    /// Takes in a run of records that follow the watermark without a gap, all or none.
    ///
    /// # Errors
    /// [`StatementError`] where it cannot be written.
    fn project(&mut self, records: &[Record]) -> Result<(), StatementError>;

    /// Makes everything taken in durable.
    ///
    /// # Errors
    /// [`StatementError`] where it cannot be written.
    fn flush(&mut self) -> Result<(), StatementError>;
}

/// Reads statements while the projection goes on.
pub trait Statements: Send + Sync {
    /// The postings (records that moved money) of `account` in `month`, oldest first.
    ///
    /// # Errors
    /// [`StatementError`] where it cannot be read.
    fn postings(&self, account: AccountId, month: Month) -> Result<Vec<Record>, StatementError>;

    /// The months in which `account` has postings, newest first.
    ///
    /// # Errors
    /// [`StatementError`] where it cannot be read.
    fn months(&self, account: AccountId) -> Result<Vec<Month>, StatementError>;
}

/// One account's month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The months that have postings, newest first.
    pub months: Vec<Month>,
    /// The postings of the month asked for, oldest first.
    pub postings: Vec<Record>,
}

/// Why a statement cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
#[error("statements cannot be used: {0}")]
pub struct StatementError(pub String);
