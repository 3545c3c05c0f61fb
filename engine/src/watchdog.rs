//! The watchdog: looks after what cannot look after itself. A journal that hangs stops everything and says nothing; a disk that
//! fills up stops everything half-way. Each has a thread of its own, since a disk that hangs also hangs who asks it for room.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::engine::{Fatal, Shared};
use crate::time::Clock;

const LOOKS_EVERY: Duration = Duration::from_millis(100);

/// Since when the journal is at work, if it is.
pub(crate) struct Busy {
    clock: Arc<dyn Clock>,
    /// In milliseconds, plus one; 0 while it rests.
    since: AtomicU64,
}

/// At work until it is dropped.
pub(crate) struct Working(Arc<Busy>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.since.store(0, Ordering::Relaxed);
    }
}

impl Busy {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Busy> {
        Arc::new(Busy { clock, since: AtomicU64::new(0) })
    }

    pub(crate) fn work(self: &Arc<Busy>) -> Working {
        self.since.store(self.now(), Ordering::Relaxed);
        Working(Arc::clone(self))
    }

    /// For how long.
    fn busy_for(&self) -> Duration {
        match self.since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(self.now().saturating_sub(since)),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.running().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }
}

pub(crate) struct Watchdog {
    pub(crate) shared: Weak<Shared>,
    pub(crate) busy: Arc<Busy>,
    pub(crate) hung_after: Duration,
    pub(crate) on_fatal: Arc<dyn Fn(Fatal) + Send + Sync>,
}

impl Watchdog {
    /// Until the engine is gone.
    pub(crate) fn run(self) {
        while let Some(shared) = self.shared.upgrade() {
            let busy_for = self.busy.busy_for();
            if busy_for > self.hung_after {
                (self.on_fatal)(Fatal::Hung(busy_for));
                return;
            }
            if shared.permits.is_closed() && Arc::strong_count(&self.busy) == 1 {
                // The committer is gone, too.
                return;
            }
            drop(shared);
            std::thread::sleep(LOOKS_EVERY);
        }
    }
}

/// Looks whether there is room on the disk.
pub(crate) struct RoomWatch {
    pub(crate) shared: Weak<Shared>,
    pub(crate) room: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl RoomWatch {
    /// Until the engine closes down.
    pub(crate) fn run(self) {
        // Also where it is full from the beginning.
        let mut said = false;
        loop {
            let full = !(self.room)();
            let Some(shared) = self.shared.upgrade().filter(|shared| !shared.permits.is_closed()) else { return };
            metrics::gauge!("frokost_out_of_space").set(u8::from(full));
            shared.full.store(full, Ordering::SeqCst);
            if std::mem::replace(&mut said, full) != full {
                if full {
                    tracing::error!(
                        "the disk is nearly full: nothing new is let in until there is room; reading goes on"
                    );
                } else {
                    tracing::info!("there is room on the disk again");
                }
            }
            drop(shared);
            std::thread::sleep(LOOKS_EVERY);
        }
    }
}
