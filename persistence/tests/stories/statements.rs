//! Statements: what is read from the index is what a replay of all records gives, whatever happened in between.

use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use frokost_engine::journal::JournalError;
use frokost_engine::memory_statements::MemoryStatements;
use frokost_engine::statement::{Projection, Statements};
use frokost_engine::{AccountId, Amount, Entry, Lsn, Record, Timestamp};
use frokost_persistence::{LoggedStatements, keys};
use proptest::prelude::*;

use crate::records;

const DAY: u64 = 86_400_000;

/// Records of five accounts over some months, some of them no postings; the clock is set back now and then.
fn history(count: u64) -> Vec<Record> {
    let mut history = records(0, count);
    for record in &mut history {
        let lsn = record.lsn.0;
        record.at = Timestamp(1_790_000_000_000 + lsn / 7 * DAY - if lsn % 97 == 0 { 40 * DAY } else { 0 });
        match lsn % 11 {
            0 => record.entry = Entry::Blocked,
            1 => {
                record.entry =
                    Entry::Corrected { amount: Amount::from_ore(-3), reason: frokost_engine::command::Reason::Other }
            }
            _ => {}
        }
    }
    history
}

fn agree(statements: &LoggedStatements, history: &[Record]) {
    let mut plain = MemoryStatements::default();
    plain.project(history).unwrap();
    assert_eq!(statements.watermark(), history.last().map_or(Lsn::ZERO, |last| last.lsn));
    for account in 0..7 {
        let account = AccountId(account);
        let months = statements.months(account).unwrap();
        assert_eq!(months, plain.months(account).unwrap(), "account {account}");
        for month in months {
            let postings = statements.postings(account, month).unwrap();
            let mut expected = plain.postings(account, month).unwrap();
            expected.sort_by_key(|record| record.lsn);
            assert_eq!(postings, expected, "account {account}, {}", month.number());
        }
    }
    let all: Vec<Record> = statements.records_from(Lsn(1)).map(Result::unwrap).collect();
    assert_eq!(all, history);
    let from = history.len() as u64 / 2;
    let tail: Vec<u64> = statements.records_from(Lsn(from)).map(|record| record.unwrap().lsn.0).collect();
    assert_eq!(tail, (from.max(1)..=history.len() as u64).collect::<Vec<_>>());
}

