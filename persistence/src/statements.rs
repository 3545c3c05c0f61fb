//! Statements: every record there ever was, and an account's postings by month. The records are in a log of their own
//! ([`crate::statement_log`]); where each account's last posting stands is in memory ([`crate::statement_ends`]), and made again from the
//! log at a start. Written behind the journal; what is missing at the end is read from there again, and nothing is ever decided from it.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use frokost_engine::journal::{JournalError, Records};
use frokost_engine::statement::{Projection, StatementError, Statements};
use frokost_engine::time::Month;
use frokost_engine::{AccountId, Lsn, Record};

use crate::block_file::Damaged;
use crate::statement_ends::{End, Ends, EndsFile, Known};
use crate::statement_log::{Found, Links, Place, StatementLog, Writer};

/// The ends are written when so many records have come since the last time, and at least as many as there are accounts: what that costs is
/// less than half of what the records do, and a start has no more than that to read again.
const WRITE_ENDS_AFTER: u64 = 256;

/// The statements in a folder. Clones read the same statements; one of them writes.
#[derive(Clone, Debug)]
pub struct LoggedStatements {
    log: StatementLog,
    file: EndsFile,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    writer: Writer,
    ends: Ends,
    watermark: Lsn,
    /// The log is synced up to there.
    durable: Lsn,
    /// The ends on the disk are those of the records up to there.
    written: Lsn,
    /// Why nothing is written any more.
    failed: Option<StatementError>,
}

fn failed(error: impl std::fmt::Display) -> StatementError {
    StatementError(error.to_string())
}

