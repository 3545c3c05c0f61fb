//! On which processor the journal's threads run. A group is handed from one to the other, and each that is woken on another processor is an
//! interrupt there, and on a virtual machine an exit from it and back. So while groups are small all of them run on the one
//! that the disk's answers come to; a large group is work for more than one. `docs/adr/0030-near-the-disk.md` has what it is worth.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use frokost_engine::journal::{AppendError, Claim, Journal, JournalError, JournalReader, Shard};
use frokost_engine::{Lsn, Record};
use rustix::fs::OFlags;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// So many syncs of a block are measured on each processor, or as many as there is time for; with less than so many nothing is known, and where a sync
/// takes as long as that it is not the waking that counts.
const SYNCS: usize = 48;
const ENOUGH: usize = 16;
const MEASURED_FOR: Duration = Duration::from_millis(150);
/// Groups of more records on average are work for more than one processor, and such of less are not again.
const LARGE: u32 = 128;
const SMALL: u32 = 96;

/// Where this process might run when it was first asked about.
static ANYWHERE: OnceLock<CpuSet> = OnceLock::new();

thread_local! {
    /// Where this thread was put last: on one processor or anywhere. A thread that is begun runs where that runs which begins it.
    static HERE: Cell<Option<Option<usize>>> = const { Cell::new(None) };
}

/// Where the journal's threads belong. Clones are the same.
#[derive(Clone, Debug)]
pub struct Affinity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    near: usize,
    together: AtomicBool,
}

impl Affinity {
    /// The processors this process may run on.
    ///
    /// # Errors
    /// What the system says.
    pub fn processors() -> io::Result<Vec<usize>> {
        let set = sched_getaffinity(None)?;
        Ok((0..CpuSet::MAX_CPU).filter(|n| set.is_set(*n)).collect())
    }

    /// To that processor.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if this process may not run on it.
    pub fn to(processor: usize) -> io::Result<Affinity> {
        let anywhere = sched_getaffinity(None)?;
        if processor >= CpuSet::MAX_CPU || !anywhere.is_set(processor) {
            return Err(io::ErrorKind::NotFound.into());
        }
        ANYWHERE.get_or_init(|| anywhere);
        Ok(Affinity(Arc::new(Inner { near: processor, together: AtomicBool::new(false) })))
    }

    /// To the one that hears soonest of the disk that `folder` is on, with how long a sync took there and on the other. Nothing where this process may
    /// not run on exactly two processors (with more it has not been seen to be worth it), or where a sync takes milliseconds.
    ///
    /// # Errors
    /// What the system says.
    pub fn measured(folder: &Path) -> io::Result<Option<(Affinity, [Duration; 2])>> {
        let [first, second] = Affinity::processors()?[..] else { return Ok(None) };
        let file = nameless(folder)?;
        let measure = || soonest(&file, [first, second]);
        // A thread of its own, which is moved around and ends.
        let measured = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, measure)?;
            thread.join().unwrap_or_else(|_| Err(io::Error::other("measuring the disk panicked")))
        })?;
        let Some([one, other]) = measured else { return Ok(None) };
        let (near, took) = if one <= other { (first, [one, other]) } else { (second, [other, one]) };
        Ok(Some((Affinity::to(near)?, took)))
    }

    /// Which one.
    #[must_use]
    pub fn processor(&self) -> usize {
        self.0.near
    }

    /// The thread that calls goes where the journal's threads are to be now.
    pub(crate) fn follow(&self) {
        put(self.0.together.load(Ordering::Relaxed).then_some(self.0.near));
    }
}

/// For a thread that one of the journal's has begun, and that is none of them: it runs anywhere.
pub(crate) fn wander() {
    put(None);
}

/// Puts this thread on that processor, or anywhere; a system call only if it is not there.
fn put(processor: Option<usize>) {
    // Nobody was ever put anywhere.
    let Some(anywhere) = ANYWHERE.get() else { return };
    if HERE.replace(Some(processor)) == Some(processor) {
        return;
    }
    if let Err(error) = sched_setaffinity(None, &processor.map_or(*anywhere, only)) {
        // What it may use has been taken from it since; it runs where it can.
        tracing::debug!(%error, ?processor, "a thread of the journal cannot be moved");
    }
}

fn only(processor: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(processor);
    set
}

