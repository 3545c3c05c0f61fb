//! A journal that is not what was written: cut short, a bit flipped, a part missing. It is noticed, the LSN is named, and
//! nothing is served from it; only a group that was never closed, and so never acknowledged, is dropped without a word.

use std::fs;
use std::path::{Path, PathBuf};

use frokost_engine::journal::{Journal, JournalError, Shard};
use frokost_engine::{Lsn, Record};
use frokost_persistence::SledJournal;

use crate::records;

/// A journal of three groups with 400 records, closed.
fn written(folder: &Path) {
    let mut journal = SledJournal::open(&folder.join("journal")).unwrap();
    let claim = journal.claim(Shard(0), "test").unwrap();
    journal.append(&claim, Lsn(0), &records(0, 100)).unwrap();
    journal.append(&claim, Lsn(100), &records(100, 200)).unwrap();
    journal.append(&claim, Lsn(300), &records(300, 100)).unwrap();
}

/// Opens, claims and reads everything, as a starting engine does.
fn start(folder: &Path) -> Result<u64, JournalError> {
    let mut journal = SledJournal::open(&folder.join("journal"))?;
    let claim = journal.claim(Shard(0), "test")?;
    let mut last = 0;
    for record in journal.reader().read_from(Lsn(1)) {
        last = record?.lsn.0;
    }
    if Lsn(last) != claim.head {
        return Err(JournalError::Damaged { lsn: Lsn(last + 1), what: "it ends early".to_owned() });
    }
    Ok(last)
}

/// Damages the database through sled itself, underneath the journal.
fn tamper(folder: &Path, with: impl FnOnce(&sled::Db)) {
    let db = bare(folder);
    with(&db);
    db.flush().unwrap();
}

/// The database without us; waits until sled has really let go of it.
pub fn bare(folder: &Path) -> sled::Db {
    for _ in 0..200 {
        if let Ok(db) = sled::Config::new().path(folder.join("journal")).flush_every_ms(None).open() {
            return db;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the database stays locked");
}

fn part_keys(db: &sled::Db) -> Vec<sled::IVec> {
    db.iter().keys().map(Result::unwrap).filter(|key| key.len() == 8).collect()
}

#[test]
fn a_whole_journal_starts() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    assert_eq!(start(folder.path()).unwrap(), 400);
}

#[test]
fn a_flipped_bit_in_any_part_is_noticed_and_the_lsn_named() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let db = bare(folder.path());
    let keys = part_keys(&db);
    drop(db);
    let mut seen = 0;
    for (n, key) in keys.iter().enumerate() {
        let mut sound = None;
        // Some bits in the header, some in records, different ones in each part.
        for bit in [3 + n * 8, 260 + n * 8, 700 + n * 37, 9_000 + n * 37] {
            tamper(folder.path(), |db| {
                let whole = sound.get_or_insert_with(|| db.get(key).unwrap().unwrap()).clone();
                let mut bytes = whole.to_vec();
                let at = bit % (bytes.len() * 8);
                bytes[at / 8] ^= 1 << (at % 8);
                db.insert(key, bytes).unwrap();
            });
            let Err(JournalError::Damaged { lsn, .. }) = start(folder.path()) else {
                panic!("bit {bit} of part {n} was not noticed")
            };
            let first = u64::from_be_bytes(key.as_ref().try_into().unwrap());
            assert!((first..first + 150).contains(&lsn.0), "part at {first}, named {lsn}");
            seen += 1;
        }
        tamper(folder.path(), |db| drop(db.insert(key, sound.unwrap()).unwrap()));
    }
    assert!(seen >= 16, "only {seen} flips were tried");
    assert_eq!(start(folder.path()).unwrap(), 400, "mended, it starts again");
}

#[test]
fn a_missing_part_is_noticed_wherever_it_is() {
    for missing in 0..8 {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path());
        let mut expected = 0;
        tamper(folder.path(), |db| {
            let keys = part_keys(db);
            let at = missing % keys.len();
            let gone = u64::from_be_bytes(keys[at].as_ref().try_into().unwrap());
            // Without its last part the last group was never closed, and begins at 301; the head file knows better.
            expected = if at + 1 == keys.len() { 301 } else { gone };
            db.remove(&keys[at]).unwrap();
        });
        match start(folder.path()) {
            Err(JournalError::Damaged { lsn, .. }) => {
                assert_eq!(lsn, Lsn(expected), "part {missing} is missing");
            }
            other => panic!("part {missing} is missing: {other:?}"),
        }
    }
}

