//! Snapshots in memory, for tests and benches; or none at all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::id::Lsn;
use crate::snapshot::{Item, Items, SnapshotError, Snapshots};

/// Snapshots in memory. Clones are the same snapshots.
#[derive(Debug, Clone, Default)]
pub struct MemorySnapshots {
    /// Nothing of one that is damaged.
    kept: Arc<Mutex<BTreeMap<Lsn, Option<Vec<Item>>>>>,
    holds_on: Arc<AtomicBool>,
    writers: Arc<Mutex<Vec<String>>>,
}

impl MemorySnapshots {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Lsn, Option<Vec<Item>>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the one at `lsn` cannot be read.
    pub fn damage(&self, lsn: Lsn) {
        self.lock().insert(lsn, None);
    }

    /// The thread that wrote each of them, in order.
    #[must_use]
    pub fn writers(&self) -> Vec<String> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on none can be let go of.
    pub fn hold_on(&self) {
        self.holds_on.store(true, Ordering::SeqCst);
    }
}

impl Snapshots for MemorySnapshots {
    fn list(&self) -> Result<Vec<Lsn>, SnapshotError> {
        Ok(self.lock().keys().rev().copied().collect())
    }

    fn read(&self, lsn: Lsn) -> Result<Items<'_>, SnapshotError> {
        let items = self.lock().get(&lsn).cloned();
        let items = items.ok_or_else(|| SnapshotError::Storage(format!("there is none at LSN {lsn}")))?;
        let items = items.ok_or_else(|| SnapshotError::Damaged { lsn, what: "by a test".to_owned() })?;
        Ok(Box::new(items.into_iter().map(Ok)))
    }

    fn write(&self, lsn: Lsn, items: Items<'_>) -> Result<(), SnapshotError> {
        let items = items.collect::<Result<Vec<_>, _>>()?;
        let writer = std::thread::current().name().unwrap_or_default().to_owned();
        self.writers.lock().unwrap_or_else(PoisonError::into_inner).push(writer);
        self.lock().insert(lsn, Some(items));
        Ok(())
    }

    fn set_aside(&self, lsn: Lsn) -> Result<(), SnapshotError> {
        self.lock().remove(&lsn);
        Ok(())
    }

    fn let_go(&self) -> Result<bool, SnapshotError> {
        let mut kept = self.lock();
        if kept.len() <= 2 {
            return Ok(false);
        }
        if self.holds_on.load(Ordering::SeqCst) {
            return Err(SnapshotError::Storage("nothing can be removed, says a test".to_owned()));
        }
        Ok(kept.pop_first().is_some())
    }
}
