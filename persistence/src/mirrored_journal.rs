//! Two journals as one: the primary, which is read, and the mirror, which is a second copy on plain files. Both are written at
//! the same time, each by a thread of its own; `Mode` says whether the answer waits for the mirror, too. Where it does and both are on one
//! disk, the mirror's bytes are made durable by the primary's flush, which begins when both have written.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use frokost_engine::journal::{AppendError, Claim, Journal, JournalError, JournalReader, Records, Shard};
use frokost_engine::{Lsn, Record};

use crate::affinity::Affinity;
use crate::file_journal::FileJournal;
use crate::one_flush::Disk;
use crate::segments::Left;

/// About how many records are copied as one group when one side catches up.
const RUN: usize = 512;
/// The most groups an asynchronous mirror may be behind; then it is waited for.
const BEHIND: usize = 1024;

/// Does an answer wait for the mirror?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Yes: what is answered is in both.
    Sync,
    /// No: the mirror follows as fast as it can.
    Async,
}

/// Where records come from that the primary has let go of: the statements.
pub type History = Arc<dyn Fn(Lsn) -> Records<'static> + Send + Sync>;

/// A journal that can be the one that is read. It remembers beside itself how far was acknowledged; under a mirror that answers wait for, only
/// the two together know.
pub trait Primary: Journal {
    /// From now on it is told with [`Primary::note`].
    fn wait_for_word(&mut self);

    /// Everything up to there is acknowledged from now on.
    fn note(&mut self, last: Lsn);

    /// The disk that is flushed with every group, where it is known to be flushed whole.
    fn disk(&self) -> Option<Disk> {
        None
    }

    /// As [`Journal::append`]. `_beside` is called before that flush, and what the disk has been given when it returns is durable with the
    /// group; it is not called where there is no such flush, as for a group that was durable already.
    ///
    /// # Errors
    /// As [`Journal::append`].
    fn append_beside(
        &mut self,
        claim: &Claim,
        expected: Lsn,
        records: &[Record],
        _beside: &mut dyn FnMut(),
    ) -> Result<Lsn, AppendError> {
        self.append(claim, expected, records)
    }
}

/// A journal with a mirror.
pub struct MirroredJournal<P> {
    primary: P,
    mirror: FileJournal,
    mode: Mode,
    history: Option<History>,
    /// Does the primary's flush make the mirror durable, too?
    one_flush: bool,
    /// Where the mirror's thread runs, if anybody has said so.
    affinity: Option<Affinity>,
    writer: Option<Writer>,
}

struct Writer {
    groups: SyncSender<(Lsn, Arc<[Record]>)>,
    results: Receiver<Result<Lsn, AppendError>>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// What became of the group that the mirror was given last.
    fn result(&self) -> Result<Lsn, AppendError> {
        self.results.recv().unwrap_or_else(|_| Err(AppendError::Failed("its thread has ended".to_owned())))
    }
}

impl<P: Primary> MirroredJournal<P> {
    /// Both together. `history` is where a new mirror gets what the primary does not have any more.
    #[must_use]
    pub fn new(mut primary: P, mirror: FileJournal, mode: Mode, history: Option<History>) -> MirroredJournal<P> {
        if mode == Mode::Sync {
            primary.wait_for_word();
        }
        MirroredJournal { primary, mirror, mode, history, one_flush: false, affinity: None, writer: None }
    }

    /// The mirror's thread runs there from the next claim on, if anywhere in particular.
    #[must_use]
    pub fn near(mut self, affinity: Option<&Affinity>) -> MirroredJournal<P> {
        self.affinity = affinity.cloned();
        self
    }

    /// Brings the two to the same end. Whatever either of them has was decided, and nothing that was answered is missing in the
    /// primary (it would have refused to open), so both go forward to the later end.
    fn even_out(&mut self, claim: &mut Claim, mirror: &Claim) -> Result<(), JournalError> {
        self.compare(claim.head.min(mirror.head))?;
        if mirror.head > claim.head {
            tracing::warn!(journal = %claim.head, mirror = %mirror.head, "the mirror has a group that the journal lacks; copying it");
            let missing = self.mirror.reader();
            let missing = missing.read_from(claim.head.next());
            claim.head =
                copy(missing, claim.head, mirror.head, |expected, run| self.primary.append(claim, expected, run))?;
        }
        if mirror.head < claim.head {
            let primary = self.primary.reader();
            let mut head = mirror.head;
            let behind = claim.head.0 - head.0;
            tracing::info!(behind, "the mirror is catching up");
            if head.next() < primary.first()? {
                let history = self.history.as_ref().ok_or_else(|| JournalError::Damaged {
                    lsn: head.next(),
                    what: "the mirror lacks it, and the journal has let go of it".to_owned(),
                })?;
                let to = Lsn(primary.first()?.0 - 1);
                head = copy(history(head.next()), head, to, |expected, run| self.mirror.append(mirror, expected, run))?;
            }
            let missing = primary.read_from(head.next());
            copy(missing, head, claim.head, |expected, run| self.mirror.append(mirror, expected, run))?;
        }
        Ok(())
    }

    /// The same record at the same place, as far as both have it.
    fn compare(&self, at: Lsn) -> Result<(), JournalError> {
        let (primary, mirror) = (self.primary.reader(), self.mirror.reader());
        if at == Lsn::ZERO || at < mirror.first()? {
            return Ok(());
        }
        let ours = if at < primary.first()? {
            // The journal has let go of it. What it was is still known elsewhere, or nothing can be said, and what is missing cannot be copied either.
            let Some(history) = &self.history else { return Ok(()) };
            history(at).next().transpose()?
        } else {
            primary.read_from(at).next().transpose()?
        };
        let theirs = mirror.read_from(at).next().transpose()?;
        if ours == theirs {
            return Ok(());
        }
        let what = "the journal and its mirror say different things; one of them belongs to another installation";
        Err(JournalError::Damaged { lsn: at, what: what.to_owned() })
    }

