//! Backups: everything of an installation in one folder, made while it runs. The records of the journal as segments of a
//! mirror, from the first to the last durable one; the portal's records as lines; certificates. The key that opens CPR numbers is
//! not in it: it is kept apart on purpose.
//!
//! ```text
//! backups/<stamp>/
//!   manifest.json     when, up to which LSN, the size and BLAKE3 of every other file
//!   journal/          every record (segments, as in a mirror)
//!   records.jsonl     the portal's records, one a line
//!   pki/              certificate authority, bundles, who is enrolled and who is revoked
//!   pictures/         pupils' pictures
//! ```

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use frokost_engine::journal::{Journal, JournalError, Shard};
use frokost_engine::{Clock, Engine, Lsn, Record};
use frokost_net::server::{BackupDesk, Desks, PupilDesk};
use frokost_net::wire::response::Progress;
use frokost_persistence::{FileJournal, Records};
use serde::{Deserialize, Serialize};

use crate::data_folder::DataFolder;
use crate::node::SystemClock;

/// Records that are read and written at once.
const RUN: usize = 512;

/// What a backup says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The version of this layout.
    pub(crate) version: u32,
    /// When it was made, on Copenhagen's clocks.
    pub(crate) made: String,
    /// The last record in it.
    pub(crate) head: u64,
    /// BLAKE3 of every other file, by its path.
    pub(crate) files: BTreeMap<String, String>,
}

/// Reads runs of records, from a position on; empty at the end.
pub(crate) type Source<'a> = dyn Fn(Lsn) -> Result<Vec<Record>, JournalError> + 'a;

/// Makes a backup of everything up to `head`, and returns its name. One for which there is not `room` beside what sales need leaves nothing behind.
pub(crate) fn make(
    folder: &DataFolder,
    records: &Records,
    head: Lsn,
    source: &Source<'_>,
    room: &dyn Fn() -> bool,
    told: &dyn Fn(u64),
) -> anyhow::Result<String> {
    let all = folder.path().join("backups");
    private_folder(&all)?;
    let Unfinished(unfinished) = &Unfinished::begin(folder)?;
    let enough = || -> anyhow::Result<()> {
        ensure!(
            room(),
            "there is no room for a backup: less than journal.reserve_mb would be left for sales on the disk of {}; nothing of it is kept",
            folder.path().display()
        );
        Ok(())
    };
    // First the books, then who they belong to: an account that was opened meanwhile has no records yet, never the reverse.
    copy_journal(&unfinished.join("journal"), head, source, &|done| {
        told(done);
        enough()
    })?;
    let mut lines = private_file(&unfinished.join("records.jsonl"))?;
    for line in records.export()? {
        serde_json::to_writer(&mut lines, &line)?;
        lines.write_all(b"\n")?;
    }
    lines.sync_all()?;
    enough()?;
    copy_files(&folder.path().join("pki"), &unfinished.join("pki"), &enough)?;
    copy_files(&folder.path().join("pictures"), &unfinished.join("pictures"), &enough)?;

    let now = SystemClock.now().local();
    let made = now.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    let manifest = Manifest { version: 1, made, head: head.0, files: hashes(unfinished)? };
    let mut file = private_file(&unfinished.join("manifest.json"))?;
    serde_json::to_writer_pretty(&mut file, &manifest)?;
    file.sync_all()?;
    let name = free_name(&all, &now.strftime("%Y%m%d-%H%M%S").to_string());
    fs::rename(unfinished, all.join(&name))?;
    File::open(&all)?.sync_all()?;
    Ok(name)
}

/// The folder of a backup that is being made. What is left there when it comes to nothing is taken away.
struct Unfinished(PathBuf);

impl Unfinished {
    fn begin(folder: &DataFolder) -> anyhow::Result<Unfinished> {
        clear_unfinished(folder)?;
        let unfinished = Unfinished(unfinished(folder));
        private_folder(&unfinished.0)?;
        Ok(unfinished)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Finished, it is not there any more. What cannot be taken away now is before the next, or at the next start.
        drop(fs::remove_dir_all(&self.0));
    }
}

fn unfinished(folder: &DataFolder) -> PathBuf {
    folder.path().join("backups").join("unfinished")
}

/// Takes away what a machine that stopped has left of a backup.
pub(crate) fn clear_unfinished(folder: &DataFolder) -> anyhow::Result<()> {
    let unfinished = unfinished(folder);
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).with_context(|| format!("{}", unfinished.display()))?;
    }
    Ok(())
}

/// Copies the files of a folder, if it is there, into a new one, durably; as long as there is `enough` room, which is looked at behind each.
pub(crate) fn copy_files(from: &Path, to: &Path, enough: &dyn Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    private_folder(to)?;
    if !from.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        ensure!(entry.file_type()?.is_file(), "{} is not a file", entry.path().display());
        let bytes = match fs::read(entry.path()) {
            Ok(bytes) => bytes,
            // Deleted or replaced in this moment.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("{}", entry.path().display())),
        };
        let mut copy = private_file(&to.join(entry.file_name()))?;
        copy.write_all(&bytes)?;
        copy.sync_all()?;
        enough()?;
    }
    Ok(())
}

