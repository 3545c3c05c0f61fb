//! The mirror: it catches up when it is behind, gives back what the journal lacks, is never mixed up with another
//! installation's, and notices every kind of damage to itself.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use frokost_engine::journal::{AppendError, Claim, Journal, JournalError, JournalReader, Shard};
use frokost_engine::memory_journal::MemoryJournal;
use frokost_engine::{AccountId, Amount, Entry, Lsn, Record};
use frokost_persistence::acknowledged;
use frokost_persistence::mirrored_journal::{Mode, Primary};
use frokost_persistence::one_flush::Disk;
use frokost_persistence::{FileJournal, MirroredJournal, SledJournal};

use crate::records;

fn file_journal(folder: &Path, groups: &[u64]) -> u64 {
    let mut journal = FileJournal::open(folder).unwrap();
    let claim = journal.claim(Shard(0), "test").unwrap();
    let mut head = claim.head.0;
    for count in groups {
        head = journal.append(&claim, Lsn(head), &records(head, *count)).unwrap().0;
    }
    head
}

fn read(reader: &dyn JournalReader) -> Result<Vec<u64>, JournalError> {
    let first = reader.first()?;
    reader.read_from(first).map(|record| record.map(|record| record.lsn.0)).collect()
}

fn both(folder: &Path) -> MirroredJournal<SledJournal> {
    let sled = SledJournal::open(&folder.join("journal")).unwrap();
    let mirror = FileJournal::open_mirror(&folder.join("mirror")).unwrap();
    MirroredJournal::new(sled, mirror, Mode::Sync, None)
}

/// A thousand records, of which the journal has let go of the first half.
fn cut_journal(folder: &Path) {
    let mut journal = SledJournal::open(&folder.join("journal")).unwrap();
    let claim = journal.claim(Shard(0), "test").unwrap();
    for n in 0..10 {
        journal.append(&claim, Lsn(n * 100), &records(n * 100, 100)).unwrap();
    }
    while !journal.truncate_before(&claim, Lsn(501)).unwrap() {}
    assert_eq!(journal.reader().first().unwrap(), Lsn(501));
}

fn only_segment(folder: &Path) -> PathBuf {
    let mut segments: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "segment"))
        .collect();
    assert_eq!(segments.len(), 1);
    segments.pop().unwrap()
}

#[test]
fn a_mirror_that_is_behind_catches_up() {
    let folder = tempfile::tempdir().unwrap();
    {
        let mut journal = SledJournal::open(&folder.path().join("journal")).unwrap();
        let claim = journal.claim(Shard(0), "test").unwrap();
        journal.append(&claim, Lsn(0), &records(0, 700)).unwrap();
    }
    let mut journal = both(folder.path());
    assert_eq!(journal.claim(Shard(0), "test").unwrap().head, Lsn(700));
    drop(journal);
    let mirror = FileJournal::open(&folder.path().join("mirror")).unwrap();
    assert_eq!(read(mirror.reader().as_ref()).unwrap(), (1..=700).collect::<Vec<_>>());
}

#[test]
fn a_new_mirror_gets_from_the_history_what_the_journal_let_go_of() {
    let folder = tempfile::tempdir().unwrap();
    cut_journal(folder.path());
    let without = both(folder.path()).claim(Shard(0), "test");
    assert!(matches!(without, Err(JournalError::Damaged { lsn: Lsn(1), .. })), "{without:?}");
    let sled = SledJournal::open(&folder.path().join("journal")).unwrap();
    let mirror = FileJournal::open_mirror(&folder.path().join("mirror")).unwrap();
    let history = Arc::new(|from: Lsn| -> frokost_engine::journal::Records<'static> {
        Box::new(records(from.0 - 1, 600).into_iter().map(Ok))
    });
    let mut journal = MirroredJournal::new(sled, mirror.clone(), Mode::Sync, Some(history));
    journal.claim(Shard(0), "test").unwrap();
    assert_eq!(read(mirror.reader().as_ref()).unwrap(), (1..=1000).collect::<Vec<_>>());
}