impl LoggedStatements {
    /// Opens the statements in `folder`. They are written behind the journal, which begins with `first` and ends at `head`. Where they know
    /// more than it does, it has lost something; where they end before it begins, they have. Either may be the only copy; nothing of the log is
    /// touched then.
    ///
    /// Before anything of the log that could still be read is cut off, `covered` is asked whether everything from there on is in the journal.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] if a record is in neither; [`JournalError::Storage`] if the folder cannot be used; what `covered` says.
    pub fn open(
        folder: &Path,
        first: Lsn,
        head: Lsn,
        covered: impl FnOnce(Lsn) -> Result<(), JournalError>,
    ) -> Result<LoggedStatements, JournalError> {
        let storage = |error: &dyn std::fmt::Display| JournalError::Storage(format!("{}: {error}", folder.display()));
        let log = StatementLog::open(folder).map_err(|error| storage(&error))?;
        let file = EndsFile::in_folder(folder).map_err(|error| storage(&error))?;
        let anew = |why: &dyn std::fmt::Display| {
            tracing::warn!(%why, "where the accounts' last postings stand is looked up in the whole log of the statements");
            Known::default()
        };
        let known = file.read().map(Option::unwrap_or_default).unwrap_or_else(|Damaged(why)| anew(&why));
        let written = known.watermark;
        // They are written of what is durable in both.
        if written > head {
            return Err(lost(head, written));
        }
        let (known, written) = match follow(&log, known) {
            Ok(Known { watermark, .. }) if written > Lsn::ZERO && watermark.next() < first => {
                (follow(&log, anew(&"they end before the journal begins")), Lsn::ZERO)
            }
            Err(why) => (follow(&log, anew(&why)), Lsn::ZERO),
            known => (known, written),
        };
        let Known { ends, watermark, end } = known.map_err(|error| storage(&error))?;
        if watermark > head {
            return Err(lost(head, watermark));
        }
        if watermark.next() < first {
            let what = format!(
                "the statements in {} cannot be read from there on, and the journal begins with LSN {first}; `frokost restore` makes both anew from the mirror or a backup",
                folder.display()
            );
            return Err(JournalError::Damaged { lsn: watermark.next(), what });
        }
        if written == Lsn::ZERO {
            file.remove().map_err(|error| storage(&error))?;
        }
        if log.goes_on_behind(end).map_err(|error| storage(&error))? {
            covered(watermark.next())?;
        }
        let writer = log.writer(end).map_err(|error| storage(&error))?;
        let shared = Shared { writer, ends, watermark, durable: Lsn::ZERO, written, failed: None };
        let mut statements = LoggedStatements { log, file, shared: Arc::new(Mutex::new(shared)) };
        // The process before may not have come to this.
        statements.flush().map_err(|error| storage(&error))?;
        Ok(statements)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(shared: &mut Shared, records: &[Record]) -> Result<(), StatementError> {
        for record in records {
            let place = shared.writer.next_place(record.lsn).map_err(failed)?;
            let mut links = Links::default();
            if record.is_posting() {
                let month = record.at.month();
                if let Some(end) = shared.ends.get(record.account) {
                    let other_month = if end.month == month { end.links.other_month } else { end.place };
                    links = Links { before: end.place, other_month };
                }
                shared.ends.set(record.account, End { place, month, links });
            }
            shared.writer.put(links, record);
            shared.watermark = record.lsn;
        }
        shared.writer.write().map_err(failed)
    }

    /// Syncs the log, and writes the ends if it is time, without holding up whoever reads.
    fn settle(&self) -> Result<(), StatementError> {
        let (file, watermark, end, due) = {
            let shared = self.lock();
            let due = shared.watermark.0.saturating_sub(shared.written.0) >= shared.ends.count().max(WRITE_ENDS_AFTER);
            (shared.writer.file(), shared.watermark, shared.writer.end(), due)
        };
        // First, since ends may be read again that point to nowhere otherwise.
        file.map_or(Ok(()), |file| file.sync_data()).map_err(failed)?;
        self.lock().durable = watermark;
        if due {
            match self.file.write(watermark, end, |page| self.lock().ends.page_from(page)) {
                Ok(()) => self.lock().written = watermark,
                // All that it costs is a longer start.
                Err(error) => {
                    tracing::warn!(%error, "where the accounts' last postings stand cannot be written down; it is tried again")
                }
            }
        }
        Ok(())
    }

    fn last(&self, account: AccountId) -> Place {
        self.lock().ends.get(account).map_or(Place::NOWHERE, |end| end.place)
    }
}

/// Reads on in the log, as far as it can be read.
fn follow(log: &StatementLog, known: Known) -> Result<Known, String> {
    let Known { mut ends, mut watermark, mut end } = known;
    if !log.reaches(end) {
        return Err("they know more than is in the log".to_owned());
    }
    for item in log.scan_on(end) {
        let Ok(Found { place, next, record, links }) = item else {
            // What cannot be read ends it: the rest comes from the journal, or from the mirror by `frokost restore`.
            tracing::warn!(%watermark, "the log of the statements can be read up to there");
            break;
        };
        if record.lsn != watermark.next() {
            break;
        }
        if record.is_posting() {
            ends.set(record.account, End { place, month: record.at.month(), links });
        }
        (watermark, end) = (record.lsn, next);
    }
    Ok(Known { ends, watermark, end })
}

fn lost(head: Lsn, known: Lsn) -> JournalError {
    let what = format!("it ends there, but the statements know records up to LSN {known}; records are missing");
    JournalError::Damaged { lsn: head.next(), what }
}

impl Projection for LoggedStatements {
    fn watermark(&self) -> Lsn {
        self.lock().watermark
    }

    fn durable_watermark(&self) -> Lsn {
        self.lock().durable
    }

    fn project(&mut self, records: &[Record]) -> Result<(), StatementError> {
        let mut shared = self.lock();
        if let Some(failed) = &shared.failed {
            return Err(failed.clone());
        }
        let put = LoggedStatements::put(&mut shared, records);
        shared.failed = put.as_ref().err().cloned();
        put
    }

    fn flush(&mut self) -> Result<(), StatementError> {
        if let Some(failed) = &self.lock().failed {
            return Err(failed.clone());
        }
        let flushed = self.settle();
        self.lock().failed = flushed.as_ref().err().cloned();
        flushed
    }
}

impl Statements for LoggedStatements {
    fn postings(&self, account: AccountId, month: Month) -> Result<Vec<Record>, StatementError> {
        let mut postings = Vec::new();
        let mut next = self.last(account);
        while next != Place::NOWHERE {
            let (links, record) = self.log.read(next).map_err(failed)?;
            if record.account != account {
                return Err(failed(format!("LSN {} is account {}'s, not {account}'s", record.lsn, record.account)));
            }
            next = if record.at.month() == month { links.before } else { links.other_month };
            if record.at.month() == month {
                postings.push(record);
            }
        }
        postings.reverse();
        Ok(postings)
    }

