//! A sled database whose writes survive a power cut. sled's own `flush` calls `sync_file_range` only, which does not
//! survive one; so every flush here is followed by an `fdatasync` on sled's file. Nothing else in frokost opens sled.

use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

/// The most one value may be: larger ones end in blob files, which sled never syncs.
pub(crate) const MAX_VALUE: usize = 4096;

#[derive(Clone, Debug)]
pub(crate) struct DurableDb {
    db: sled::Db,
    file: Arc<File>,
    /// A flush has failed: what is in memory is not what is on disk, and nothing may be read or written any more.
    failed: Arc<AtomicBool>,
    /// From when on threads of sled's are kept; never where it is not flushed often.
    keeps_from: Arc<Mutex<Option<Instant>>>,
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DbError {
    #[error("{path} is in use by another process")]
    InUse { path: PathBuf },
    #[error("{path} is damaged: {why}")]
    Corrupt { path: PathBuf, why: String },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {why}")]
    Other { path: PathBuf, why: String },
}

impl DurableDb {
    /// Opens the database in `folder`, making it if there is none. After it, an empty database survives a power cut, too.
    pub(crate) fn open(folder: &Path) -> Result<DurableDb, DbError> {
        let io = |source| DbError::Io { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(io)?;
        set_aside_half_made_snapshots(folder).map_err(io)?;
        if let Ok(file) = File::open(folder.join("db")) {
            read_from_disk(&file);
        }
        let db = open_when_free(folder)?;
        let file = File::options().read(true).write(true).open(folder.join("db")).map_err(io)?;
        let opened = DurableDb { db, file: Arc::new(file), failed: Arc::default(), keeps_from: Arc::default() };
        // At every start, not only when it is made: the first start may have been killed before it came to this.
        opened.flush(folder)?;
        opened.file.sync_all().map_err(io)?;
        sync_folder(folder).map_err(io)?;
        if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_folder(parent).map_err(io)?;
        }
        Ok(opened)
    }

    pub(crate) fn tree(&self) -> &sled::Db {
        &self.db
    }

    /// An error if a flush has failed before: sled shows what it could not store.
    pub(crate) fn check(&self, path: &Path) -> Result<(), DbError> {
        if self.failed.load(Ordering::SeqCst) {
            let why = "a flush has failed before; restart to recover".to_owned();
            return Err(DbError::Other { path: path.to_owned(), why });
        }
        Ok(())
    }

