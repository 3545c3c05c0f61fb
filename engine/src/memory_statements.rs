//! Statements in memory, for tests and benches: the plainest thing that keeps the promises of the statement port.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::entry::Record;
use crate::id::{AccountId, Lsn};
use crate::journal::Records;
use crate::statement::{Projection, StatementError, Statements};
use crate::time::Month;

/// Statements in memory. Clones are the same statements.
#[derive(Debug, Clone, Default)]
pub struct MemoryStatements {
    kept: Arc<Mutex<(Lsn, Vec<Record>)>>,
}

impl MemoryStatements {
    fn lock(&self) -> MutexGuard<'_, (Lsn, Vec<Record>)> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Projection for MemoryStatements {
    fn watermark(&self) -> Lsn {
        self.lock().0
    }

    fn project(&mut self, records: &[Record]) -> Result<(), StatementError> {
        let mut kept = self.lock();
        if let Some(last) = records.last() {
            kept.0 = last.lsn;
        }
        kept.1.extend(records);
        Ok(())
    }

    fn durable_watermark(&self) -> Lsn {
        self.watermark()
    }

    fn flush(&mut self) -> Result<(), StatementError> {
        Ok(())
    }
}

impl Statements for MemoryStatements {
    fn postings(&self, account: AccountId, month: Month) -> Result<Vec<Record>, StatementError> {
        let kept = self.lock();
        Ok(kept.1.iter().filter(|r| r.is_posting() && r.account == account && r.at.month() == month).copied().collect())
    }

    fn records_from(&self, from: Lsn) -> Records<'_> {
        let kept = self.lock().1.clone();
        Box::new(kept.into_iter().filter(move |record| record.lsn >= from).map(Ok))
    }

    fn months(&self, account: AccountId) -> Result<Vec<Month>, StatementError> {
        let mut months: Vec<Month> =
            self.lock().1.iter().filter(|r| r.is_posting() && r.account == account).map(|r| r.at.month()).collect();
        months.sort_unstable();
        months.dedup();
        months.reverse();
        Ok(months)
    }
}
