//! Statements on sled: every record that moved money, by account and month. Written behind the journal, and made anew from it
//! when they are missing, cannot be opened or are ahead of it; nothing is ever decided from them.

use std::fs;
use std::path::{Path, PathBuf};

use frokost_engine::statement::{Projection, StatementError, Statements};
use frokost_engine::time::Month;
use frokost_engine::{AccountId, Lsn, Record};

use crate::durable_db::{DbError, DurableDb};
use crate::format::{decode_record, encode_record};
use crate::keys;

/// The statements in a folder. Clones are the same statements.
#[derive(Clone, Debug)]
pub struct SledStatements {
    path: PathBuf,
    db: DurableDb,
    watermark: Lsn,
}

fn failed(error: impl std::fmt::Display) -> StatementError {
    StatementError(error.to_string())
}

impl SledStatements {
    /// Opens the statements in `folder`. They are set aside and begun anew if they are damaged or know more than the
    /// journal, which ends at `head`.
    ///
    /// # Errors
    /// [`StatementError`] if the folder cannot be used.
    pub fn open(folder: &Path, head: Lsn) -> Result<SledStatements, StatementError> {
        match SledStatements::try_open(folder) {
            Ok(statements) if statements.watermark <= head => Ok(statements),
            Ok(statements) => {
                tracing::warn!(watermark = %statements.watermark, %head, "statements are ahead of the journal; making them anew");
                drop(statements);
                SledStatements::begin_anew(folder)
            }
            Err(DbError::Corrupt { why, .. }) => {
                tracing::warn!(%why, "statements are damaged; making them anew");
                SledStatements::begin_anew(folder)
            }
            Err(error @ (DbError::InUse { .. } | DbError::Io { .. } | DbError::Other { .. })) => Err(failed(error)),
        }
    }

    fn try_open(folder: &Path) -> Result<SledStatements, DbError> {
        let db = DurableDb::open(folder)?;
        let corrupt = |why: &str| DbError::Corrupt { path: folder.to_owned(), why: why.to_owned() };
        let watermark = match db.tree().get(keys::WATERMARK).map_err(|e| crate::durable_db::explain(folder, e))? {
            Some(bytes) => {
                let bytes = bytes.as_ref().try_into().map_err(|_| corrupt("the watermark is no number"))?;
                Lsn(u64::from_le_bytes(bytes))
            }
            None => Lsn::ZERO,
        };
        Ok(SledStatements { path: folder.to_owned(), db, watermark })
    }

    fn begin_anew(folder: &Path) -> Result<SledStatements, StatementError> {
        let aside = folder.with_extension("set-aside");
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(failed)?;
        }
        fs::rename(folder, &aside).map_err(failed)?;
        SledStatements::try_open(folder).map_err(failed)
    }
}

impl Projection for SledStatements {
    fn watermark(&self) -> Lsn {
        self.watermark
    }

    fn project(&mut self, records: &[Record]) -> Result<(), StatementError> {
        let Some(last) = records.last() else { return Ok(()) };
        let mut batch = sled::Batch::default();
        for record in records.iter().filter(|record| record.movement().is_some()) {
            let mut bytes = Vec::with_capacity(96);
            encode_record(record, &mut bytes);
            batch.insert(keys::posting(record.account, record.at.month(), record.lsn).as_slice(), bytes);
        }
        batch.insert(keys::WATERMARK, &last.lsn.0.to_le_bytes());
        self.db.tree().apply_batch(batch).map_err(failed)?;
        self.watermark = last.lsn;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StatementError> {
        self.db.flush(&self.path).map_err(failed)
    }
}

impl Statements for SledStatements {
    fn postings(&self, account: AccountId, month: Month) -> Result<Vec<Record>, StatementError> {
        self.db
            .tree()
            .scan_prefix(keys::postings_in(account, month))
            .values()
            .map(|bytes| {
                let bytes = bytes.map_err(failed)?;
                let (record, _) = decode_record(&bytes).map_err(|error| failed(format!("a posting: {error}")))?;
                Ok(record)
            })
            .collect()
    }

    fn months(&self, account: AccountId) -> Result<Vec<Month>, StatementError> {
        // Jumps from the last posting of a month to the last posting before that month.
        let prefix = keys::postings_of(account);
        let mut months = Vec::new();
        let mut before = prefix_end(&prefix);
        while let Some((key, _)) = self.db.tree().get_lt(&before).map_err(failed)? {
            let Some(number) = key.strip_prefix(&prefix).and_then(|rest| rest.first_chunk::<4>()) else { break };
            let month =
                Month::from_number(u32::from_be_bytes(*number)).ok_or_else(|| failed("a posting in no month"))?;
            months.push(month);
            before = keys::postings_in(account, month).to_vec();
        }
        Ok(months)
    }
}

/// The first key after all that begin with `prefix`.
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    end.extend_from_slice(&[0xff; 16]);
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use frokost_engine::{Amount, CallerId, Entry, RequestKey, Sequence, Timestamp};

    fn sale(lsn: u64, account: u64, at: &str) -> Record {
        let at: u64 = at.parse().unwrap();
        Record {
            lsn: Lsn(lsn),
            at: Timestamp(at),
            key: RequestKey { caller: CallerId(1), sequence: Sequence(lsn) },
            fingerprint: 0,
            account: AccountId(account),
            balance: Amount::ZERO,
            entry: Entry::Purchased { amount: Amount::from_kroner(1) },
        }
    }

    #[test]
    fn months_are_listed_newest_first_and_hold_only_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statements");
        // May, June and July 2023.
        let (may, june, july) = ("1683000000000", "1686000000000", "1689000000000");
        let records = [
            sale(1, 7, may),
            sale(2, 7, june),
            sale(3, 8, june),
            sale(4, 7, june),
            sale(5, 7, july),
            sale(6, 255, may),
        ];
        let mut statements = SledStatements::open(&path, Lsn(6)).unwrap();
        statements.project(&records).unwrap();
        statements.flush().unwrap();
        drop(statements);
        let statements = SledStatements::open(&path, Lsn(6)).unwrap();
        assert_eq!(statements.watermark(), Lsn(6));
        let months: Vec<u32> = statements.months(AccountId(7)).unwrap().iter().map(|m| m.number()).collect();
        assert_eq!(months, [202_307, 202_306, 202_305]);
        let in_june = statements.postings(AccountId(7), Month::from_number(202_306).unwrap()).unwrap();
        assert_eq!(in_june.iter().map(|r| r.lsn.0).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(statements.months(AccountId(9)).unwrap(), []);
    }

    #[test]
    fn statements_that_know_more_than_the_journal_begin_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statements");
        let mut statements = SledStatements::open(&path, Lsn(9)).unwrap();
        statements.project(&[sale(9, 7, "1683000000000")]).unwrap();
        statements.flush().unwrap();
        drop(statements);
        assert_eq!(SledStatements::open(&path, Lsn(8)).unwrap().watermark(), Lsn::ZERO);
    }
}