    /// For whoever flushes all the time: makes that cheaper, for every database of this process.
    pub(crate) fn flushes_often(&self) {
        *self.keeps_from.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn keep_threads(&self, flush_began: Instant) {
        let mut keeps_from = self.keeps_from.lock().unwrap_or_else(PoisonError::into_inner);
        match *keeps_from {
            Some(_) if flush_began.elapsed() > LONG => *keeps_from = Some(Instant::now() + PAUSE),
            Some(from) if from <= flush_began => keep_threads(&self.db),
            Some(_) | None => {}
        }
    }

    /// Makes everything written so far survive a power cut. If it fails, it fails for good.
    pub(crate) fn flush(&self, path: &Path) -> Result<(), DbError> {
        self.check(path)?;
        let began = Instant::now();
        let flushed = match self.db.flush() {
            Ok(_) => self.file.sync_data().map_err(|source| DbError::Io { path: path.to_owned(), source }),
            Err(error) => Err(explain(path, error)),
        };
        match flushed {
            Ok(()) => self.keep_threads(began),
            Err(_) => self.failed.store(true, Ordering::SeqCst),
        }
        flushed
    }
}

/// sled has so many threads for writes (its `threadpool.rs`), and never more. So many are left to it while others are kept: two, so that the
/// journal does not wait behind the portal's records.
const SLED_THREADS: usize = 7;
const WRITERS: usize = 2;
/// A thread that is kept is given back after so long, whatever happens: a write of sled's can wait for a truncation, and that for a thread.
const KEPT_FOR: Duration = Duration::from_millis(250);
/// A flush that took so long may have waited for such a thread; then none is kept for a while.
const LONG: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_secs(10);

/// How many of sled's threads are kept; the pool is one for all databases of the process.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// A flush is done, and the thread of sled's that did it is kept here for a while.
struct Keep {
    arrived: SyncSender<()>,
}

impl Wake for Keep {
    fn wake(self: Arc<Self>) {
        // Whoever waited for it may have gone.
        let _ = self.arrived.try_send(());
        std::thread::sleep(KEPT_FOR);
        KEPT.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Keeps all but [`WRITERS`] of sled's threads for a while. sled wakes all that wait for each write, and all but one find nothing to do: a tenth
/// of the server's processor time and a third of a flush, measured in `docs/adr/0018-fewer-to-wake.md`.
fn keep_threads(db: &sled::Db) {
    let (arrived, arrivals) = sync_channel(SLED_THREADS);
    let waker = Waker::from(Arc::new(Keep { arrived }));
    let one_more = |kept| (kept < SLED_THREADS - WRITERS).then_some(kept + 1);
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

/// sled gives its lock back a moment after a database is dropped, from a thread of its own; so a lock that is held is
/// asked for again for a moment before it is believed.
fn open_when_free(folder: &Path) -> Result<sled::Db, DbError> {
    let begin = Instant::now();
    loop {
        // Some damage makes sled panic where it should refuse.
        let opened = std::panic::catch_unwind(|| {
            sled::Config::new().path(folder).flush_every_ms(None).cache_capacity(64 << 20).open()
        });
        let Ok(opened) = opened else {
            let why = "sled gives up on it".to_owned();
            return Err(DbError::Corrupt { path: folder.to_owned(), why });
        };
        match opened.map_err(|error| explain(folder, error)) {
            Err(DbError::InUse { .. }) if begin.elapsed() < Duration::from_millis(500) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

pub(crate) fn explain(path: &Path, error: sled::Error) -> DbError {
    let path = path.to_owned();
    match error {
        sled::Error::Io(source)
            if source.kind() == io::ErrorKind::WouldBlock || source.to_string().contains("could not acquire lock") =>
        {
            DbError::InUse { path }
        }
        sled::Error::Io(source) => DbError::Io { path, source },
        sled::Error::Corruption { at, .. } => DbError::Corrupt { path, why: format!("at {at:?}") },
        other @ (sled::Error::CollectionNotFound(_) | sled::Error::Unsupported(_) | sled::Error::ReportableBug(_)) => {
            DbError::Other { path, why: other.to_string() }
        }
    }
}

/// A snapshot that was being written when the machine stopped makes sled fail; it holds nothing of its own.
fn set_aside_half_made_snapshots(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::rename(entry.path(), folder.join(format!("set-aside.{name}")))?;
        }
    }
    Ok(())
}

/// What is read of a file from here on comes from the disk, and not from what is left of it in memory. After a sync that failed Linux keeps
/// what it could not write and calls it written, so that a program that starts again would take it for durable.
pub(crate) fn read_from_disk(file: &File) {
    // What is not written yet stays, and is synced with what comes; where the system cannot do it there is nothing else to be done.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests stop where they are wrong")]

    use super::*;

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

    fn sleeps_of_flushes(db: &DurableDb, folder: &Path) -> u64 {
        let before = sleeps();
        for round in 0_u8..200 {
            db.tree().insert(b"key", &[round]).unwrap();
            db.flush(folder).unwrap();
        }
        sleeps() - before
    }

    #[test]
    fn whoever_flushes_often_wakes_fewer_threads_which_all_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let db = DurableDb::open(folder.path()).unwrap();
        let without = sleeps_of_flushes(&db, folder.path());
        db.flushes_often();
        let with = sleeps_of_flushes(&db, folder.path());
        assert!(with * 3 < without * 2, "200 flushes woke {without} threads, and then {with}");
        assert!(KEPT.load(Ordering::Relaxed) > 0);
        std::thread::sleep(KEPT_FOR * 4);
        assert_eq!(KEPT.load(Ordering::Relaxed), 0);
    }

    /// Two writers can wait for a truncation, and that for a thread: somebody has to come.
    #[test]
    fn a_flush_that_took_long_ends_the_keeping_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let db = DurableDb::open(folder.path()).unwrap();
        db.flushes_often();
        db.keep_threads(Instant::now().checked_sub(LONG * 2).unwrap());
        let from = (*db.keeps_from.lock().unwrap()).unwrap();
        assert!(from > Instant::now() + PAUSE / 2);
        db.flush(folder.path()).unwrap();
        assert_eq!(*db.keeps_from.lock().unwrap(), Some(from));
    }
}