#[test]
fn a_group_that_only_the_mirror_has_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    {
        let mut journal = both(folder.path());
        let claim = journal.claim(Shard(0), "test").unwrap();
        journal.append(&claim, Lsn(0), &records(0, 3)).unwrap();
    }
    // Power failed when the mirror was synced and sled was not; nobody was answered.
    file_journal(&folder.path().join("mirror"), &[4]);
    let mut journal = both(folder.path());
    assert_eq!(journal.claim(Shard(0), "test").unwrap().head, Lsn(7));
    assert_eq!(read(journal.reader().as_ref()).unwrap(), (1..=7).collect::<Vec<_>>());
}

/// Remembers where each group that it was given ended.
#[derive(Clone, Default)]
struct Groups(MemoryJournal, Arc<Mutex<Vec<Lsn>>>);

impl Journal for Groups {
    fn claim(&mut self, shard: Shard, owner: &str) -> Result<Claim, JournalError> {
        self.0.claim(shard, owner)
    }

    fn append(&mut self, claim: &Claim, expected: Lsn, records: &[Record]) -> Result<Lsn, AppendError> {
        let last = self.0.append(claim, expected, records)?;
        self.1.lock().unwrap().push(last);
        Ok(last)
    }

    fn truncate_before(&mut self, claim: &Claim, before: Lsn) -> Result<bool, AppendError> {
        self.0.truncate_before(claim, before)
    }

    fn reader(&self) -> Arc<dyn JournalReader> {
        self.0.reader()
    }
}

impl Primary for Groups {
    fn wait_for_word(&mut self) {}

    fn note(&mut self, _: Lsn) {}
}

/// Notes what the mirror has, and what it is noted to have, at the moment at which a flush of the disk would begin.
struct Flushing {
    groups: Groups,
    mirror: PathBuf,
    found: Arc<Mutex<Vec<(u64, u64)>>>,
}

impl Journal for Flushing {
    fn claim(&mut self, shard: Shard, owner: &str) -> Result<Claim, JournalError> {
        self.groups.claim(shard, owner)
    }

    fn append(&mut self, _: &Claim, _: Lsn, _: &[Record]) -> Result<Lsn, AppendError> {
        panic!("both are on one disk")
    }

    fn truncate_before(&mut self, claim: &Claim, before: Lsn) -> Result<bool, AppendError> {
        self.groups.truncate_before(claim, before)
    }

    fn reader(&self) -> Arc<dyn JournalReader> {
        self.groups.reader()
    }
}

impl Primary for Flushing {
    fn wait_for_word(&mut self) {}

    fn note(&mut self, _: Lsn) {}

    fn disk(&self) -> Option<Disk> {
        Disk::of(&fs::File::open(&self.mirror).unwrap())
    }

    fn append_beside(
        &mut self,
        claim: &Claim,
        expected: Lsn,
        records: &[Record],
        beside: &mut dyn FnMut(),
    ) -> Result<Lsn, AppendError> {
        beside();
        let written = FileJournal::peek(&self.mirror).unwrap().0.0;
        self.found.lock().unwrap().push((written, acknowledged(&self.mirror.join("head"))));
        self.groups.append(claim, expected, records)
    }
}

#[test]
fn on_one_disk_the_mirror_is_written_before_the_flush_and_noted_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mirror, found) = (folder.path().join("mirror"), Arc::default());
    fs::create_dir(&mirror).unwrap();
    let groups = Groups::default();
    let primary = || Flushing { groups: groups.clone(), mirror: mirror.clone(), found: Arc::clone(&found) };
    if primary().disk().is_none() {
        assert!(std::env::var_os("CI").is_none(), "not on ext4, and CI skips nothing");
        eprintln!("skipped: one flush for two files; it needs ext4");
        return;
    }
    // The first life begins a segment that nobody has prepared; the second goes on with it, and so prepares it.
    for life in 0..2 {
        let files = FileJournal::open_mirror(&mirror).unwrap();
        let mut journal = MirroredJournal::new(primary(), files, Mode::Sync, None);
        let claim = journal.claim(Shard(0), "test").unwrap();
        for n in life * 3..life * 3 + 3 {
            journal.append(&claim, Lsn(n * 100), &records(n * 100, 100)).unwrap();
            assert_eq!(acknowledged(&mirror.join("head")), n * 100 + 100);
        }
    }
    let expected: Vec<_> = (0..6).map(|n| (n * 100 + 100, n * 100)).collect();
    assert_eq!(*found.lock().unwrap(), expected);
    let journal = FileJournal::open(&mirror).unwrap();
    assert_eq!(read(journal.reader().as_ref()).unwrap(), (1..=600).collect::<Vec<_>>());
}

