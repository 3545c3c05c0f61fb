//! The snapshotter: one thread that makes a snapshot now and then, and has the journal let go of what two snapshots and the
//! statements hold. It reads what others have written, slowly on purpose, and is never waited for.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::committer::Item;
use crate::engine::{Shared, StepBack};
use crate::id::Lsn;
use crate::journal::JournalReader;
use crate::rules::Rules;
use crate::snapshot::{Items, Pace, SnapshotError, Snapshots, next_snapshot};

const LOOKS_EVERY: Duration = Duration::from_millis(100);
/// The most records between two snapshots: they are held in memory, about a hundred bytes each.
const MOST_BETWEEN: u64 = 1_000_000;
/// After a failure it is tried again only after this long.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// So many times as many records as are due: now it is made before everything else.
const LATE: u64 = 4;
/// Between one piece of what is not needed any more and the next.
const BETWEEN_CUTS: Duration = Duration::from_millis(25);

pub(crate) struct Snapshotter {
    pub(crate) shared: Weak<Shared>,
    pub(crate) snapshots: Arc<dyn Snapshots>,
    pub(crate) reader: Arc<dyn JournalReader>,
    pub(crate) rules: Rules,
    /// 0 for never.
    pub(crate) every: u64,
    /// What the statements hold for good.
    pub(crate) kept: Arc<AtomicU64>,
    pub(crate) step_back: Option<StepBack>,
}

impl Snapshotter {
    /// Until the engine closes down.
    pub(crate) fn run(self) {
        if self.every == 0 {
            return;
        }
        let mut last = None;
        while !self.is_closing() {
            std::thread::sleep(LOOKS_EVERY);
            let done = match last {
                Some(last) => self.look(last),
                None => self.newest().map(Some),
            };
            match done {
                Ok(Some(newest)) => last = Some(newest),
                Ok(None) => {}
                Err(SnapshotError::Closing) => return,
                Err(SnapshotError::Damaged { lsn, what }) => {
                    metrics::counter!("frokost_snapshot_failures_total").increment(1);
                    tracing::error!(%lsn, what, "a snapshot is damaged; it is put aside, and the next is made from the one before");
                    last = None;
                    if let Err(error) = self.snapshots.set_aside(lsn) {
                        tracing::error!(%error, "a damaged snapshot cannot be put aside");
                        self.rest(AFTER_FAILURE);
                    }
                }
                Err(error) => {
                    metrics::counter!("frokost_snapshot_failures_total").increment(1);
                    tracing::error!(%error, "no snapshot could be made; sales go on, the next start takes longer");
                    self.rest(AFTER_FAILURE);
                }
            }
        }
    }

    fn is_closing(&self) -> bool {
        self.shared.upgrade().is_none_or(|shared| shared.permits.is_closed())
    }

    fn rest(&self, whole: Duration) {
        let mut rested = Duration::ZERO;
        while rested < whole && !self.is_closing() {
            std::thread::sleep(LOOKS_EVERY);
            rested += LOOKS_EVERY;
        }
    }

    fn newest(&self) -> Result<Lsn, SnapshotError> {
        Ok(self.snapshots.list()?.first().copied().unwrap_or_default())
    }

    /// Makes a snapshot if it is time, and then lets go of what is not needed any more.
    fn look(&self, last: Lsn) -> Result<Option<Lsn>, SnapshotError> {
        let Some(shared) = self.shared.upgrade() else { return Err(SnapshotError::Closing) };
        let durable = *shared.durable.borrow();
        let accounts = u64::try_from(shared.directory.len()).unwrap_or(u64::MAX);
        let due = self.every.max(accounts.min(MOST_BETWEEN));
        let behind = durable.0.saturating_sub(last.0);
        if behind < due {
            return Ok(None);
        }
        // Sales come first, but not for ever: what is not in a snapshot makes the journal longer, and the next start.
        let rests = match behind / due {
            0..2 => 3,
            2..LATE => 1,
            _ => 0,
        };
        let late = Lsn(last.0.saturating_add(due.saturating_mul(LATE)));
        let to = Lsn(durable.0.min(last.0.saturating_add(MOST_BETWEEN)));
        let begin = shared.clock.running();
        self.make_beside_sales(&shared, last, to, rests, late)?;
        metrics::counter!("frokost_snapshots_total").increment(1);
        tracing::info!(lsn = %to, took = ?shared.clock.running().saturating_sub(begin), "made a snapshot");
        match self.tidy(&shared) {
            Ok(()) => {}
            Err(closing @ SnapshotError::Closing) => return Err(closing),
            // The snapshot is there all the same, and the next one tries again.
            Err(error) => {
                metrics::counter!("frokost_snapshot_failures_total").increment(1);
                tracing::error!(%error, "what a snapshot has made superfluous cannot be removed; it takes up room");
            }
        }
        Ok(Some(to))
    }

