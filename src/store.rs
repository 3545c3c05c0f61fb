//! Where an installation's books are, opened together: the journal with its mirror, statements, snapshots, and whether there is room on
//! the disk. What is opened here is whole or refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use frokost_engine::journal::{Journal, JournalError, JournalReader, Records};
use frokost_engine::snapshot::Snapshots;
use frokost_engine::statement::{Projection, Statements};
use frokost_engine::{Lsn, ReadAhead};
use frokost_persistence::affinity::{Affinity, Placed};
use frokost_persistence::mirrored_journal::{History, Mode};
use frokost_persistence::{FileJournal, FileSnapshots, LoggedStatements, MirroredJournal, SledJournal};

use crate::data_folder::DataFolder;
use crate::settings::{JournalKind, MirrorMode, Processor, Settings};

/// An installation's books. Nothing is claimed yet.
pub(crate) struct Store {
    pub(crate) journal: Box<dyn Journal>,
    pub(crate) head: Lsn,
    pub(crate) statements: LoggedStatements,
    pub(crate) snapshots: Arc<FileSnapshots>,
    /// The newest of them, for whoever serves.
    pub(crate) ahead: Option<ReadAhead>,
    pub(crate) snapshot_every: u64,
    pub(crate) hung_after: Duration,
    pub(crate) room: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Store {
    /// Opens everything, or says what stands in the way; [`JournalError::InUse`] if a server is running.
    pub(crate) fn open(folder: &DataFolder, settings: &Settings) -> Result<Store, JournalError> {
        Store::open_on(folder, settings, Processor::Any, false)
    }

    /// The same for a server: its journal's threads run where the settings say.
    pub(crate) fn open_to_serve(folder: &DataFolder, settings: &Settings) -> Result<Store, JournalError> {
        Store::open_on(folder, settings, settings.journal.processor, true)
    }

    fn open_on(
        folder: &DataFolder,
        settings: &Settings,
        processor: Processor,
        serves: bool,
    ) -> Result<Store, JournalError> {
        let storage = |error: &dyn std::fmt::Display| JournalError::Storage(error.to_string());
        let data = folder.path();
        let (primary, reader, head) = match settings.journal.kind {
            JournalKind::Sled => {
                let sled = SledJournal::open(&data.join("journal"))?;
                let (reader, head) = (sled.reader(), sled.head());
                (Primary::Sled(sled), reader, head)
            }
            JournalKind::File => {
                let files = FileJournal::open(&data.join("journal.files"))?;
                let (reader, head) = (files.reader(), files.head());
                (Primary::File(files), reader, head)
            }
        };
        // Behind the journal's lock: nobody else's sales are disturbed by it.
        let affinity = affinity(processor, data)?;
        let affinity = affinity.as_ref();
        let snapshots = FileSnapshots::open(&data.join("snapshots")).map_err(|error| storage(&error))?;
        let snapshots = Arc::new(snapshots);
        let ahead = serves.then(|| ReadAhead::begin(Arc::clone(&snapshots) as Arc<dyn Snapshots>));
        let covered = |from: Lsn| reads_on(reader.as_ref(), from, head);
        let statements = LoggedStatements::open(&data.join("statements"), reader.first()?, head, covered)?;
        let mut disks = vec![data.to_owned()];
        let journal: Box<dyn Journal> = match (primary, settings.journal.mirror) {
            (Primary::File(files), _) => Box::new(files),
            (Primary::Sled(sled), MirrorMode::Off) => Box::new(sled.near(affinity)),
            (Primary::Sled(sled), mode @ (MirrorMode::Sync | MirrorMode::Async)) => {
                let mirror = FileJournal::open_mirror(&settings.mirror_folder())?;
                disks.push(settings.mirror_folder());
                let mode = if mode == MirrorMode::Sync { Mode::Sync } else { Mode::Async };
                let known = statements.clone();
                let history: History = Arc::new(move |from| all_records(&known, from));
                let sled = sled.near(affinity);
                Box::new(MirroredJournal::new(sled, mirror, mode, Some(history)).near(affinity))
            }
        };
        let journal = Placed::around(journal, affinity);
        let reserve = settings.journal.reserve_mb.saturating_mul(1 << 20);
        let room = Arc::new(move || disks.iter().all(|disk| has_room(disk, reserve)));
        let snapshot_every = settings.journal.snapshot_every;
        let hung_after = Duration::from_secs(settings.journal.hung_after_s);
        Ok(Store { journal, head, statements, snapshots, ahead, snapshot_every, hung_after, room })
    }

    /// Every record there ever was, from `from` on: from the statements what the journal has let go of, the rest from the journal.
    pub(crate) fn history(&self, from: Lsn) -> Box<dyn Iterator<Item = Result<frokost_engine::Record, JournalError>>> {
        let reader = self.journal.reader();
        let first = match reader.first() {
            Ok(first) => first,
            Err(error) => return Box::new(std::iter::once(Err(error))),
        };
        let old = all_records(&self.statements, from)
            .take_while(move |record| record.as_ref().map_or(true, |record| record.lsn < first));
        let old = (from < first).then_some(old).into_iter().flatten();
        Box::new(old.chain(journal_records(reader, from.max(first))))
    }

    /// How far the statements reach.
    pub(crate) fn watermark(&self) -> Lsn {
        self.statements.watermark()
    }
}

/// Where the journal's threads are to run, if anywhere in particular.
fn affinity(processor: Processor, data: &Path) -> Result<Option<Affinity>, JournalError> {
    match processor {
        Processor::Any => Ok(None),
        Processor::Auto => Ok(measured(data)),
        Processor::Number(number) => Affinity::to(number).map(Some).map_err(|_| {
            let processors = Affinity::processors().unwrap_or_default();
            JournalError::Storage(format!("journal.processor is {number}; this program may run on {processors:?}"))
        }),
    }
}

/// With two processors, which of them hears of the disk first.
fn measured(data: &Path) -> Option<Affinity> {
    match Affinity::measured(data) {
        Ok(None) => None,
        Ok(Some((affinity, [near, other]))) => {
            let processor = affinity.processor();
            tracing::info!(processor, ?near, ?other, "the journal's threads run where a sync comes back sooner");
            Some(affinity)
        }
        Err(error) => {
            tracing::warn!(%error, "which processor hears of the disk first cannot be measured; the journal's threads run anywhere");
            None
        }
    }
}

/// Can everything be read from `from` up to `head`?
fn reads_on(reader: &dyn JournalReader, from: Lsn, head: Lsn) -> Result<(), JournalError> {
    let mut next = from;
    for record in reader.read_from(from) {
        let record = record?;
        if record.lsn != next {
            break;
        }
        next = next.next();
    }
    if next > head {
        return Ok(());
    }
    Err(JournalError::Damaged {
        lsn: next,
        what: "neither the journal nor the statements can be read there".to_owned(),
    })
}

enum Primary {
    Sled(SledJournal),
    File(FileJournal),
}

/// The statements' records, read in runs, so that the iterator owns what it reads from.
fn all_records(statements: &LoggedStatements, from: Lsn) -> Records<'static> {
    let statements = statements.clone();
    Box::new(Runs::new(from, move |from, run| run.extend(statements.records_from(from).take(RUN))))
}

