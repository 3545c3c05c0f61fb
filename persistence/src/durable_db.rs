//! A sled database whose writes survive a power cut. sled's own `flush` calls `sync_file_range` only, which does not
//! survive one; so every flush here is followed by an `fdatasync` on sled's file. Nothing else in frokost opens sled.

use std::fs::{self, File, TryLockError};
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::affinity::Affinity;
use crate::one_flush::Disk;
use crate::spare_threads::SpareThreads;
use crate::zeros_ahead::{self, ZerosAhead};

/// The most one value may be: larger ones end in blob files, which sled never syncs.
pub(crate) const MAX_VALUE: usize = 4096;

#[derive(Clone, Debug)]
pub(crate) struct DurableDb {
    /// Until it is dropped.
    db: Option<sled::Db>,
    file: Arc<File>,
    /// A flush has failed: what is in memory is not what is on disk, and nothing may be read or written any more.
    failed: Arc<AtomicBool>,
    spare: Arc<SpareThreads>,
    zeros: Arc<ZerosAhead>,
    /// Where sled's threads run, if anybody has said so.
    pub(crate) affinity: Option<Affinity>,
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
        let db = when_free(|| {
            prepare(folder)?;
            open(folder)
        })?;
        let file = File::options().read(true).write(true).open(folder.join("db")).map_err(io)?;
        let opened = DurableDb {
            db: Some(db),
            file: Arc::new(file),
            failed: Arc::default(),
            spare: Arc::default(),
            zeros: Arc::default(),
            affinity: None,
        };
        // At every start, not only when it is made: the first start may have been killed before it came to this.
        opened.flush(folder)?;
        opened.file.sync_all().map_err(io)?;
        sync_folder(folder).map_err(io)?;
        sync_folder_of(folder).map_err(io)?;
        Ok(opened)
    }

    pub(crate) fn tree(&self) -> &sled::Db {
        self.db.as_ref().expect("it is there until it is dropped")
    }

    /// An error if a flush has failed before: sled shows what it could not store.
    pub(crate) fn check(&self, path: &Path) -> Result<(), DbError> {
        if self.failed.load(Ordering::SeqCst) {
            let why = "a flush has failed before; restart to recover".to_owned();
            return Err(DbError::Other { path: path.to_owned(), why });
        }
        Ok(())
    }

    /// The disk that a flush flushes.
    pub(crate) fn disk(&self) -> Option<Disk> {
        Disk::of(&self.file)
    }

    /// For whoever flushes all the time: makes that cheaper. The database is in `folder`.
    pub(crate) fn flushes_often(&self, folder: &Path) {
        self.spare.keep_from_now_on(self.affinity.clone());
        // Where a file is written to a new place each time, nothing is won.
        if self.disk().is_some() {
            self.zeros.keep_from_now_on(folder.join("db"));
        }
    }

    /// Makes everything written so far survive a power cut. If it fails, it fails for good.
    pub(crate) fn flush(&self, path: &Path) -> Result<(), DbError> {
        self.flush_beside(path, &mut || {})
    }

    /// The same; `beside` is called when sled has written, and what the disk has been given when it returns is flushed, too.
    pub(crate) fn flush_beside(&self, path: &Path, beside: &mut dyn FnMut()) -> Result<(), DbError> {
        self.check(path)?;
        let began = Instant::now();
        let flushed = self.tree().flush();
        beside();
        let flushed = match flushed {
            Ok(bytes) => {
                self.file.sync_data().map(|()| bytes).map_err(|source| DbError::Io { path: path.to_owned(), source })
            }
            Err(error) => Err(explain(path, error)),
        };
        match &flushed {
            Ok(bytes) => {
                self.spare.after_flush(self.tree(), began);
                self.zeros.written(*bytes);
            }
            Err(_) => self.failed.store(true, Ordering::SeqCst),
        }
        flushed.map(drop)
    }
}

impl Drop for DurableDb {
    fn drop(&mut self) {
        // After a sync that failed sled syncs once more when it is dropped, and panics if it is only told then. Whoever asked for the sync knows already.
        let db = self.db.take();
        let _ = std::panic::catch_unwind(AssertUnwindSafe(|| drop(db)));
    }
}

/// sled gives its lock back a moment after a database is dropped, from a thread of its own; so a lock that is held is
/// asked for again for a moment before it is believed.
fn when_free<T>(mut attempt: impl FnMut() -> Result<T, DbError>) -> Result<T, DbError> {
    let begin = Instant::now();
    loop {
        match attempt() {
            Err(DbError::InUse { .. }) if begin.elapsed() < Duration::from_millis(500) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

/// Makes sled's file what sled may go by, while nobody has it open.
fn prepare(folder: &Path) -> Result<(), DbError> {
    let io = |source| DbError::Io { path: folder.to_owned(), source };
    let Ok(file) = File::options().read(true).write(true).open(folder.join("db")) else { return Ok(()) };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(DbError::InUse { path: folder.to_owned() }),
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    zeros_ahead::cut_off(&file).map_err(io)?;
    // What an earlier life has written and not synced: sled goes by it, and clears what it makes superfluous before anything is synced again.
    file.sync_all().map_err(io)?;
    read_from_disk(&file);
    Ok(())
}

fn open(folder: &Path) -> Result<sled::Db, DbError> {
    // Some damage makes sled panic where it should refuse.
    let opened = std::panic::catch_unwind(|| {
        sled::Config::new().path(folder).flush_every_ms(None).cache_capacity(64 << 20).open()
    });
    let Ok(opened) = opened else {
        let why = "sled gives up on it".to_owned();
        return Err(DbError::Corrupt { path: folder.to_owned(), why });
    };
    opened.map_err(|error| explain(folder, error))
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
    // What is not written yet stays and is synced with what comes, as far as it is not synced before; where the system cannot do it there is nothing else to be done.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The folder that `path` is in: after it, its name survives a power cut.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or(Ok(()), sync_folder)
}
