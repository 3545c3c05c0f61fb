//! The projector: one thread that writes statements behind the journal. It is never in the way of a purchase: when it
//! cannot keep up, groups pass it by and it reads them from the journal instead. If it fails, statements stop, sales do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::watch;

use crate::entry::Record;
use crate::id::Lsn;
use crate::journal::JournalReader;
use crate::statement::{Projection, StatementError};

/// How many records are read from the journal at once when catching up.
const RUN: usize = 4096;
/// What is projected is made durable when nothing has come for this long.
const FLUSH_WHEN_IDLE: Duration = Duration::from_secs(1);
/// And after so many records in any case, so that a restart has no whole rush to project again.
const FLUSH_AFTER: u64 = 65_536;

pub(crate) struct Projector {
    pub(crate) projection: Box<dyn Projection>,
    pub(crate) reader: Arc<dyn JournalReader>,
    pub(crate) groups: Receiver<Arc<[Record]>>,
    pub(crate) durable: watch::Receiver<Lsn>,
    pub(crate) projected: watch::Sender<Lsn>,
    /// What the statements hold for good: up to there the journal may be cut.
    pub(crate) kept: Arc<AtomicU64>,
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
        let mut flushed = Lsn::ZERO;
        loop {
            match self.groups.recv_timeout(FLUSH_WHEN_IDLE) {
                Ok(group) => {
                    match group.first() {
                        Some(first) if first.lsn == self.projection.watermark().next() => self.take(&group)?,
                        Some(_) | None => self.catch_up()?,
                    }
                    if self.projection.watermark().0 - flushed.0 > FLUSH_AFTER {
                        flushed = self.flush()?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    // The last groups of a rush may have passed by while there was no room.
                    if self.projection.watermark() < *self.durable.borrow() {
                        self.catch_up()?;
                    }
                    if flushed < self.projection.watermark() {
                        flushed = self.flush()?;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.catch_up()?;
                    return self.flush().map(drop);
                }
            }
        }
    }

    fn flush(&mut self) -> Result<Lsn, StatementError> {
        self.projection.flush()?;
        self.kept.store(self.projection.durable_watermark().0, Ordering::SeqCst);
        Ok(self.projection.watermark())
    }

    fn take(&mut self, records: &[Record]) -> Result<(), StatementError> {
        self.projection.project(records)?;
        self.projected.send_replace(self.projection.watermark());
        Ok(())
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