/// The mirror has what the journal refused, and nobody was answered; whoever claims both next finds them at one end.
#[test]
fn a_group_that_only_the_mirror_took_is_no_hindrance_to_the_next_claim() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = both(folder.path());
    let older = journal.claim(Shard(0), "older").unwrap();
    journal.append(&older, Lsn(0), &records(0, 3)).unwrap();
    journal.claim(Shard(0), "newer").unwrap();
    let fenced = journal.append(&older, Lsn(3), &records(3, 2));
    assert!(matches!(fenced, Err(AppendError::Fenced { .. })), "{fenced:?}");
    let claim = journal.claim(Shard(0), "newest").unwrap();
    assert_eq!(claim.head, Lsn(5));
    assert_eq!(journal.append(&claim, Lsn(5), &records(5, 1)).unwrap(), Lsn(6));
    assert_eq!(read(journal.reader().as_ref()).unwrap(), [1, 2, 3, 4, 5, 6]);
}

/// What `restore` goes by: nobody was answered what the mirror lacks, so nothing is missing in it.
#[test]
fn what_the_mirror_lacks_is_not_called_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let sled = SledJournal::open(&folder.path().join("journal")).unwrap();
    let mut mirror = FileJournal::open_mirror(&folder.path().join("mirror")).unwrap();
    let mut journal = MirroredJournal::new(sled, mirror.clone(), Mode::Sync, None);
    let claim = journal.claim(Shard(0), "test").unwrap();
    journal.append(&claim, Lsn(0), &records(0, 3)).unwrap();
    let noted = || acknowledged(&folder.path().join("journal.head"));
    assert_eq!(noted(), 3);
    // The mirror takes no more from the one that has claimed it before.
    mirror.claim(Shard(0), "another").unwrap();
    let failed = journal.append(&claim, Lsn(3), &records(3, 4));
    assert!(matches!(failed, Err(AppendError::Failed(_))), "{failed:?}");
    assert_eq!(read(journal.reader().as_ref()).unwrap().len(), 7, "sled has it: this shows nothing");
    assert_eq!(noted(), 3);
}

#[test]
fn what_catches_up_never_parts_a_transfer() {
    let folder = tempfile::tempdir().unwrap();
    let amount = Amount::from_ore(1);
    // Nothing but transfers, so that wherever a run is full it is full in the middle of one or not.
    let mut transfers = records(0, 1_999);
    for (n, record) in transfers.iter_mut().enumerate().skip(1) {
        record.entry = if n % 2 == 1 {
            Entry::TransferredOut { to: AccountId(9), amount }
        } else {
            Entry::TransferredIn { from: AccountId(9), amount }
        };
    }
    let mut mirror = FileJournal::open_mirror(&folder.path().join("mirror")).unwrap();
    let claim = mirror.claim(Shard(0), "test").unwrap();
    mirror.append(&claim, Lsn(0), &transfers).unwrap();
    let groups = Groups::default();
    MirroredJournal::new(groups.clone(), mirror, Mode::Sync, None).claim(Shard(0), "test").unwrap();
    let ends = groups.1.lock().unwrap();
    assert!(ends.len() > 2, "{ends:?}");
    assert!(ends.iter().all(|end| end.0 % 2 == 1), "a transfer is in two groups, which end at {ends:?}");
}

