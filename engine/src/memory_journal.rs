//! A journal in memory whose faults are written in advance: for tests, benches and simulations. It survives the
//! engine that writes it (clones share the log), and so shows what a crash leaves behind. Nothing outlives the process.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::entry::Record;
use crate::id::Lsn;
use crate::journal::{AppendError, Claim, Journal, JournalError, JournalReader, Records, Shard};

/// What shall happen to an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it works.
    None,
    /// It fails and nothing is stored.
    Failed,
    /// It fails after it was stored.
    FailedButStored,
    /// It is stored and the answer lost.
    UnknownButStored,
    /// It is lost, and so is the answer.
    UnknownAndLost,
}

/// A log in memory. Clones are the same log.
#[derive(Debug, Clone, Default)]
pub struct MemoryJournal {
    log: Arc<Mutex<Log>>,
}

#[derive(Debug, Default)]
struct Log {
    records: Vec<Record>,
    epoch: u64,
    faults: VecDeque<Fault>,
}

impl MemoryJournal {
    /// What shall happen to the next appends, one fault each, in order; after them all work.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    /// Everything that is stored.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.lock().records.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn head(&self) -> Lsn {
        self.records.last().map_or(Lsn::ZERO, |record| record.lsn)
    }
}

impl Journal for MemoryJournal {
    fn claim(&mut self, shard: Shard, _owner: &str) -> Result<Claim, JournalError> {
        let mut log = self.lock();
        log.epoch += 1;
        Ok(Claim { shard, epoch: log.epoch, head: log.head() })
    }

    fn append(&mut self, claim: &Claim, expected: Lsn, records: &[Record]) -> Result<Lsn, AppendError> {
        let mut log = self.lock();
        if log.epoch != claim.epoch {
            return Err(AppendError::Fenced { ours: claim.epoch, theirs: log.epoch });
        }
        let last = records.last().map_or(expected, |record| record.lsn);
        if log.head() == last && !records.is_empty() && log.records.ends_with(records) {
            return Ok(last);
        }
        let follows = records.iter().zip(expected.0 + 1..).all(|(record, lsn)| record.lsn.0 == lsn);
        if log.head() != expected || !follows || records.is_empty() {
            return Err(AppendError::Failed(format!("the group does not follow the head, LSN {}", log.head())));
        }
        let fault = log.faults.pop_front().unwrap_or(Fault::None);
        if !matches!(fault, Fault::Failed | Fault::UnknownAndLost) {
            log.records.extend_from_slice(records);
        }
        match fault {
            Fault::None => Ok(last),
            Fault::Failed | Fault::FailedButStored => Err(AppendError::Failed("as scripted".to_owned())),
            Fault::UnknownButStored | Fault::UnknownAndLost => Err(AppendError::Unknown("as scripted".to_owned())),
        }
    }

    fn truncate_before(&mut self, claim: &Claim, before: Lsn) -> Result<bool, AppendError> {
        let mut log = self.lock();
        if log.epoch != claim.epoch {
            return Err(AppendError::Fenced { ours: claim.epoch, theirs: log.epoch });
        }
        let head = log.head();
        log.records.retain(|record| record.lsn >= before || record.lsn == head);
        Ok(true)
    }

    fn reader(&self) -> Arc<dyn JournalReader> {
        Arc::new(self.clone())
    }
}

impl JournalReader for MemoryJournal {
    fn read_from(&self, from: Lsn) -> Records<'_> {
        let records = self.records();
        Box::new(records.into_iter().filter(move |record| record.lsn >= from).map(Ok))
    }

    fn first(&self) -> Result<Lsn, JournalError> {
        Ok(self.lock().records.first().map_or(Lsn(1), |record| record.lsn))
    }
}