fn copy_journal(
    to: &Path,
    head: Lsn,
    source: &Source<'_>,
    told: &dyn Fn(u64) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut copy = FileJournal::open_copy(to)?;
    let claim = copy.claim(Shard(0), "backup")?;
    let mut done = Lsn::ZERO;
    while done < head {
        let mut run = source(done.next())?;
        run.retain(|record| record.lsn <= head);
        ensure!(
            run.first().is_some_and(|first| first.lsn == done.next()),
            "the records after LSN {done} cannot be had, and there should be some up to LSN {head}"
        );
        done = copy.append(&claim, done, &run)?;
        told(done.0)?;
    }
    Ok(())
}

/// A folder that only its owner may enter.
pub(crate) fn private_folder(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("{} cannot be made", path.display()))
}

pub(crate) fn private_file(path: &Path) -> anyhow::Result<File> {
    let made = File::options().write(true).create_new(true).mode(0o600).open(path);
    made.with_context(|| format!("{} cannot be made", path.display()))
}

/// Two backups in one second get two names.
fn free_name(all: &Path, stamp: &str) -> String {
    let mut name = stamp.to_owned();
    let mut n = 1;
    while all.join(&name).exists() {
        n += 1;
        name = format!("{stamp}-{n}");
    }
    name
}

/// BLAKE3 of every file, by its path within the backup.
fn hashes(backup: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(backup.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if !is_nobodys(&path) {
                let mut hasher = blake3::Hasher::new();
                std::io::copy(&mut File::open(entry.path())?, &mut hasher)?;
                files.insert(path.to_string_lossy().into_owned(), hasher.finalize().to_hex().to_string());
            }
        }
    }
    Ok(files)
}

/// Files that say nothing.
fn is_nobodys(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    ["manifest.json", "lock"].contains(&name.as_ref())
}

/// Reads a backup's manifest and checks every file against it.
pub(crate) fn check(backup: &Path) -> anyhow::Result<Manifest> {
    let path = backup.join("manifest.json");
    let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let manifest: Manifest =
        serde_json::from_str(&text).with_context(|| format!("{} is not a backup's manifest", path.display()))?;
    ensure!(manifest.version == 1, "{} is of version {}; this program reads 1", path.display(), manifest.version);
    let found = hashes(backup)?;
    for (file, hash) in &manifest.files {
        match found.get(file) {
            None => anyhow::bail!("{}: {file} is missing", backup.display()),
            Some(other) if other != hash => anyhow::bail!("{}: {file} is damaged", backup.display()),
            Some(_) => {}
        }
    }
    Ok(manifest)
}

#[derive(Default)]
struct Desk {
    progress: Progress,
    working: bool,
    /// When somebody last wanted to know.
    asked: Option<Instant>,
}

/// Who is told what became of a backup asks again within this; after it, whoever asks wants a new one.
const STILL_ASKS: Duration = Duration::from_secs(5);

/// Makes backups on request, one at a time.
pub(crate) fn desk(
    folder: DataFolder,
    records: Records,
    engine: Engine,
    room: Arc<dyn Fn() -> bool + Send + Sync>,
) -> BackupDesk {
    let desk = Arc::new(Mutex::new(Desk::default()));
    Arc::new(move || {
        let mut state = desk.lock().unwrap_or_else(PoisonError::into_inner);
        let still_asks = state.asked.replace(Instant::now()).is_some_and(|asked| asked.elapsed() < STILL_ASKS);
        if state.working {
            return state.progress.clone();
        }
        if !still_asks {
            // Whoever had asked for it is gone: it is no answer to somebody else, who may have sold since.
            state.progress = Progress::default();
        }
        if !state.progress.name.is_empty() || !state.progress.error.is_empty() {
            return std::mem::take(&mut state.progress);
        }
        let head = engine.durable();
        state.progress = Progress { all: head.0, ..Progress::default() };
        state.working = true;
        let (desk, folder, records, engine) = (Arc::clone(&desk), folder.clone(), records.clone(), engine.clone());
        let room = Arc::clone(&room);
        let runtime = tokio::runtime::Handle::current();
        let work = move || {
            let source = |from| runtime.block_on(engine.records(from, RUN));
            let told = |done| desk.lock().unwrap_or_else(PoisonError::into_inner).progress.done = done;
            let made = make(&folder, &records, head, &source, room.as_ref(), &told);
            let mut state = desk.lock().unwrap_or_else(PoisonError::into_inner);
            state.working = false;
            match made {
                Ok(name) => state.progress.name = name,
                Err(error) => {
                    tracing::error!(%error, "no backup could be made");
                    state.progress.error = format!("{error:#}");
                }
            }
        };
        drop(tokio::task::spawn_blocking(work));
        state.progress.clone()
    })
}

/// Where there is nothing to make a backup of, and nobody to show a picture to.
pub(crate) fn no_desks(pupils: PupilDesk) -> Desks {
    let refuse = || Progress { error: "this server makes no backups".to_owned(), ..Progress::default() };
    Desks { backups: Arc::new(refuse), pictures: Arc::new(|_| None), pupils }
}