    fn records_from(&self, from: Lsn) -> Records<'_> {
        let end = self.lock().writer.end();
        Box::new(self.log.scan(from, end).map(|item| match item {
            Ok(found) => Ok(found.record),
            Err(what) => Err(JournalError::Storage(format!("the statements cannot be read: {what}"))),
        }))
    }

    fn months(&self, account: AccountId) -> Result<Vec<Month>, StatementError> {
        let mut months = Vec::new();
        let mut next = self.last(account);
        while next != Place::NOWHERE {
            let (links, record) = self.log.read(next).map_err(failed)?;
            months.push(record.at.month());
            next = links.other_month;
        }
        // A clock that was set back makes a month appear twice.
        months.sort_unstable();
        months.dedup();
        months.reverse();
        Ok(months)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frokost_engine::{Amount, CallerId, Entry, PersonId, RequestKey, Sequence, Text, Timestamp};

    fn sale(lsn: u64, account: u64, at: &str) -> Record {
        let at: u64 = at.parse().unwrap();
        Record {
            lsn: Lsn(lsn),
            at: Timestamp(at),
            key: RequestKey { caller: CallerId(1), sequence: Sequence(lsn) },
            fingerprint: 0,
            account: AccountId(account),
            balance: Amount::ZERO,
            by: PersonId(0),
            text: Text::EMPTY,
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
        let mut statements = LoggedStatements::open(&path, Lsn(1), Lsn(6), |_| Ok(())).unwrap();
        statements.project(&records).unwrap();
        statements.flush().unwrap();
        drop(statements);
        let statements = LoggedStatements::open(&path, Lsn(1), Lsn(6), |_| Ok(())).unwrap();
        assert_eq!(statements.watermark(), Lsn(6));
        let months: Vec<u32> = statements.months(AccountId(7)).unwrap().iter().map(|m| m.number()).collect();
        assert_eq!(months, [202_307, 202_306, 202_305]);
        let in_june = statements.postings(AccountId(7), Month::from_number(202_306).unwrap()).unwrap();
        assert_eq!(in_june.iter().map(|r| r.lsn.0).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(statements.months(AccountId(9)).unwrap(), []);
    }

    /// One start after the other, at every record around the end of a file, with and without a flush before.
    #[test]
    fn a_log_of_several_files_is_read_on_wherever_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statements");
        let records: Vec<Record> = (1..=3_200).map(|lsn| sale(lsn, lsn % 7 + 1, "1683000000000")).collect();
        let may = Month::from_number(202_305).unwrap();
        let mut done = 0;
        let ends = [1_400, 1_470].into_iter().chain(1_480..1_500).chain([2_900]).chain(2_970..3_000).chain([3_200]);
        for (n, end) in ends.enumerate() {
            let mut statements = LoggedStatements::open(&path, Lsn(1), Lsn(3_200), |_| Ok(())).unwrap();
            assert_eq!(statements.watermark(), Lsn(done as u64));
            statements.project(&records[done..end]).unwrap();
            done = end;
            if n % 3 == 0 {
                statements.flush().unwrap();
            }
            let of_five = statements.postings(AccountId(5), may).unwrap();
            let expected = records[..done].iter().filter(|record| record.account == AccountId(5));
            assert_eq!(of_five, expected.copied().collect::<Vec<_>>());
        }
        assert!(path.join("log.000003").exists() && !path.join("log.000004").exists());
    }

    #[test]
    fn a_journal_that_knows_less_than_the_statements_has_lost_something() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statements");
        let mut statements = LoggedStatements::open(&path, Lsn(1), Lsn(300), |_| Ok(())).unwrap();
        let records: Vec<Record> = (1..=300).map(|lsn| sale(lsn, 7, "1683000000000")).collect();
        statements.project(&records).unwrap();
        statements.flush().unwrap();
        drop(statements);
        for without_ends in [false, true] {
            if without_ends {
                std::fs::remove_file(path.join("ends")).unwrap();
            }
            let refused = LoggedStatements::open(&path, Lsn(1), Lsn(299), |_| Ok(())).unwrap_err();
            assert!(matches!(refused, JournalError::Damaged { lsn: Lsn(300), .. }), "{refused}");
        }
        assert_eq!(
            LoggedStatements::open(&path, Lsn(1), Lsn(300), |_| Ok(())).unwrap().watermark(),
            Lsn(300),
            "nothing was touched"
        );
    }
}
