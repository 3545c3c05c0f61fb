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