    /// Lets go of what the newest two snapshots and the statements hold.
    fn tidy(&self, shared: &Arc<Shared>) -> Result<(), SnapshotError> {
        // The older of the two has to do should the newer be damaged, and needs the journal behind it.
        let older = self.snapshots.list()?.get(1).copied().unwrap_or_default();
        let before = older.0.min(self.kept.load(Ordering::SeqCst)) + 1;
        self.cut(shared, Lsn(before))?;
        self.let_go()
    }

    /// On a thread of its own that has stepped back, unless it is late: who has stepped back cannot come forward again. One that becomes late
    /// meanwhile is left, and made anew by this thread.
    fn make_beside_sales(
        &self,
        shared: &Shared,
        last: Lsn,
        to: Lsn,
        rests: u32,
        late: Lsn,
    ) -> Result<(), SnapshotError> {
        const NEVER: Lsn = Lsn(u64::MAX);
        let Some(step_back) = self.step_back.as_ref().filter(|_| rests > 0) else {
            return self.make(shared, last, to, rests, NEVER);
        };
        std::thread::scope(|scope| {
            let make = || {
                step_back();
                self.make(shared, last, to, rests, late)
            };
            let thread = std::thread::Builder::new().name("frokost-snapshot".to_owned());
            let made = thread.spawn_scoped(scope, make).map(std::thread::ScopedJoinHandle::join);
            match made {
                Ok(Ok(Err(SnapshotError::Closing))) if !self.is_closing() => self.make(shared, last, to, 0, NEVER),
                Ok(Ok(made)) => made,
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                Err(_) => self.make(shared, last, to, rests, NEVER),
            }
        })
    }

    /// It is left where the engine closes, or where the statements come to the record `late`: a number that is read without a lock, since the
    /// committer is not to wait for somebody who has stepped back.
    fn make(&self, shared: &Shared, last: Lsn, to: Lsn, rests: u32, late: Lsn) -> Result<(), SnapshotError> {
        // One for all there is to do: of a caller with millions of keys all are read before one is written.
        let pace = RefCell::new(Pace::new(&shared.clock, rests));
        let step = || pace.borrow_mut().step();
        let left = || self.kept.load(Ordering::Relaxed) >= late.0 || self.is_closing();
        let unless_left = |item| if left() { Err(SnapshotError::Closing) } else { item };
        let before: Items<'_> = if last == Lsn::ZERO {
            Box::new(std::iter::empty())
        } else {
            Box::new(self.snapshots.read(last)?.inspect(|_| step()).map(&unless_left))
        };
        let records = self.reader.read_from(last.next()).map(|record| {
            step();
            if left() { Err(SnapshotError::Closing) } else { Ok(record?) }
        });
        let wanted = records.take_while(|record| record.as_ref().map_or(true, |record| record.lsn <= to));
        let items = next_snapshot(before, wanted, &self.rules, shared.old_keys())?.inspect(|_| step());
        let mut closing = false;
        let whole = items.map(unless_left).take_while(|item| !std::mem::replace(&mut closing, item.is_err()));
        self.snapshots.write(to, Box::new(whole))
    }

    /// Little by little, between groups.
    fn cut(&self, shared: &Arc<Shared>, before: Lsn) -> Result<(), SnapshotError> {
        loop {
            let (tell, more) = oneshot::channel();
            shared.commit(Item::Truncate(before, tell));
            match more.blocking_recv() {
                Ok(true) => std::thread::sleep(BETWEEN_CUTS),
                Ok(false) => return Ok(()),
                Err(_) => return Err(SnapshotError::Closing),
            }
        }
    }

    /// Little by little, too, and what is left when the engine closes goes when there is the next snapshot, or at the next start.
    fn let_go(&self) -> Result<(), SnapshotError> {
        while self.snapshots.let_go()? {
            if self.is_closing() {
                return Err(SnapshotError::Closing);
            }
            std::thread::sleep(BETWEEN_CUTS);
        }
        Ok(())
    }
}
