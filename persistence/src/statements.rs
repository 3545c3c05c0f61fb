//! Statements: every record there ever was, and an account's postings by month. The records are in a log of their own
//! ([`crate::statement_log`]); sled keeps where each account's last posting stands, as an index that follows the log: what it lacks is
//! read from the log at a start. Written behind the journal; what is missing at the end is read from there again, and nothing is ever
//! decided from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use frokost_engine::fast_map::FastMap;
use frokost_engine::journal::{JournalError, Records};
use frokost_engine::statement::{Projection, StatementError, Statements};
use frokost_engine::time::Month;
use frokost_engine::{AccountId, Lsn, Record};

use crate::durable_db::{DbError, DurableDb, explain};
use crate::keys;
use crate::statement_log::{Found, Links, Place, StatementLog, Writer};

/// The statements in a folder. Clones read the same statements; one of them writes.
#[derive(Clone, Debug)]
pub struct LoggedStatements {
    folder: PathBuf,
    db: DurableDb,
    log: StatementLog,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    writer: Writer,
    watermark: Lsn,
    /// The log is synced up to there.
    durable: Lsn,
    /// Ends that the index does not have yet.
    fresh: Ends,
    /// Ends that are on their way into it.
    settling: Arc<Ends>,
    /// Why nothing is written any more.
    failed: Option<StatementError>,
}

type Ends = FastMap<AccountId, End>;

/// How many ends are made durable at once: little enough for one of sled's segments.
const STEP: usize = 1_024;

/// An account's last posting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    place: Place,
    month: Month,
    links: Links,
}

fn failed(error: impl std::fmt::Display) -> StatementError {
    StatementError(error.to_string())
}

