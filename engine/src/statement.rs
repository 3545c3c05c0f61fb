//! The statement port: every record there ever was, and an account's postings by month; written behind the journal and read
//! by the portal and by auditors. It has a watermark of its own, up to which the journal may be cut; nothing is ever decided
//! from it.

use crate::entry::Record;
use crate::id::{AccountId, Lsn};
use crate::journal::Records;
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

    /// The last record that is in it for good, whatever happens to the machine.
    fn durable_watermark(&self) -> Lsn;

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

    /// Every record from `from` on that is in it, in order: the whole history, also what the journal has let go of.
    fn records_from(&self, from: Lsn) -> Records<'_>;

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
