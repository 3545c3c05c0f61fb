//! The projector: one thread that writes statements behind the journal. It is never in the way of a purchase: when it
//! cannot keep up, groups pass it by and it reads them from the journal instead. If it fails, statements stop, sales do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;

use crate::entry::Record;
use crate::id::Lsn;
use crate::journal::JournalReader;
use crate::statement::{Projection, StatementError};

/// How many records are read from the journal at once when catching up.
const RUN: usize = 1024;
/// After a group it rests so long and then takes together what has come: to be woken for each group costs more than projecting it.
/// Whoever asks for a statement in a rush waits so much longer.
const REST: Duration = Duration::from_millis(5);
/// What is projected is made durable when nothing has come for this long.
const FLUSH_WHEN_IDLE: Duration = Duration::from_secs(1);
/// And after so many records in any case, so that a restart has little to read again. Not more often: of an account that buys twice meanwhile
/// only the last posting is written.
pub(crate) const FLUSH_AFTER: u64 = 16_384;

pub(crate) struct Projector {
    pub(crate) projection: Box<dyn Projection>,
    pub(crate) reader: Arc<dyn JournalReader>,
    pub(crate) groups: Receiver<Arc<[Record]>>,
    pub(crate) durable: watch::Receiver<Lsn>,
    pub(crate) projected: watch::Sender<Lsn>,
    /// What the statements hold for good: up to there the journal may be cut.
    pub(crate) kept: Arc<AtomicU64>,
    /// Up to here they were flushed since this began.
    pub(crate) flushed: Lsn,
    /// They are flushed after so many records.
    pub(crate) flush_after: u64,
}

/// What is left in the queue.
#[derive(PartialEq)]
enum Left {
    Nothing,
    More,
}

impl Projector {
    /// Runs until the committer is gone and everything durable is projected.
    pub(crate) fn run(mut self) {
        if let Err(error) = self.follow() {
            metrics::counter!("frokost_projector_failures_total").increment(1);
            tracing::error!(%error, "statements are not written any more; sales go on. Start the server again; if it refuses then, `frokost restore` makes journal and statements anew from the mirror");
        }
    }