impl LoggedStatements {
    /// Opens the statements in `folder`. Where sled's part is missing, damaged or does not fit the log, it is made anew from the
    /// log. They are written behind the journal, which begins with `first` and ends at `head`. Where they know more than it does, it has
    /// lost something; where they end before it begins, they have. Either may be the only copy; nothing of the log is touched then.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] if a record is in neither; [`JournalError::Storage`] if the folder cannot be used.
    pub fn open(folder: &Path, first: Lsn, head: Lsn) -> Result<LoggedStatements, JournalError> {
        let storage = |error: &dyn std::fmt::Display| JournalError::Storage(format!("{}: {error}", folder.display()));
        let log = StatementLog::open(folder).map_err(|error| storage(&error))?;
        match LoggedStatements::try_open(folder, &log, first, head) {
            Ok(statements) => return Ok(statements),
            Err(OpenError::Anew(why)) => tracing::warn!(%why, "the index of the statements is made anew"),
            Err(OpenError::Lost(error)) => return Err(error),
            Err(OpenError::Final(error)) => return Err(storage(&error)),
        }
        let failed = |error| storage(&error);
        let index = folder.join("index");
        let aside = folder.join("index.set-aside");
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(failed)?;
        }
        if index.exists() {
            fs::rename(&index, &aside).map_err(failed)?;
        }
        match LoggedStatements::try_open(folder, &log, first, head) {
            Ok(statements) => Ok(statements),
            Err(OpenError::Lost(error)) => Err(error),
            Err(OpenError::Anew(why)) => Err(storage(&why)),
            Err(OpenError::Final(error)) => Err(storage(&error)),
        }
    }

    /// Reads the log from where the index ends, which is its beginning where there is no index.
    fn try_open(folder: &Path, log: &StatementLog, first: Lsn, head: Lsn) -> Result<LoggedStatements, OpenError> {
        let anew = |why: &str| OpenError::Anew(why.to_owned());
        let db = DurableDb::open(&folder.join("index")).map_err(|error| match error {
            DbError::Corrupt { why, .. } => OpenError::Anew(why),
            other @ (DbError::InUse { .. } | DbError::Io { .. } | DbError::Other { .. }) => {
                OpenError::Final(failed(other))
            }
        })?;
        let mark = |key| -> Result<Option<(Lsn, Place)>, OpenError> {
            let known = db.tree().get(key).map_err(|error| OpenError::Final(failed(explain(folder, error))))?;
            known.map(|bytes| read_mark(&bytes).ok_or_else(|| anew("one of its marks cannot be read"))).transpose()
        };
        let known = mark(keys::WATERMARK)?;
        let (indexed, indexed_end) = known.unwrap_or((Lsn::ZERO, Place::NOWHERE));
        let mut fresh = Ends::default();
        let (mut watermark, mut end) = (indexed, indexed_end);
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
                fresh.insert(record.account, End { place, month: record.at.month(), links });
            }
            (watermark, end) = (record.lsn, next);
        }
        if watermark > head {
            return Err(OpenError::Lost(lost(head, watermark)));
        }
        if known.is_some() && watermark.next() < first {
            return Err(anew("it ends before the journal begins"));
        }
        if mark(keys::REACHES)?.is_some_and(|(_, reaches)| reaches > end) {
            return Err(anew("it knows more than can be read in the log"));
        }
        if watermark.next() < first {
            let what = format!(
                "the statements in {} cannot be read from there on, and the journal begins with LSN {first}; `frokost restore` makes both anew from the mirror or a backup",
                folder.display()
            );
            return Err(OpenError::Lost(JournalError::Damaged { lsn: watermark.next(), what }));
        }
        // The journal has whatever is cut off here.
        let writer = log.writer(end).map_err(|error| OpenError::Anew(error.to_string()))?;
        // What was never synced is synced with the next flush.
        let shared = Shared { writer, watermark, durable: indexed, fresh, settling: Arc::default(), failed: None };
        let shared = Arc::new(Mutex::new(shared));
        let mut statements = LoggedStatements { folder: folder.to_owned(), db, log: log.clone(), shared };
        if known.is_none() && watermark > Lsn::ZERO {
            statements.flush().map_err(OpenError::Final)?;
        }
        Ok(statements)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_of(&self, shared: &Shared, account: AccountId) -> Result<Option<End>, StatementError> {
        if let Some(end) = shared.fresh.get(&account).or_else(|| shared.settling.get(&account)) {
            return Ok(Some(*end));
        }
        let known = self.db.tree().get(keys::last_posting(account)).map_err(failed)?;
        known
            .map(|bytes| read_end(&bytes).ok_or_else(|| failed("an account's last posting cannot be read")))
            .transpose()
    }

    fn put(&self, shared: &mut Shared, records: &[Record]) -> Result<(), StatementError> {
        for record in records {
            let place = shared.writer.next_place(record.lsn).map_err(failed)?;
            let mut links = Links::default();
            if record.is_posting() {
                let month = record.at.month();
                if let Some(end) = self.end_of(shared, record.account)? {
                    let other_month = if end.month == month { end.links.other_month } else { end.place };
                    links = Links { before: end.place, other_month };
                }
                shared.fresh.insert(record.account, End { place, month, links });
            }
            shared.writer.put(links, record);
            shared.watermark = record.lsn;
        }
        shared.writer.write().map_err(failed)
    }

    /// Syncs the log, then brings the index up to it. Whoever reads what is written already need not wait for that; nor, since it is done
    /// insert by insert and not in a batch, for which sled stops everybody else in the process, does a group of the journal.
    fn settle(&self) -> Result<(), StatementError> {
        let (file, watermark, end, settling) = {
            let mut shared = self.lock();
            shared.settling = Arc::new(std::mem::take(&mut shared.fresh));
            (shared.writer.file(), shared.watermark, shared.writer.end(), Arc::clone(&shared.settling))
        };
        file.map_or(Ok(()), |file| file.sync_data()).map_err(failed)?;
        self.lock().durable = watermark;
        let tree = self.db.tree();
        // Not all of it may be there after a crash. What follows the watermark in the log says so at the next start, as long as the log can
        // be read up to here.
        tree.insert(keys::REACHES, mark_bytes(watermark, end)).map_err(failed)?;
        // In steps, the watermark last: sled recovers what was synced, and of a long flush that was cut short perhaps a later part without
        // an earlier one.
        let ends: Vec<(&AccountId, &End)> = settling.iter().collect();
        for step in ends.chunks(STEP) {
            for (account, end) in step {
                tree.insert(keys::last_posting(**account), &end_bytes(end)).map_err(failed)?;
            }
            self.db.flush(&self.folder).map_err(failed)?;
        }
        tree.insert(keys::WATERMARK, mark_bytes(watermark, end)).map_err(failed)?;
        self.db.flush(&self.folder).map_err(failed)?;
        self.lock().settling = Arc::default();
        Ok(())
    }

    fn last(&self, account: AccountId) -> Result<Option<End>, StatementError> {
        let shared = self.lock();
        self.end_of(&shared, account)
    }
}