#[test]
fn another_installations_mirror_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    {
        let mut journal = both(folder.path());
        let claim = journal.claim(Shard(0), "test").unwrap();
        journal.append(&claim, Lsn(0), &records(0, 3)).unwrap();
    }
    fs::remove_dir_all(folder.path().join("mirror")).unwrap();
    let mut stranger = FileJournal::open(&folder.path().join("mirror")).unwrap();
    let claim = stranger.claim(Shard(0), "test").unwrap();
    let mut others = records(0, 3);
    others[2].fingerprint += 1;
    stranger.append(&claim, Lsn(0), &others).unwrap();
    drop(stranger);
    let claimed = both(folder.path()).claim(Shard(0), "test");
    assert!(matches!(claimed, Err(JournalError::Damaged { lsn: Lsn(3), .. })), "{claimed:?}");
}

/// Every bit of a small journal, one at a time: noticed at the latest when it is read, and never served as something else.
/// The journal has let go of the place where the mirror ends: what stood there is looked up where it is still known.
#[test]
fn a_mirror_that_ends_otherwise_before_the_journal_begins_is_refused() {
    let begun = |mirrored: &[Record]| {
        let folder = tempfile::tempdir().unwrap();
        cut_journal(folder.path());
        {
            let mut mirror = FileJournal::open(&folder.path().join("mirror")).unwrap();
            let claim = mirror.claim(Shard(0), "test").unwrap();
            mirror.append(&claim, Lsn(0), mirrored).unwrap();
        }
        let sled = SledJournal::open(&folder.path().join("journal")).unwrap();
        let mirror = FileJournal::open_mirror(&folder.path().join("mirror")).unwrap();
        let history = Arc::new(|from: Lsn| -> frokost_engine::journal::Records<'static> {
            Box::new(records(from.0 - 1, 600).into_iter().map(Ok))
        });
        MirroredJournal::new(sled, mirror, Mode::Sync, Some(history)).claim(Shard(0), "test").map(|claim| claim.head)
    };
    assert_eq!(begun(&records(0, 12)).unwrap(), Lsn(1000), "the same is continued");
    let mut foreign = records(0, 12);
    foreign[11].entry = Entry::Purchased { amount: Amount::from_ore(1) };
    let refused = begun(&foreign);
    assert!(matches!(refused, Err(JournalError::Damaged { lsn: Lsn(12), .. })), "{refused:?}");
}

#[test]
fn every_flipped_bit_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let head = file_journal(folder.path(), &[2, 3, 1]);
    let path = only_segment(folder.path());
    let sound = fs::read(&path).unwrap();
    let used = sound.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let whole: Vec<u64> = (1..=head).collect();
    let (mut refused, mut found) = (0, 0);
    for bit in 0..used * 8 {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bytes).unwrap();
        match FileJournal::open(folder.path()) {
            Err(JournalError::Damaged { lsn, .. }) => {
                assert!(lsn.0 >= 1 && lsn.0 <= head, "bit {bit}: LSN {lsn}");
                refused += 1;
            }
            Err(JournalError::Storage(why)) => {
                assert!(bit / 8 < 36 && why.contains("header"), "bit {bit}: {why}");
                refused += 1;
            }
            Err(other) => panic!("bit {bit}: {other}"),
            Ok(journal) => match read(journal.reader().as_ref()) {
                Err(JournalError::Damaged { .. }) => found += 1,
                other => panic!("bit {bit} of {used} bytes changes nothing: {:?}", other.map(|read| read == whole)),
            },
        }
    }
    assert!(refused > 1000, "{refused} refused, {found} found when read");
    fs::write(&path, &sound).unwrap();
    assert_eq!(read(FileJournal::open(folder.path()).unwrap().reader().as_ref()).unwrap(), whole);
}

/// Cut at every byte of the last group: what was acknowledged before it is there, and the next group goes in its place.
#[test]
fn a_torn_last_group_is_dropped_and_an_acknowledged_one_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    file_journal(folder.path(), &[2, 3]);
    let path = only_segment(folder.path());
    let before = fs::read(&path).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let head_before = fs::read(folder.path().join("head")).unwrap();
    file_journal(folder.path(), &[1]);
    let head_after = fs::read(folder.path().join("head")).unwrap();
    let mut sound = fs::read(&path).unwrap();
    let used = sound.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    sound.truncate(used);
    for cut in before..used {
        let mut bytes = sound.clone();
        bytes[cut..].fill(0);
        fs::write(&path, &bytes).unwrap();
        fs::write(folder.path().join("head"), &head_after).unwrap();
        let lost = FileJournal::open(folder.path());
        assert!(matches!(lost, Err(JournalError::Damaged { lsn: Lsn(6), .. })), "cut at {cut}: {lost:?}");
        fs::write(folder.path().join("head"), &head_before).unwrap();
        let mut journal = FileJournal::open(folder.path()).unwrap();
        let claim = journal.claim(Shard(0), "test").unwrap();
        assert_eq!(claim.head, Lsn(5), "cut at {cut}");
        journal.append(&claim, Lsn(5), &records(5, 2)).unwrap();
        assert_eq!(read(journal.reader().as_ref()).unwrap(), [1, 2, 3, 4, 5, 6, 7]);
    }
}