/// A file that never has a name, so that nothing can be left of it.
fn nameless(folder: &Path) -> io::Result<File> {
    let without_name = i32::try_from(OFlags::TMPFILE.bits()).map_err(io::Error::other)?;
    let file = File::options().write(true).custom_flags(without_name).open(folder)?;
    file.write_all_at(&[0; 4096], 0)?;
    file.sync_all()?;
    Ok(file)
}

/// How long a sync takes whoever runs on the one and on the other: medians, in turn. Nothing if there was no time for enough of them.
fn soonest(file: &File, processors: [usize; 2]) -> io::Result<Option<[Duration; 2]>> {
    let begin = Instant::now();
    let mut took = [Vec::new(), Vec::new()];
    'measuring: for _ in 0..SYNCS {
        for (processor, took) in processors.into_iter().zip(&mut took) {
            sched_setaffinity(None, &only(processor))?;
            // The first is of a thread that has just come.
            file.sync_data()?;
            file.write_all_at(b"frokost", 0)?;
            let written = Instant::now();
            file.sync_data()?;
            took.push(written.elapsed());
            if begin.elapsed() > MEASURED_FOR {
                break 'measuring;
            }
        }
    }
    let enough = took.iter().all(|took| took.len() >= ENOUGH);
    let median = |mut took: Vec<Duration>| {
        took.sort_unstable();
        took.get(took.len() / 2).copied().unwrap_or_default()
    };
    Ok(enough.then(|| took.map(median)))
}

/// How large groups are, on average of about the last sixteen.
#[derive(Debug, Default)]
struct Sizes {
    sixteen: u32,
    large: bool,
}

impl Sizes {
    /// Are they small, with this one?
    fn small_with(&mut self, records: usize) -> bool {
        let records = u32::try_from(records).unwrap_or(u32::MAX / 32).min(u32::MAX / 32);
        self.sixteen = self.sixteen - self.sixteen / 16 + records;
        self.large = self.sixteen / 16 > if self.large { SMALL } else { LARGE };
        !self.large
    }
}

/// A journal whose appending thread runs where its other threads do.
pub struct Placed {
    journal: Box<dyn Journal>,
    affinity: Affinity,
    sizes: Sizes,
}

impl Placed {
    /// Around a journal that has been given the same affinity; the journal itself where there is none.
    #[must_use]
    pub fn around(journal: Box<dyn Journal>, affinity: Option<&Affinity>) -> Box<dyn Journal> {
        match affinity.cloned() {
            Some(affinity) => Box::new(Placed { journal, affinity, sizes: Sizes::default() }),
            None => journal,
        }
    }
}

impl Journal for Placed {
    fn claim(&mut self, shard: Shard, owner: &str) -> Result<Claim, JournalError> {
        self.journal.claim(shard, owner)
    }

    fn append(&mut self, claim: &Claim, expected: Lsn, records: &[Record]) -> Result<Lsn, AppendError> {
        self.affinity.0.together.store(self.sizes.small_with(records.len()), Ordering::Relaxed);
        self.affinity.follow();
        self.journal.append(claim, expected, records)
    }

    fn truncate_before(&mut self, claim: &Claim, before: Lsn) -> Result<bool, AppendError> {
        self.journal.truncate_before(claim, before)
    }