const RUN: usize = 8192;

/// The same of a journal.
fn journal_records(reader: Arc<dyn JournalReader>, from: Lsn) -> Runs<impl FnMut(Lsn, &mut Run)> {
    Runs::new(from, move |from, run| run.extend(reader.read_from(from).take(RUN)))
}

type Run = Vec<Result<frokost_engine::Record, JournalError>>;

struct Runs<F> {
    next: Lsn,
    read: F,
    run: std::vec::IntoIter<Result<frokost_engine::Record, JournalError>>,
    ended: bool,
}

impl<F: FnMut(Lsn, &mut Run)> Runs<F> {
    fn new(from: Lsn, read: F) -> Runs<F> {
        Runs { next: from, read, run: Vec::new().into_iter(), ended: false }
    }
}

impl<F: FnMut(Lsn, &mut Run)> Iterator for Runs<F> {
    type Item = Result<frokost_engine::Record, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if self.run.len() == 0 {
            let mut run = Vec::new();
            (self.read)(self.next, &mut run);
            self.run = run.into_iter();
        }
        let item = self.run.next();
        match &item {
            Some(Ok(record)) => self.next = record.lsn.next(),
            Some(Err(_)) | None => self.ended = true,
        }
        item
    }
}

/// What cannot be asked is taken for room: a write will tell.
fn has_room(disk: &Path, reserve: u64) -> bool {
    rustix::fs::statvfs(disk).map_or(true, |disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= reserve)
}

/// Where a mirror is looked for.
pub(crate) fn mirror_of(settings: &Settings) -> Option<PathBuf> {
    let has_mirror = settings.journal.kind == JournalKind::Sled && settings.journal.mirror != MirrorMode::Off;
    has_mirror.then(|| settings.mirror_folder())
}
