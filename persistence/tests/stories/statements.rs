//! Statements: what is read from the index is what a replay of all records gives, whatever happened in between.

use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use frokost_engine::journal::JournalError;
use frokost_engine::memory_statements::MemoryStatements;
use frokost_engine::statement::{Projection, Statements};
use frokost_engine::{AccountId, Amount, Entry, Lsn, Record, Timestamp};
use frokost_persistence::LoggedStatements;
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
    LoggedStatements::open(&folder.join("statements"), Lsn(1), Lsn(head), |_| Ok(())).unwrap()
}

/// Statements with all of a history, as a server leaves them that has ended.
fn write(folder: &Path, history: &[Record]) {
    let mut statements = open(folder, history.len() as u64);
    statements.project(history).unwrap();
    statements.flush().unwrap();
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
fn lost_ends_are_made_anew_from_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let history = history(1_000);
    write(folder.path(), &history);
    fs::remove_file(folder.path().join("statements/ends")).unwrap();
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
    write(folder.path(), &history);
    let home = folder.path().join("statements");
    let log = home.join("log.000001");
    let sound = fs::read(&log).unwrap();
    let open = || LoggedStatements::open(&home, Lsn(301), Lsn(400), |_| Ok(()));
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
    fs::remove_file(home.join("ends")).unwrap();
    named(open().expect_err("half of the log is taken for all of it"), "an item");
    // The same where the journal has all that is behind it: that is read from there.
    let cut = LoggedStatements::open(&home, Lsn(101), Lsn(400), |_| Ok(())).unwrap();
    assert!((100..400).contains(&cut.watermark().0));
    drop(cut);
    // Where the postings stand, every bit of it and every cut.
    fs::write(&log, &sound).unwrap();
    agree(&open().unwrap(), &history);
    let ends = home.join("ends");
    let written = fs::read(&ends).unwrap();
    let flipped = (0..written.len() * 8).map(|bit| {
        let mut flipped = written.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    });
    for bytes in flipped.chain((0..written.len()).map(|length| written[..length].to_vec())) {
        fs::write(&ends, &bytes).unwrap();
        agree(&open().unwrap(), &history);
        assert_eq!(fs::read(&log).unwrap(), sound);
        assert_eq!(fs::read(&ends).unwrap(), written, "they are written anew");
    }
    // No log at all.
    fs::remove_dir_all(&home).unwrap();
    assert!(matches!(open(), Err(JournalError::Damaged { lsn: Lsn(1), .. })));
}

/// The log ends anywhere, before or behind where it ended when the ends were written; what it lacks comes from the journal. Ends that know
/// more than it does are not believed, then or later.
#[test]
fn ends_that_know_more_than_the_log_are_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = history(1_000);
    // Somebody of whom nothing else is known.
    history[690].account = AccountId(6);
    let mut statements = open(folder.path(), 1_000);
    statements.project(&history[..700]).unwrap();
    statements.flush().unwrap();
    let ends = fs::read(folder.path().join("statements/ends")).unwrap();
    statements.project(&history[700..]).unwrap();
    drop(statements);
    let home = folder.path().join("statements");
    let log = fs::read(home.join("log.000001")).unwrap();
    for length in (0..log.len()).rev().step_by(97) {
        fs::write(home.join("ends"), &ends).unwrap();
        fs::write(home.join("log.000001"), &log[..length]).unwrap();
        for _ in 0..2 {
            let statements = open(folder.path(), 1_000);
            let there = statements.watermark().0 as usize;
            assert!(there * log.len() / 1_000 <= length + log.len() / 100, "{there} of {length} bytes");
            agree(&statements, &history[..there]);
        }
        let mut statements = open(folder.path(), 1_000);
        let there = statements.watermark().0 as usize;
        // Another record follows there than did before, and again it is not flushed.
        let mut other = history[..there].to_vec();
        other.extend(history[there..].iter().map(|record| Record { account: AccountId(5), ..*record }));
        statements.project(&other[there..]).unwrap();
        drop(statements);
        agree(&open(folder.path(), 1_000), &other);
    }
}

/// A damaged item, and behind it what can be read and may be nowhere else: before it is cut off somebody has to have all of it.
#[test]
fn what_can_still_be_read_is_cut_off_only_if_the_journal_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let history = history(400);
    write(folder.path(), &history);
    let home = folder.path().join("statements");
    let log = home.join("log.000001");
    let mut bytes = fs::read(&log).unwrap();
    let place = bytes.len() / 2;
    bytes[place] ^= 1;
    fs::write(&log, &bytes).unwrap();
    // All that is known is what the log says.
    fs::remove_file(home.join("ends")).unwrap();
    let broken = |lsn: Lsn| Err(JournalError::Damaged { lsn, what: "a part is missing".to_owned() });
    let refused = LoggedStatements::open(&home, Lsn(1), Lsn(400), broken).unwrap_err();
    assert!(matches!(refused, JournalError::Damaged { lsn, .. } if lsn < Lsn(250)), "{refused}");
    assert_eq!(fs::read(&log).unwrap(), bytes, "it was cut off");
    let statements = open(folder.path(), 400);
    assert!(fs::metadata(&log).unwrap().len() < bytes.len() as u64 && statements.watermark() < Lsn(250));
}

/// The journal ends before what the ends on the disk were written of: it is an old copy, whatever the log says.
#[test]
fn ends_that_know_more_than_the_journal_tell_that_it_has_lost_something() {
    let folder = tempfile::tempdir().unwrap();
    let history = history(400);
    write(folder.path(), &history);
    let log = folder.path().join("statements/log.000001");
    let length = fs::metadata(&log).unwrap().len();
    File::options().write(true).open(&log).unwrap().set_len(length / 3).unwrap();
    let refused = LoggedStatements::open(&folder.path().join("statements"), Lsn(1), Lsn(200), |_| Ok(()));
    assert!(matches!(refused, Err(JournalError::Damaged { lsn: Lsn(201), .. })));
}