    fn reader(&self) -> Arc<dyn JournalReader> {
        self.journal.reader()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests stop where they are wrong")]

    use std::fs;

    use frokost_engine::command::Source;
    use frokost_engine::{
        AccountId, Amount, CallerId, Entry, OrderNumber, PersonId, RequestKey, Sequence, Text, Timestamp,
    };

    use super::*;
    use crate::mirrored_journal::Mode;
    use crate::segments::Prewritten;
    use crate::{FileJournal, MirroredJournal, SledJournal};

    #[test]
    fn large_groups_are_work_for_more_than_one_processor() {
        let mut sizes = Sizes::default();
        let mut all =
            |records, groups: usize| -> Vec<bool> { (0..groups).map(|_| sizes.small_with(records)).collect() };
        assert!(all(30, 200).iter().all(|small| *small));
        assert!(all(1_000, 1)[0], "one large group among small ones");
        assert!(all(30, 100).iter().all(|small| *small));
        let large = all(160, 100);
        assert!(large[0] && !large[99]);
        assert!(all(110, 200).iter().all(|small| !small), "neither here nor there, so it stays");
        let small = all(60, 100);
        assert!(!small[0] && small[99]);
        assert!(!all(usize::MAX, 40)[39]);
    }

    #[test]
    fn the_one_that_is_measured_is_the_sooner_and_nothing_is_left_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let before = sched_getaffinity(None).unwrap();
        let processors = Affinity::processors().unwrap();
        let measured = Affinity::measured(folder.path()).unwrap();
        // On a slow disk nothing is known.
        assert!(measured.is_none() || processors.len() == 2);
        if let Some((affinity, [near, other])) = measured {
            assert!(processors.contains(&affinity.processor()));
            assert!(Duration::ZERO < near && near <= other, "{near:?}, {other:?}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(sched_getaffinity(None).unwrap(), before, "whoever asks stays where they are");
    }

    #[test]
    fn there_is_no_affinity_to_a_processor_that_is_not_there() {
        for processor in [CpuSet::MAX_CPU - 1, CpuSet::MAX_CPU, usize::MAX] {
            assert_eq!(Affinity::to(processor).unwrap_err().kind(), io::ErrorKind::NotFound);
        }
    }

    /// Where the threads of this process whose name begins like that may run.
    fn allowed(name: &str) -> Vec<String> {
        let mut allowed = Vec::new();
        for task in fs::read_dir("/proc/self/task").unwrap() {
            let task = task.unwrap().path();
            let read = |file| fs::read_to_string(task.join(file)).unwrap_or_default();
            if read("comm").starts_with(name) {
                let status = read("status");
                let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
                allowed.push(list.trim().to_owned());
            }
        }
        allowed
    }

    fn group(after: Lsn, records: u64) -> Vec<Record> {
        let record = |n| Record {
            lsn: Lsn(after.0 + n),
            at: Timestamp(1),
            key: RequestKey { caller: CallerId(1), sequence: Sequence(after.0 + n) },
            fingerprint: 1,
            account: AccountId(1),
            balance: Amount::from_ore(1),
            by: PersonId(0),
            text: Text::default(),
            entry: Entry::ToppedUp {
                order: OrderNumber(after.0 + n),
                amount: Amount::from_ore(1),
                source: Source::Provider,
            },
        };
        (1..=records).map(record).collect()
    }

    #[test]
    fn what_writes_zeros_ahead_of_the_mirror_runs_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        let processors = Affinity::processors().unwrap();
        let last = *processors.last().unwrap();
        let affinity = Affinity::to(last).unwrap();
        affinity.0.together.store(true, Ordering::Relaxed);
        affinity.follow();
        assert_eq!(Affinity::processors().unwrap(), [last]);
        let mut prewritten = Prewritten::default();
        prewritten.begin(folder.path());
        let begin = Instant::now();
        while processors.len() > 1 && !allowed("frokost-zeros").iter().any(|list| *list != last.to_string()) {
            assert!(begin.elapsed() < Duration::from_secs(1), "it stays where it was begun");
        }
    }

    #[test]
    fn every_thread_of_the_journal_goes_where_it_belongs_and_away_again() {
        let folder = tempfile::tempdir().unwrap();
        let processors = Affinity::processors().unwrap();
        let (alone, last) = (processors.len() == 1, *processors.last().unwrap());
        let affinity = Affinity::to(last).unwrap();
        let sled = SledJournal::open(&folder.path().join("journal")).unwrap().near(Some(&affinity));
        let mirror = FileJournal::open_mirror(&folder.path().join("mirror")).unwrap();
        let mirrored = MirroredJournal::new(sled, mirror, Mode::Sync, None).near(Some(&affinity));
        let mut journal = Placed::around(Box::new(mirrored), Some(&affinity));
        let committer = std::thread::Builder::new().name("committer".to_owned());
        let appends = committer.spawn(move || {
            let claim = journal.claim(Shard(0), "test").unwrap();
            let mut head = claim.head;
            let mut until_all_are = |there: bool, records| {
                let begin = Instant::now();
                let one = last.to_string();
                // Those of sled hear of it when they are kept, each quarter of a second some of them.
                let all = || ["committer", "frokost-mirror", "sled-io"].map(allowed).concat();
                while !all().iter().all(|list| (*list == one) == there) {
                    assert!(begin.elapsed() < Duration::from_secs(30), "{records} records: {:?}", all());
                    for _ in 0..20 {
                        head = journal.append(&claim, head, &group(head, records)).unwrap();
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            };
            until_all_are(true, 1);
            assert!(allowed("sled-io").len() > 2, "{:?}", allowed("sled-io"));
            until_all_are(alone, 300);
            until_all_are(true, 1);
        });
        appends.unwrap().join().unwrap();
        assert_eq!(Affinity::processors().unwrap(), processors, "nobody else is moved");
    }
}