/// The journal is cut part by part from the front; where the machine stops in the middle of a group, what is left of that group is
/// nothing any more, and the journal begins with the next.
#[test]
fn a_cut_that_was_interrupted_in_the_middle_of_a_group_leaves_a_journal_that_starts() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let mut left = 0;
    tamper(folder.path(), |db| {
        let keys = part_keys(db);
        let lsn = |key: &sled::IVec| u64::from_be_bytes(key.as_ref().try_into().unwrap());
        // The whole first group, and the first part of the second.
        for key in keys.iter().filter(|key| lsn(key) <= 101) {
            db.remove(key).unwrap();
        }
        left = keys.iter().filter(|key| (102..=300).contains(&lsn(key))).count();
    });
    assert!(left > 0, "the second group is one part: this shows nothing");
    let mut journal = SledJournal::open(&folder.path().join("journal")).unwrap();
    let claim = journal.claim(Shard(0), "test").unwrap();
    let reader = journal.reader();
    assert_eq!((reader.first().unwrap(), claim.head), (Lsn(301), Lsn(400)));
    assert_eq!(reader.read_from(Lsn(301)).map(Result::unwrap).count(), 100);
    // Going on with the cut takes the rest away, too.
    drop(reader);
    while !journal.truncate_before(&claim, Lsn(350)).unwrap() {}
    journal.append(&claim, Lsn(400), &records(400, 1)).unwrap();
    drop(journal);
    tamper(folder.path(), |db| assert!(part_keys(db).iter().all(|key| key.as_ref() >= &301u64.to_be_bytes()[..])));
}

#[test]
fn a_part_from_another_journal_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let stranger = tempfile::tempdir().unwrap();
    {
        // The same records, in groups of another size: sound in itself, but not what followed here.
        let mut journal = SledJournal::open(&stranger.path().join("journal")).unwrap();
        let claim = journal.claim(Shard(0), "test").unwrap();
        journal.append(&claim, Lsn(0), &records(0, 300)).unwrap();
        journal.append(&claim, Lsn(300), &records(300, 100)).unwrap();
    }
    let mut theirs = Vec::new();
    tamper(stranger.path(), |db| theirs = db.range(301u64.to_be_bytes()..).map(Result::unwrap).collect());
    tamper(folder.path(), |db| {
        for (key, bytes) in theirs {
            if key.len() == 8 {
                db.insert(key, bytes).unwrap();
            }
        }
    });
    assert!(matches!(start(folder.path()), Err(JournalError::Damaged { lsn: Lsn(301), .. })));
}

#[test]
fn a_truncated_file_is_noticed_although_sled_forgets() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let whole = tempfile::tempdir().unwrap();
    copy(folder.path(), whole.path());
    let size = fs::metadata(whole.path().join("journal/db")).unwrap().len();
    let (mut damaged, mut refused) = (0, 0);
    for sixteenths in 0..16 {
        let cut = tempfile::tempdir().unwrap();
        copy(whole.path(), cut.path());
        let file = fs::File::options().write(true).open(cut.path().join("journal/db")).unwrap();
        file.set_len(size * sixteenths / 16).unwrap();
        drop(file);
        match start(cut.path()) {
            Ok(last) => assert_eq!(last, 400, "cut to {sixteenths}/16: a shorter journal was served"),
            Err(JournalError::Damaged { .. }) => damaged += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(damaged > 0, "sled itself refused all {refused} cuts; this test shows nothing about us any more");
}

/// The last group is torn at any of its bytes, as by a power cut in the middle of writing it: it was never acknowledged, and what was is there.
#[test]
fn a_last_write_torn_at_any_byte_takes_only_itself() {
    let folder = tempfile::tempdir().unwrap();
    let written = records(0, 7);
    let mut journal = SledJournal::open(&folder.path().join("journal")).unwrap();
    let claim = journal.claim(Shard(0), "test").unwrap();
    journal.append(&claim, Lsn(0), &written[..5]).unwrap();
    let head = fs::read(folder.path().join("journal.head")).unwrap();
    let before = fs::read(folder.path().join("journal/db")).unwrap();
    journal.append(&claim, Lsn(5), &written[5..]).unwrap();
    let after = fs::read(folder.path().join("journal/db")).unwrap();
    drop((journal, claim));
    let same = |at: usize| before.get(at) == after.get(at);
    let first = (0..after.len()).find(|at| !same(*at)).unwrap();
    let last = (0..after.len()).rfind(|at| !same(*at)).unwrap();
    let (mut torn, mut whole, mut refused) = (0, 0, 0);
    for cut in first..=last + 1 {
        // Written up to there, and behind it what was there before.
        let mut bytes = after.clone();
        bytes.truncate(cut);
        bytes.extend_from_slice(before.get(cut..).unwrap_or_default());
        let victim = tempfile::tempdir().unwrap();
        copy(folder.path(), victim.path());
        fs::write(victim.path().join("journal/db"), bytes).unwrap();
        fs::write(victim.path().join("journal.head"), &head).unwrap();
        match start(victim.path()) {
            Ok(5) => torn += 1,
            Ok(7) => whole += 1,
            Ok(other) => panic!("cut at {cut}: {other} records"),
            Err(error) => {
                refused += 1;
                assert!(refused < 5, "cut at {cut}: {error}");
            }
        }
    }
    println!("{torn} cuts dropped the last group, {whole} kept it, {refused} were refused");
    assert!(torn > 50 && whole > 0, "{torn} torn, {whole} whole: this shows little");
}

/// Bits on disk, underneath sled: whatever is flipped, what starts is all of it or nothing. `FROKOST_FLIPS=8` flips every bit there is,
/// by default one in each byte.
type Files = Vec<(PathBuf, Vec<u8>)>;

/// What is below a folder, by its path there.
fn files_of(folder: &Path) -> Files {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push((path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap()));
            }
        }
    }
    files
}