#[test]
fn many_segments_read_as_one() {
    let folder = tempfile::tempdir().unwrap();
    // More than one segment of 16 MiB, in groups of 512.
    let head = file_journal(folder.path(), &[512; 1500]);
    let segments = fs::read_dir(folder.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|ending| ending == "segment"));
    assert!(segments.count() >= 2);
    let journal = FileJournal::open(folder.path()).unwrap();
    assert_eq!(journal.head(), Lsn(head));
    let reader = journal.reader();
    let tail: Vec<u64> = reader.read_from(Lsn(300_000)).map(|record| record.unwrap().lsn.0).collect();
    assert_eq!(tail, (300_000..=head).collect::<Vec<_>>());
}

/// As `restore --from` does with the mirror of another installation.
#[test]
fn a_mirror_that_is_being_written_is_not_taken_for_a_damaged_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = FileJournal::open(folder.path()).unwrap();
    let claim = journal.claim(Shard(0), "test").unwrap();
    // So much that reading takes longer than writing.
    let mut written = journal.append(&claim, Lsn(0), &records(0, 20_000)).unwrap();
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let ends: Vec<u64> = (0..20).map(|_| FileJournal::peek(folder.path()).unwrap().0.0).collect();
            assert!(ends.is_sorted());
            ends[ends.len() - 1]
        });
        while !looking.is_finished() && written.0 < 100_000 {
            written = journal.append(&claim, written, &records(written.0, 2)).unwrap();
        }
        let seen = looking.join().unwrap();
        assert!((20_001..=written.0).contains(&seen), "nothing was written meanwhile");
    });
}

/// Whoever reads finds a header in every segment there is, and so does a start after a crash at any moment.
#[test]
fn a_segment_has_its_header_from_its_first_moment() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = FileJournal::open(folder.path()).unwrap();
    let claim = journal.claim(Shard(0), "test").unwrap();
    // A group that leaves no room for the same again.
    let group = 300_000;
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut head = Lsn(0);
            for _ in 0..4 {
                head = journal.append(&claim, head, &records(head.0, group)).unwrap();
            }
        });
        let mut seen = std::collections::BTreeSet::new();
        loop {
            let finished = writing.is_finished();
            for file in fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()) {
                if file.extension().is_some_and(|ending| ending == "segment") {
                    let mut begin = [0; 8];
                    fs::File::open(&file).unwrap().read_exact(&mut begin).unwrap();
                    assert_eq!(&begin, b"frokost2", "{} has no header", file.display());
                    seen.insert(file);
                }
            }
            if finished {
                break;
            }
        }
        assert_eq!(seen.len(), 4);
    });
}

/// A crash before it had its name.
#[test]
fn what_is_left_of_a_segment_that_was_being_begun_is_no_hindrance() {
    for left in [0, 10, 36, 5_000] {
        let folder = tempfile::tempdir().unwrap();
        file_journal(folder.path(), &[3]);
        fs::write(folder.path().join("next.begun"), vec![7; left]).unwrap();
        // The second of these groups does not fit beside the first.
        let head = file_journal(folder.path(), &[300_000, 300_000]);
        assert!(!folder.path().join("next.begun").exists());
        let journal = FileJournal::open(folder.path()).unwrap();
        assert_eq!(journal.head(), Lsn(head));
        assert_eq!(read(journal.reader().as_ref()).unwrap().len() as u64, head);
    }
}