enum OpenError {
    /// The index can be made anew from the log.
    Anew(String),
    /// A record is neither here nor in the journal.
    Lost(JournalError),
    Final(StatementError),
}

fn lost(head: Lsn, known: Lsn) -> JournalError {
    let what = format!("it ends there, but the statements know records up to LSN {known}; records are missing");
    JournalError::Damaged { lsn: head.next(), what }
}

fn mark_bytes(lsn: Lsn, end: Place) -> Vec<u8> {
    [lsn.0.to_le_bytes(), end.0.to_le_bytes()].concat()
}

fn read_mark(bytes: &[u8]) -> Option<(Lsn, Place)> {
    let (lsn, place) = bytes.split_first_chunk::<8>()?;
    let place: [u8; 8] = place.try_into().ok()?;
    Some((Lsn(u64::from_le_bytes(*lsn)), Place(u64::from_le_bytes(place))))
}

/// Month (u32), place, the two links (u64 each).
fn end_bytes(end: &End) -> [u8; 28] {
    let mut bytes = [0; 28];
    let (month, places) = bytes.split_at_mut(4);
    month.copy_from_slice(&end.month.number().to_le_bytes());
    for (slot, place) in places.chunks_exact_mut(8).zip([end.place, end.links.before, end.links.other_month]) {
        slot.copy_from_slice(&place.0.to_le_bytes());
    }
    bytes
}

fn read_end(bytes: &[u8]) -> Option<End> {
    let (month, places) = bytes.split_first_chunk::<4>()?;
    let (places, rest) = places.as_chunks::<8>();
    let mut places = places.iter().map(|place| Place(u64::from_le_bytes(*place)));
    let end = End {
        place: places.next()?,
        month: Month::from_number(u32::from_le_bytes(*month))?,
        links: Links { before: places.next()?, other_month: places.next()? },
    };
    (rest.is_empty() && places.next().is_none()).then_some(end)
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
        let put = self.put(&mut shared, records);
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
        let mut next = self.last(account)?.map_or(Place::NOWHERE, |end| end.place);
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
        let mut next = self.last(account)?.map_or(Place::NOWHERE, |end| end.place);
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
        let mut statements = LoggedStatements::open(&path, Lsn(1), Lsn(6)).unwrap();
        statements.project(&records).unwrap();
        statements.flush().unwrap();
        drop(statements);
        let statements = LoggedStatements::open(&path, Lsn(1), Lsn(6)).unwrap();
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
            let mut statements = LoggedStatements::open(&path, Lsn(1), Lsn(3_200)).unwrap();
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
        let mut statements = LoggedStatements::open(&path, Lsn(1), Lsn(2)).unwrap();
        statements.project(&[sale(1, 7, "1683000000000"), sale(2, 7, "1683000000000")]).unwrap();
        statements.flush().unwrap();
        drop(statements);
        for without_index in [false, true] {
            if without_index {
                fs::remove_dir_all(path.join("index")).unwrap();
            }
            let refused = LoggedStatements::open(&path, Lsn(1), Lsn(1)).unwrap_err();
            assert!(matches!(refused, JournalError::Damaged { lsn: Lsn(2), .. }), "{refused}");
        }
        assert_eq!(LoggedStatements::open(&path, Lsn(1), Lsn(2)).unwrap().watermark(), Lsn(2), "nothing was touched");
    }
}