/// A start with a bit flipped: it is refused, or all that was written is served.
fn is_noticed(pristine: &Files, path: &Path, byte: usize, bit: usize, written: &[Record]) -> bool {
    let damaged = tempfile::tempdir().unwrap();
    for (other, sound) in pristine {
        let target = damaged.path().join(other);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        let mut bytes = sound.clone();
        if other == path {
            bytes[byte] ^= 1 << bit;
        }
        fs::write(&target, bytes).unwrap();
    }
    let place = format!("{}, bit {bit} of byte {byte}", path.display());
    match std::panic::catch_unwind(|| start(damaged.path())) {
        Ok(Ok(last)) => {
            assert_eq!(last, written.len() as u64, "{place}: a shorter journal was served");
            let journal = SledJournal::open(&damaged.path().join("journal")).unwrap();
            let read: Vec<_> = journal.reader().read_from(Lsn(1)).map(Result::unwrap).collect();
            assert!(read == written, "{place}: something else was served");
            false
        }
        Ok(Err(_)) => true,
        Err(_) => panic!("{place}: sled panicked instead of refusing"),
    }
}

/// A sample: sixty bits anywhere in a journal of 20,000 records.
#[test]
fn a_bit_flipped_in_a_large_journal_is_noticed_or_does_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let written = records(0, 20_000);
    {
        let mut journal = SledJournal::open(&folder.path().join("journal")).unwrap();
        let claim = journal.claim(Shard(0), "test").unwrap();
        for group in written.chunks(400) {
            journal.append(&claim, Lsn(group[0].lsn.0 - 1), group).unwrap();
        }
    }
    let pristine = files_of(folder.path());
    let (path, bytes) = pristine.iter().find(|(path, _)| path.ends_with("journal/db")).unwrap();
    assert!(bytes.len() > 1 << 20, "only {} bytes", bytes.len());
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let mut random = fastrand::Rng::with_seed(20_261_124);
    let noticed = (0..60).filter(|_| is_noticed(&pristine, path, random.usize(0..end), random.usize(0..8), &written));
    let noticed = noticed.count();
    println!("{noticed} of 60 flips were noticed");
    assert!(noticed > 30, "only {noticed} flips were noticed: this shows little");
}

#[test]
fn a_bit_flipped_anywhere_on_disk_is_noticed_or_does_not_matter() {
    let flips: usize = std::env::var("FROKOST_FLIPS").ok().map_or(1, |flips| flips.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let written = records(0, 9);
    {
        let mut journal = SledJournal::open(&folder.path().join("journal")).unwrap();
        let claim = journal.claim(Shard(0), "test").unwrap();
        journal.append(&claim, Lsn(0), &written[..3]).unwrap();
        journal.append(&claim, Lsn(3), &written[3..]).unwrap();
    }
    let pristine = files_of(folder.path());
    let (mut harmless, mut noticed) = (0, 0);
    for (path, bytes) in &pristine {
        // Behind the last byte that says something there is only room.
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for at in 0..end {
            for turn in 0..flips {
                let noted = is_noticed(&pristine, path, at, (at + turn) % 8, &written);
                (noticed, harmless) = (noticed + usize::from(noted), harmless + usize::from(!noted));
            }
        }
    }
    println!("{noticed} flips were noticed, {harmless} did not matter");
    assert!(noticed > 500 * flips, "only {noticed} flips were noticed: this shows little");
}

#[test]
fn a_group_that_was_never_closed_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    // A fourth group, of which only the first part reached the disk: the head file never heard of it.
    let records = records(400, 200);
    let head = fs::read(folder.path().join("journal.head")).unwrap();
    {
        let mut journal = SledJournal::open(&folder.path().join("journal")).unwrap();
        let claim = journal.claim(Shard(0), "test").unwrap();
        journal.append(&claim, Lsn(400), &records).unwrap();
    }
    tamper(folder.path(), |db| {
        let closing = part_keys(db).pop().unwrap();
        db.remove(closing).unwrap();
    });
    fs::write(folder.path().join("journal.head"), head).unwrap();
    assert_eq!(start(folder.path()).unwrap(), 400);
    // And what is written next stands in its place, whole.
    let mut journal = SledJournal::open(&folder.path().join("journal")).unwrap();
    let claim = journal.claim(Shard(0), "test").unwrap();
    journal.append(&claim, Lsn(400), &records[..1]).unwrap();
    drop(journal);
    assert_eq!(start(folder.path()).unwrap(), 401);
}

#[test]
fn a_second_process_is_told_that_it_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let _first = SledJournal::open(&folder.path().join("journal")).unwrap();
    assert!(matches!(SledJournal::open(&folder.path().join("journal")), Err(JournalError::InUse)));
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
