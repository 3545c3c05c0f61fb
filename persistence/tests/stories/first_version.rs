//! What was written before records were packed is read, and continued: an installation that is given the newer program goes on with its
//! journal and its mirror.

use std::fs;
use std::path::{Path, PathBuf};

use frokost_engine::journal::{Journal, JournalError, JournalReader, Shard};
use frokost_engine::{Lsn, Record};
use frokost_persistence::format::{FormatError, VERSION, decode_part, encode_record, group_hash, salvage};
use frokost_persistence::mirrored_journal::Mode;
use frokost_persistence::{FileJournal, MirroredJournal, SledJournal};

use crate::damage::bare;
use crate::records;

const OLD: u64 = 3;
const NEW: u64 = 200;

/// A group in one part, as the first version wrote it.
fn part(records: &[Record]) -> Vec<u8> {
    part_of(1, records)
}

fn part_of(version: u8, records: &[Record]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&[version, 1]);
    bytes.extend_from_slice(&u16::try_from(records.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(&records[0].lsn.0.to_le_bytes());
    bytes.extend_from_slice(&[0; 16]);
    let crc = crc32c::crc32c(&bytes[4..]).to_le_bytes();
    bytes[..4].copy_from_slice(&crc);
    records.iter().for_each(|record| encode_record(record, &mut bytes));
    bytes
}

#[test]
fn a_part_of_the_first_version_is_read_and_one_of_a_newer_is_not() {
    let records = records(0, OLD);
    let (header, read) = decode_part(&part(&records)).unwrap();
    assert_eq!((header.closes, header.count, header.group_first), (true, 3, Lsn(1)));
    assert_eq!(read, records);
    assert_eq!(salvage(&[part(&records), vec![1; 9]].concat()), records);
    for version in [0, VERSION + 1] {
        assert_eq!(decode_part(&part_of(version, &records)).unwrap_err(), (0, FormatError::Version(version)));
    }
}

fn all(reader: &dyn JournalReader) -> Vec<Record> {
    reader.read_from(Lsn(1)).collect::<Result<_, JournalError>>().unwrap()
}

/// A journal in sled with one part in it; its folder.
fn old_journal(folder: &Path, part: Vec<u8>) -> PathBuf {
    let db = bare(folder);
    db.insert(1_u64.to_be_bytes(), part).unwrap();
    db.flush().unwrap();
    folder.join("journal")
}

#[test]
fn a_journal_in_sled_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = old_journal(folder.path(), part(&records(0, OLD)));
    for round in 0..2 {
        let mut journal = SledJournal::open(&path).unwrap();
        let head = OLD + round * NEW;
        let claim = journal.claim(Shard(0), "test").unwrap();
        assert_eq!(claim.head, Lsn(head));
        journal.append(&claim, Lsn(head), &records(head, NEW)).unwrap();
        assert_eq!(all(journal.reader().as_ref()), records(0, head + NEW));
    }
    let mut journal = SledJournal::open(&path).unwrap();
    let claim = journal.claim(Shard(0), "test").unwrap();
    while !journal.truncate_before(&claim, Lsn(OLD + 1)).unwrap() {}
    assert_eq!(journal.reader().first().unwrap(), Lsn(OLD + 1), "old parts can be cut off");
}

/// A journal of plain files with one part in it.
fn old_segment(folder: &Path, magic: &[u8; 8], part: &[u8]) -> PathBuf {
    let mut segment = magic.to_vec();
    segment.extend_from_slice(&1_u64.to_le_bytes());
    segment.extend_from_slice(&[0; 16]);
    let crc = crc32c::crc32c(&segment).to_le_bytes();
    segment.extend_from_slice(&crc);
    segment.extend_from_slice(&u32::try_from(part.len()).unwrap().to_le_bytes());
    segment.extend_from_slice(part);
    let path = folder.join(format!("{:020}.segment", 1));
    fs::write(&path, segment).unwrap();
    path
}

/// What is new stands in a segment that a program which does not know it refuses.
#[test]
fn a_journal_of_files_goes_on_in_another_segment() {
    let folder = tempfile::tempdir().unwrap();
    let part = part(&records(0, OLD));
    let segment = old_segment(folder.path(), b"frokost1", &part);
    let old = fs::read(&segment).unwrap();
    for round in 0..2 {
        let mut journal = FileJournal::open(folder.path()).unwrap();
        let head = OLD + round * NEW;
        let claim = journal.claim(Shard(0), "test").unwrap();
        assert_eq!(claim.head, Lsn(head));
        journal.append(&claim, Lsn(head), &records(head, NEW)).unwrap();
        assert_eq!(all(journal.reader().as_ref()), records(0, head + NEW));
    }
    assert!(fs::read(&segment).unwrap() == old, "nothing is written where only the first version is expected");
    let next = fs::read(folder.path().join(format!("{:020}.segment", OLD + 1))).unwrap();
    assert!(next.starts_with(b"frokost2"));
    assert_eq!(next[16..32], group_hash([part.as_slice()]), "the chain holds across them");
}

/// It was begun, and nothing had come to it yet: its place is taken.
#[test]
fn a_segment_of_the_first_version_without_groups_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let segment = old_segment(folder.path(), b"frokost1", &[]);
    for round in 0..2 {
        let mut journal = FileJournal::open(folder.path()).unwrap();
        let head = round * NEW;
        let claim = journal.claim(Shard(0), "test").unwrap();
        assert_eq!(claim.head, Lsn(head));
        journal.append(&claim, Lsn(head), &records(head, NEW)).unwrap();
        assert_eq!(all(journal.reader().as_ref()), records(0, head + NEW));
    }
    assert!(fs::read(&segment).unwrap().starts_with(b"frokost2"));
}

/// A part that only a newer program knows is not the end.
#[test]
fn what_a_newer_program_has_written_is_not_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let part = part_of(3, &records(0, OLD));
    old_segment(folder.path(), b"frokost2", &part);
    let files = FileJournal::open(folder.path()).map(drop);
    let sled = SledJournal::open(&old_journal(folder.path(), part)).map(drop);
    for opened in [files, sled] {
        // It is not called damaged, since that is answered with a restore.
        assert!(matches!(&opened, Err(JournalError::Storage(why)) if why.contains("newer program")), "{opened:?}");
    }
}

#[test]
fn a_mirror_is_given_what_is_old_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mirror = folder.path().join("mirror");
    let journal = SledJournal::open(&old_journal(folder.path(), part(&records(0, OLD)))).unwrap();
    let mut both = MirroredJournal::new(journal, FileJournal::open_mirror(&mirror).unwrap(), Mode::Sync, None);
    let claim = both.claim(Shard(0), "test").unwrap();
    both.append(&claim, Lsn(OLD), &records(OLD, NEW)).unwrap();
    drop(both);
    let mirror = FileJournal::open(&mirror).unwrap();
    assert_eq!(all(mirror.reader().as_ref()), records(0, OLD + NEW));
}