    fn start_writer(&mut self, claim: Claim) -> Result<(), JournalError> {
        self.stop_writer();
        let (groups, to_write) = sync_channel::<(Lsn, Arc<[Record]>)>(BEHIND);
        let (told, results) = sync_channel(BEHIND);
        let mut mirror = self.mirror.clone();
        let (mode, one_flush, affinity) = (self.mode, self.one_flush, self.affinity.clone());
        let write = move || {
            while let Ok((expected, records)) = to_write.recv() {
                if let Some(affinity) = &affinity {
                    affinity.follow();
                }
                let before = Instant::now();
                let result = if one_flush {
                    mirror.append_unflushed(&claim, expected, &records)
                } else {
                    mirror.append(&claim, expected, &records).map(|last| (last, Left::Nothing))
                };
                let result = result.map(|(last, left)| {
                    let flush = if left == Left::Nothing { "own" } else { "shared" };
                    metrics::histogram!("frokost_mirror_write_seconds", "flush" => flush).record(before.elapsed());
                    last
                });
                let failed = result.is_err();
                match mode {
                    Mode::Sync => drop(told.send(result)),
                    Mode::Async => {
                        if let Err(error) = result {
                            metrics::counter!("frokost_mirror_failures_total").increment(1);
                            tracing::error!(%error, "the mirror cannot be written any more; it catches up at the next start");
                        }
                    }
                }
                if failed {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("frokost-mirror".to_owned())
            .spawn(write)
            .map_err(|error| JournalError::Storage(format!("the mirror's thread: {error}")))?;
        self.writer = Some(Writer { groups, results, thread });
        Ok(())
    }

    fn stop_writer(&mut self) {
        if let Some(Writer { groups, results, thread }) = self.writer.take() {
            drop((groups, results));
            if thread.join().is_err() {
                tracing::error!("the mirror's thread panicked");
            }
        }
    }
}

impl<P> Drop for MirroredJournal<P> {
    fn drop(&mut self) {
        if let Some(Writer { groups, results, thread }) = self.writer.take() {
            drop((groups, results));
            // An asynchronous mirror writes what it was given.
            drop(thread.join());
        }
    }
}

/// Copies records in runs; returns the last position.
fn copy<'a>(
    records: Records<'a>,
    mut head: Lsn,
    to: Lsn,
    mut append: impl FnMut(Lsn, &[Record]) -> Result<Lsn, AppendError>,
) -> Result<Lsn, JournalError> {
    let failed = |error: AppendError| JournalError::Storage(error.to_string());
    let mut run = Vec::with_capacity(RUN);
    let mut records = records.peekable();
    while let Some(record) = records.next() {
        let record = record?;
        let last = record.lsn;
        run.push(record);
        // The two halves of a transfer are never in two groups: there would be a moment when only one is durable.
        let halved = matches!(records.peek(), Some(Ok(next)) if next.entry.is_companion());
        if (run.len() >= RUN && !halved) || last == to {
            head = append(head, &run).map_err(failed)?;
            run.clear();
        }
        if last == to {
            return Ok(head);
        }
    }
    Err(JournalError::Damaged { lsn: head.next(), what: format!("it is missing; there should be records up to {to}") })
}

impl<P: Primary> Journal for MirroredJournal<P> {
    fn claim(&mut self, shard: Shard, owner: &str) -> Result<Claim, JournalError> {
        let mut claim = self.primary.claim(shard, owner)?;
        let mirror = self.mirror.claim(shard, owner)?;
        self.even_out(&mut claim, &mirror)?;
        self.one_flush =
            self.mode == Mode::Sync && self.primary.disk().is_some_and(|disk| Some(disk) == self.mirror.disk());
        self.start_writer(mirror)?;
        Ok(claim)
    }

    fn append(&mut self, claim: &Claim, expected: Lsn, records: &[Record]) -> Result<Lsn, AppendError> {
        let Some(writer) = &self.writer else {
            return Err(AppendError::Failed("nobody has claimed this journal".to_owned()));
        };
        // Where its thread has ended there is no result either.
        let _ = writer.groups.send((expected, records.into()));
        let mut mirrored = None;
        let appended = if self.one_flush {
            let mut written = || mirrored = Some(writer.result());
            self.primary.append_beside(claim, expected, records, &mut written)
        } else {
            self.primary.append(claim, expected, records)
        };
        if self.mode == Mode::Async {
            return appended;
        }
        let flushed_together = mirrored.is_some();
        let mirrored = mirrored.unwrap_or_else(|| writer.result());
        let last = appended?;
        let failed = |error: &dyn Display| AppendError::Failed(format!("the mirror: {error}"));
        mirrored.map_err(|error| failed(&error))?;
        if self.one_flush {
            if !flushed_together {
                self.mirror.flush().map_err(|error| failed(&error))?;
            }
            self.mirror.note(last);
        }
        self.primary.note(last);
        Ok(last)
    }

    fn truncate_before(&mut self, claim: &Claim, before: Lsn) -> Result<bool, AppendError> {
        // The mirror keeps everything.
        self.primary.truncate_before(claim, before)
    }

    fn reader(&self) -> Arc<dyn JournalReader> {
        self.primary.reader()
    }
}
