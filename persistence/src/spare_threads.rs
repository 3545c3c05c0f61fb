//! sled has seven threads for writes and wakes all that wait for each one; all but one find nothing to do, which is a tenth of the server's
//! processor time and a third of a flush. So most of them are kept elsewhere while somebody flushes all the time, a quarter of a second at
//! once. Measured in `docs/adr/0018-fewer-to-wake.md`.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use crate::affinity::Affinity;

/// So many there are (sled's `threadpool.rs`), and never more.
const THREADS: usize = 7;
/// So many are left to write: two, so that the journal does not wait behind the portal's records.
const WRITERS: usize = 2;
/// A thread that is kept is given back after so long, whatever happens: a write of sled's can wait for a truncation, and that for a thread.
const KEPT_FOR: Duration = Duration::from_millis(250);
/// A flush that took so long may have waited for such a thread; then none is kept for a while.
const LONG: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_secs(10);

/// How many are kept; the threads are those of all databases of the process.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// What one database does about them: from when on it keeps some, if ever.
#[derive(Debug, Default)]
pub(crate) struct SpareThreads {
    from: Mutex<Option<Instant>>,
    /// Where they run while they write.
    affinity: OnceLock<Affinity>,
}

impl SpareThreads {
    pub(crate) fn keep_from_now_on(&self, affinity: Option<Affinity>) {
        if let Some(affinity) = affinity {
            // The journal's is one for as long as it is open.
            let _ = self.affinity.set(affinity);
        }
        *self.from() = Some(Instant::now());
    }

    /// To be called behind every flush, with when it began and before anything else is written.
    pub(crate) fn after_flush(&self, db: &sled::Db, began: Instant) {
        let mut from = self.from();
        match *from {
            Some(_) if began.elapsed() > LONG => *from = Some(Instant::now() + PAUSE),
            Some(from) if from <= began => keep(db, self.affinity.get()),
            Some(_) | None => {}
        }
    }

    fn from(&self) -> MutexGuard<'_, Option<Instant>> {
        self.from.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A flush is done, and the thread of sled's that did it is kept here.
struct Keep {
    arrived: SyncSender<()>,
    affinity: Option<Affinity>,
}

impl Wake for Keep {
    fn wake(self: Arc<Self>) {
        // Whoever waited for it may have gone.
        let _ = self.arrived.try_send(());
        // Each of them is kept now and then, and so all of them hear of it.
        if let Some(affinity) = &self.affinity {
            affinity.follow();
        }
        std::thread::sleep(KEPT_FOR);
        KEPT.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Keeps all but [`WRITERS`], as far as they are not kept already.
fn keep(db: &sled::Db, affinity: Option<&Affinity>) {
    // So it is behind nearly every flush, and what follows takes a thirtieth of what the committer computes for a group.
    if KEPT.load(Ordering::Relaxed) >= THREADS - WRITERS {
        return;
    }
    let (arrived, arrivals) = sync_channel(THREADS);
    let waker = Waker::from(Arc::new(Keep { arrived, affinity: affinity.cloned() }));
    let one_more = |kept| (kept < THREADS - WRITERS).then_some(kept + 1);
    let mut on_their_way = 0;
    while KEPT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok() {
        if pin!(db.flush_async()).poll(&mut Context::from_waker(&waker)).is_pending() {
            on_their_way += 1;
        } else {
            // Done before it was asked about: nobody is kept.
            KEPT.fetch_sub(1, Ordering::Relaxed);
            break;
        }
    }
    // Nothing is written meanwhile, so that none of these flushes waits for a write that waits for a thread.
    for _ in 0..on_their_way {
        if arrivals.recv_timeout(LONG).is_err() {
            break;
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests stop where they are wrong")]

    use std::fs;

    use super::*;
    use crate::durable_db::DurableDb;

    /// How often sled's threads have gone to sleep.
    fn sleeps() -> u64 {
        let mut sleeps = 0;
        for task in fs::read_dir("/proc/self/task").unwrap() {
            let task = task.unwrap().path();
            let (Ok(name), Ok(status)) =
                (fs::read_to_string(task.join("comm")), fs::read_to_string(task.join("status")))
            else {
                continue;
            };
            if name.starts_with("sled-io") {
                let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
                sleeps += count.trim().parse::<u64>().unwrap();
            }
        }
        sleeps
    }

    #[test]
    fn fewer_are_woken_and_all_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let db = DurableDb::open(folder.path()).unwrap();
        let sleeps_of_flushes = |spare: &SpareThreads| {
            let before = sleeps();
            for round in 0_u8..200 {
                db.tree().insert(b"key", &[round]).unwrap();
                db.flush(folder.path()).unwrap();
                // As if no flush had taken long, however slow the disk is.
                spare.after_flush(db.tree(), Instant::now());
            }
            sleeps() - before
        };
        // Where a flush is done before it is asked about nobody is kept, which beside others who compute is often so; hardly each time.
        let mut woken = Vec::new();
        let fewer = (0..8).any(|_| {
            let spare = SpareThreads::default();
            let without = sleeps_of_flushes(&spare);
            assert_eq!(KEPT.load(Ordering::Relaxed), 0);
            spare.keep_from_now_on(None);
            let with = sleeps_of_flushes(&spare);
            let kept = KEPT.load(Ordering::Relaxed);
            std::thread::sleep(KEPT_FOR * 4);
            woken.push((without, with, kept));
            with * 3 < without * 2 && kept > 0
        });
        assert!(fewer, "200 flushes woke so many threads without and with, and so many were kept: {woken:?}");
        assert_eq!(KEPT.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_flush_that_took_long_ends_it_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let db = DurableDb::open(folder.path()).unwrap();
        let spare = SpareThreads::default();
        spare.keep_from_now_on(None);
        spare.after_flush(db.tree(), Instant::now().checked_sub(LONG * 2).unwrap());
        assert!((*spare.from()).unwrap() > Instant::now() + PAUSE / 2);
        spare.after_flush(db.tree(), Instant::now());
        assert_eq!(KEPT.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_journal_that_is_claimed_keeps_some() {
        use frokost_engine::journal::{Journal, Shard};

        let folder = tempfile::tempdir().unwrap();
        let mut journal = crate::SledJournal::open(&folder.path().join("journal")).unwrap();
        // Each claim flushes and begins anew from there. One may have a slow disk, or find its flush done before it asks; hardly every one of them.
        let kept = (0..200).any(|_| {
            journal.claim(Shard(0), "test").unwrap();
            KEPT.load(Ordering::Relaxed) > 0
        });
        assert!(kept);
    }
}