fn open(folder: &Path, head: u64) -> LoggedStatements {
    LoggedStatements::open(&folder.join("statements"), Lsn(1), Lsn(head)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    /// Runs of any length, flushes, restarts, and restarts that lost some or all of what was not flushed.
    #[test]
    fn statements_are_what_a_replay_gives(steps in prop::collection::vec((1..120usize, 0..6u8, 0..1_000u64), 1..12)) {
        let folder = tempfile::tempdir().unwrap();
        let history = history(2_000);
        let mut statements = open(folder.path(), 2_000);
        let mut done = 0;
        let (mut flushed, mut synced) = (0, 0);
        let log = folder.path().join("statements/log.000001");
        for (many, what, kept) in steps {
            statements.project(&history[done..done + many]).unwrap();
            done += many;
            agree(&statements, &history[..done]);
            match what {
                0 => {
                    statements.flush().unwrap();
                    flushed = done;
                    synced = fs::metadata(&log).unwrap().len();
                }
                1 => {
                    drop(statements);
                    statements = open(folder.path(), 2_000);
                    assert_eq!(statements.watermark().0 as usize, done, "a restart loses nothing");
                    agree(&statements, &history[..done]);
                }
                2 => {
                    // The power was cut. What is lost is read from the journal again.
                    drop(statements);
                    let length = fs::metadata(&log).unwrap().len();
                    let left = synced + (length - synced) * kept / 1_000;
                    File::options().write(true).open(&log).unwrap().set_len(left).unwrap();
                    statements = open(folder.path(), 2_000);
                    let there = statements.watermark().0 as usize;
                    assert!((flushed..=done).contains(&there), "{flushed} <= {there} <= {done}");
                    assert_eq!(there == done, left == length);
                    done = there;
                    agree(&statements, &history[..done]);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn a_lost_index_is_made_anew_from_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let history = history(1_000);
    let mut statements = open(folder.path(), 1_000);
    statements.project(&history).unwrap();
    statements.flush().unwrap();
    drop(statements);
    fs::remove_dir_all(folder.path().join("statements/index")).unwrap();
    agree(&open(folder.path(), 1_000), &history);
}

/// Piece after piece, backwards, and while more is written.
#[test]
fn what_is_read_in_pieces_is_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let history = history(5_000);
    let mut statements = open(folder.path(), 5_000);
    let mut written = 0;
    for upto in [1_000, 1_003, 3_000, 5_000] {
        statements.project(&history[written..upto]).unwrap();
        written = upto;
        let piece = |from: usize| -> Vec<Record> {
            statements.records_from(Lsn(from as u64 + 1)).take(100).map(Result::unwrap).collect()
        };
        let starts: Vec<usize> = (0..upto).step_by(100).collect();
        for from in starts.iter().chain(starts.iter().rev()) {
            assert_eq!(piece(*from), history[*from..upto.min(from + 100)], "from {from} of {upto}");
        }
    }
}

#[test]
fn a_flipped_bit_in_the_log_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let history = history(10);
    let mut statements = open(folder.path(), 10);
    statements.project(&history).unwrap();
    statements.flush().unwrap();
    let path = folder.path().join("statements/log.000001");
    let sound = fs::read(&path).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    for bit in 16 * 8..sound.len() * 8 {
        let byte = bit / 8;
        file.write_all_at(&[sound[byte] ^ (1 << (bit % 8))], byte as u64).unwrap();
        let read: Result<Vec<Record>, _> = statements.records_from(Lsn(1)).collect();
        assert!(read.is_err(), "bit {bit}");
        file.write_all_at(&[sound[byte]], byte as u64).unwrap();
    }
    agree(&statements, &history);
}

/// The journal has let go of the first half, so that nothing can be made anew from it: whatever of log or index is damaged, either
/// everything is read or the damage is named, and no byte of the log is touched.
#[test]
fn statements_that_are_the_only_copy_are_never_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let history = history(400);
    let mut statements = open(folder.path(), 400);
    statements.project(&history).unwrap();
    statements.flush().unwrap();
    drop(statements);
    let home = folder.path().join("statements");
    let log = home.join("log.000001");
    let sound = fs::read(&log).unwrap();
    let open = || LoggedStatements::open(&home, Lsn(301), Lsn(400));
    let named = |error: JournalError, what: &str| {
        let JournalError::Damaged { lsn, .. } = error else { panic!("{what}: {error}") };
        assert!(lsn <= Lsn(300), "{what}: {lsn}");
        assert!(fs::read(&log).unwrap().len() == sound.len(), "{what}: the log was cut off");
    };
    // The header, and the first item behind it.
    for bit in 0..(16 + 60) * 8 {
        let mut flipped = sound.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&log, &flipped).unwrap();
        named(open().expect_err("a damaged beginning is taken for none"), &format!("bit {bit}"));
    }
    fs::write(&log, &sound).unwrap();
    // A damaged item while the index has to be made anew.
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 1;
    fs::write(&log, &flipped).unwrap();
    fs::remove_dir_all(home.join("index")).unwrap();
    named(open().expect_err("half of the log is taken for all of it"), "an item");
    // The same where the journal has all that is behind it: that is read from there.
    let cut = LoggedStatements::open(&home, Lsn(101), Lsn(400)).unwrap();
    assert!((100..400).contains(&cut.watermark().0));
    drop(cut);
    // The index, every byte of it.
    fs::write(&log, &sound).unwrap();
    fs::remove_dir_all(home.join("index")).unwrap();
    agree(&open().unwrap(), &history);
    let db = home.join("index/db");
    let index = fs::read(&db).unwrap();
    let step = index.len() / 150 + 1;
    for byte in (0..index.len()).step_by(step) {
        let mut flipped = index.clone();
        flipped[byte] ^= 0x40;
        drop(fs::remove_dir_all(home.join("index/snapshots")));
        fs::write(&db, &flipped).unwrap();
        match open() {
            Ok(statements) => agree(&statements, &history[..statements.watermark().0 as usize]),
            Err(error) => named(error, &format!("byte {byte} of the index")),
        }
        assert!(fs::read(&log).unwrap().starts_with(&sound[..sound.len() * 3 / 4]), "byte {byte}: cut off");
        fs::write(&log, &sound).unwrap();
        fs::create_dir_all(home.join("index")).unwrap();
    }
    // No log at all.
    fs::remove_dir_all(&home).unwrap();
    assert!(matches!(open(), Err(JournalError::Damaged { lsn: Lsn(1), .. })));
}

/// A crash while the index was brought up to the log: it has every, every second or none of the new ends, and its watermark is the old one.
/// The log knows the rest; where that cannot be read, the index is not believed.
#[test]
fn an_index_that_was_half_brought_up_is_brought_up_from_the_log() {
    for (nth, damaged) in [(1, false), (2, false), (9, false), (1, true), (2, true)] {
        let folder = tempfile::tempdir().unwrap();
        let mut history = history(2_000);
        // Somebody of whom nothing can be read any more where the log is damaged.
        for place in [1_700, 1_900] {
            history[place].account = AccountId(6);
        }
        let mut statements = open(folder.path(), 2_000);
        statements.project(&history[..1_000]).unwrap();
        statements.flush().unwrap();
        drop(statements);
        let path = folder.path().join("statements/index");
        let index = || {
            // sled gives its lock back a moment after it is dropped.
            let opened = (0..200).find_map(|_| sled::open(&path).map_err(|_| sleep(Duration::from_millis(10))).ok());
            opened.unwrap()
        };
        let all = || -> Vec<(sled::IVec, sled::IVec)> { index().iter().map(Result::unwrap).collect() };
        let old = all();
        let mut statements = open(folder.path(), 2_000);
        statements.project(&history[1_000..]).unwrap();
        statements.flush().unwrap();
        drop(statements);
        let new = all();
        let half = index();
        for (n, (key, _)) in new.iter().enumerate() {
            // How far it was to reach is written first, the watermark last.
            if *key == keys::REACHES || *key != keys::WATERMARK && n % nth == 0 {
                continue;
            }
            match old.iter().find(|(known, _)| known == key) {
                Some((_, value)) => drop(half.insert(key, value).unwrap()),
                None => drop(half.remove(key).unwrap()),
            }
        }
        drop(half);
        if damaged {
            let path = folder.path().join("statements/log.000001");
            let mut bytes = fs::read(&path).unwrap();
            let place = bytes.len() * 3 / 4;
            bytes[place] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
        let mut statements = open(folder.path(), 2_000);
        let there = statements.watermark().0 as usize;
        assert_eq!(there == 2_000, !damaged, "{there}");
        assert!(there > 1_000, "{there}");
        agree(&statements, &history[..there]);
        statements.project(&history[there..]).unwrap();
        statements.flush().unwrap();
        agree(&statements, &history);
    }
}
