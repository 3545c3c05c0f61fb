//! The newest snapshot, read while the rest is still being opened: with a million accounts that takes longer than anything else at a start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::id::Lsn;
use crate::ledger_state::LedgerState;
use crate::pending::Waiter;
use crate::snapshot::{Items, SnapshotError, Snapshots};

/// A snapshot that was read before it is known whether it can be used.
pub(crate) type ReadSnapshot<W> = Option<(Lsn, Result<LedgerState<W>, SnapshotError>)>;

/// A snapshot that is being read. Where it is dropped it is not read any further.
pub struct ReadAhead {
    of: Arc<dyn Snapshots>,
    dropped: Arc<AtomicBool>,
    /// Nothing where there was no thread for it: then it is read when it is needed.
    reading: Option<JoinHandle<ReadSnapshot<Waiter>>>,
}

impl ReadAhead {
    /// Begins. From here on until an engine has been started with it nobody else may write snapshots there, so the journal is locked before.
    #[must_use]
    pub fn begin(of: Arc<dyn Snapshots>) -> ReadAhead {
        let (snapshots, dropped) = (Arc::clone(&of), Arc::new(AtomicBool::new(false)));
        let stop = Arc::clone(&dropped);
        let read = move || {
            let newest = snapshots.list().ok()?.first().copied()?;
            let unless_dropped = |item| match stop.load(Ordering::Relaxed) {
                true => Err(SnapshotError::Storage("nobody waits for it any more".to_owned())),
                false => item,
            };
            let state = |items: Items<'_>| LedgerState::from_snapshot(newest, Box::new(items.map(unless_dropped)));
            Some((newest, snapshots.read(newest).and_then(state)))
        };
        let reading = std::thread::Builder::new().name("frokost-early".to_owned()).spawn(read).ok();
        ReadAhead { of, dropped, reading }
    }

    /// What was read, if it was read there; a reader that falls is replaced by whoever needs it.
    pub(crate) fn wait(mut self, snapshots: &Arc<dyn Snapshots>) -> ReadSnapshot<Waiter> {
        if !std::ptr::addr_eq(Arc::as_ptr(&self.of), Arc::as_ptr(snapshots)) {
            return None;
        }
        self.reading.take().and_then(|reading| reading.join().unwrap_or(None))
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
        // Whoever begins anew after a start that failed finds nobody reading.
        drop(self.reading.take().map(JoinHandle::join));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_snapshots::MemorySnapshots;

    fn with_one() -> Arc<dyn Snapshots> {
        let snapshots = MemorySnapshots::default();
        snapshots.write(Lsn(7), Box::new(std::iter::empty())).unwrap();
        Arc::new(snapshots)
    }

    #[test]
    fn what_was_read_of_others_is_not_used() {
        let (ours, theirs) = (with_one(), with_one());
        let read = ReadAhead::begin(Arc::clone(&ours)).wait(&ours);
        assert!(matches!(read, Some((Lsn(7), Ok(_)))));
        assert!(ReadAhead::begin(theirs).wait(&ours).is_none());
    }

    /// Items that never end, and whether somebody still reads them.
    struct Endless(Arc<AtomicBool>);

    impl Snapshots for Endless {
        fn list(&self) -> Result<Vec<Lsn>, SnapshotError> {
            Ok(vec![Lsn(7)])
        }

        fn read(&self, _: Lsn) -> Result<Items<'_>, SnapshotError> {
            self.0.store(true, Ordering::SeqCst);
            let account = crate::id::AccountId(1);
            let card = || "00000000000001".parse().unwrap();
            Ok(Box::new(std::iter::repeat_with(move || Ok(crate::snapshot::Item::Card(card(), account)))))
        }

        fn write(&self, _: Lsn, _: Items<'_>) -> Result<(), SnapshotError> {
            Ok(())
        }

        fn set_aside(&self, _: Lsn) -> Result<(), SnapshotError> {
            Ok(())
        }

        fn let_go(&self) -> Result<bool, SnapshotError> {
            Ok(false)
        }
    }

    #[test]
    fn dropped_it_reads_no_further() {
        let reads = Arc::new(AtomicBool::new(false));
        let ahead = ReadAhead::begin(Arc::new(Endless(Arc::clone(&reads))));
        while !reads.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        // It would not come back.
        drop(ahead);
    }
}