    fn follow(&mut self) -> Result<(), StatementError> {
        self.catch_up()?;
        loop {
            match self.groups.recv_timeout(FLUSH_WHEN_IDLE) {
                Ok(group) => {
                    if self.take_with_what_is_there(group.to_vec())? == Left::Nothing {
                        thread::sleep(REST);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    // The last groups of a rush may have passed by while there was no room.
                    if self.projection.watermark() < *self.durable.borrow() {
                        self.catch_up()?;
                    }
                    if self.flushed < self.projection.watermark() {
                        self.flush()?;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.catch_up()?;
                    return self.flush();
                }
            }
        }
    }

    fn flush(&mut self) -> Result<(), StatementError> {
        self.projection.flush()?;
        self.kept.store(self.projection.durable_watermark().0, Ordering::SeqCst);
        self.flushed = self.projection.watermark();
        Ok(())
    }

    /// Takes a group and those that have come since, or reads them from the journal where one has passed by.
    fn take_with_what_is_there(&mut self, mut records: Vec<Record>) -> Result<Left, StatementError> {
        let mut left = Left::More;
        while left == Left::More && records.len() < RUN {
            match self.groups.try_recv() {
                Ok(next) => records.extend_from_slice(&next),
                Err(_) => left = Left::Nothing,
            }
        }
        let follows = (self.projection.watermark().0 + 1..).zip(&records).all(|(lsn, record)| record.lsn.0 == lsn);
        if follows {
            self.take(&records)?
        } else {
            self.catch_up()?
        }
        Ok(left)
    }

    fn take(&mut self, records: &[Record]) -> Result<(), StatementError> {
        self.projection.project(records)?;
        self.projected.send_replace(self.projection.watermark());
        if self.projection.watermark().0 - self.flushed.0 > self.flush_after { self.flush() } else { Ok(()) }
    }

    /// Reads from the journal whatever is durable and not projected.
    fn catch_up(&mut self) -> Result<(), StatementError> {
        let durable = *self.durable.borrow();
        let reader = Arc::clone(&self.reader);
        let mut run = Vec::with_capacity(RUN);
        for record in reader.read_from(self.projection.watermark().next()) {
            let record = record.map_err(|error| StatementError(error.to_string()))?;
            if record.lsn > durable {
                break;
            }
            run.push(record);
            if run.len() == RUN {
                self.take(&run)?;
                run.clear();
            }
        }
        if !run.is_empty() {
            self.take(&run)?;
        }
        self.projected.send_replace(self.projection.watermark());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::amount::Amount;
    use crate::entry::Entry;
    use crate::id::{AccountId, CallerId, PersonId, RequestKey, Sequence};
    use crate::journal::{Journal, Shard};
    use crate::memory_journal::MemoryJournal;
    use crate::memory_statements::MemoryStatements;
    use crate::text::Text;
    use crate::time::Timestamp;

    /// Remembers the most records that one flush had to write, and how often it was given some.
    struct Counting {
        statements: MemoryStatements,
        since: u64,
        most: Arc<AtomicU64>,
        given: Arc<AtomicU64>,
    }

    impl Projection for Counting {
        fn watermark(&self) -> Lsn {
            self.statements.watermark()
        }

        fn durable_watermark(&self) -> Lsn {
            self.statements.durable_watermark()
        }

        fn project(&mut self, records: &[Record]) -> Result<(), StatementError> {
            self.since += records.len() as u64;
            self.given.fetch_add(1, Ordering::SeqCst);
            self.statements.project(records)
        }

        fn flush(&mut self) -> Result<(), StatementError> {
            self.most.fetch_max(std::mem::take(&mut self.since), Ordering::SeqCst);
            self.statements.flush()
        }
    }

    fn group(after: u64, count: u64) -> Vec<Record> {
        let record = |lsn| Record {
            lsn: Lsn(lsn),
            at: Timestamp(lsn),
            key: RequestKey { caller: CallerId(1), sequence: Sequence(lsn) },
            fingerprint: 0,
            account: AccountId(lsn),
            balance: Amount::ZERO,
            by: PersonId(0),
            text: Text::EMPTY,
            entry: Entry::Purchased { amount: Amount::from_ore(1) },
        };
        (after + 1..=after + count).map(record).collect()
    }

    /// Neither a rush nor a long backlog makes one flush of it: a restart has little to read again.
    #[test]
    fn no_flush_has_much_to_write() {
        let mut journal = MemoryJournal::default();
        let claim = journal.claim(Shard(0), "test").unwrap();
        for after in (0..80_000).step_by(500) {
            journal.append(&claim, Lsn(after), &group(after, 500)).unwrap();
        }
        let (to, groups) = mpsc::sync_channel(1024);
        // The first half is there when it begins, the second comes group by group.
        for after in (40_000..80_000).step_by(500) {
            to.send(group(after, 500).into()).unwrap();
        }
        drop(to);
        let (most, _) = project(&journal, groups, Lsn(40_000), Lsn(80_000));
        assert!((10_000..=18_000).contains(&most), "one flush had {most} records to write");
    }

    /// In a rush there are many small groups; they are projected by the hundred.
    #[test]
    fn groups_that_are_there_are_taken_together() {
        let journal = MemoryJournal::default();
        let (to, groups) = mpsc::sync_channel(1024);
        for after in (0..5_000).step_by(5) {
            to.send(group(after, 5).into()).unwrap();
        }
        drop(to);
        let (_, given) = project(&journal, groups, Lsn::ZERO, Lsn(5_000));
        assert!(given <= 6, "1,000 groups were projected one by one: {given}");
    }

    /// Projects what is in the journal up to `durable` and then what is in the queue, which ends at `last`. The most records of one flush, and how
    /// often some were projected.
    fn project(journal: &MemoryJournal, groups: Receiver<Arc<[Record]>>, durable: Lsn, last: Lsn) -> (u64, u64) {
        let statements = MemoryStatements::default();
        let (most, given) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let projection =
            Counting { statements: statements.clone(), since: 0, most: Arc::clone(&most), given: Arc::clone(&given) };
        let (_durable, durable) = watch::channel(durable);
        let projector = Projector {
            projection: Box::new(projection),
            reader: journal.reader(),
            groups,
            durable,
            projected: watch::channel(Lsn::ZERO).0,
            kept: Arc::default(),
            flushed: Lsn::ZERO,
            flush_after: FLUSH_AFTER,
        };
        projector.run();
        assert_eq!(statements.durable_watermark(), last);
        (most.load(Ordering::SeqCst), given.load(Ordering::SeqCst))
    }
}
