//! The newest snapshot, read while the rest is still being opened: with a million accounts that takes longer than anything else at a start.

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::id::Lsn;
use crate::ledger_state::LedgerState;
use crate::pending::Waiter;
use crate::snapshot::{SnapshotError, Snapshots};

/// A snapshot that was read before it is known whether it can be used.
pub(crate) type Read<W> = Option<(Lsn, Result<LedgerState<W>, SnapshotError>)>;

/// A snapshot that is being read.
pub struct ReadAhead(Option<JoinHandle<Read<Waiter>>>);

impl ReadAhead {
    /// Begins. From here on until an engine has been started with it nobody else may write snapshots there, so the journal is locked before.
    #[must_use]
    pub fn begin(snapshots: Arc<dyn Snapshots>) -> ReadAhead {
        let read = move || {
            let newest = snapshots.list().ok()?.first().copied()?;
            Some((newest, snapshots.read(newest).and_then(|items| LedgerState::from_snapshot(newest, items))))
        };
        // Without a thread it is read when it is needed.
        ReadAhead(std::thread::Builder::new().name("frokost-ahead".to_owned()).spawn(read).ok())
    }

    /// What was read; a reader that falls is replaced by whoever needs it.
    pub(crate) fn wait(self) -> Read<Waiter> {
        self.0.and_then(|reading| reading.join().unwrap_or(None))
    }
}
