//! Group commit: how long until a group of sales survives a power cut, and how many sales a second that makes, on sled, with its mirror and on plain
//! files. The floors beside it are what the disk takes to make the same bytes durable in one file, and in two at once, of which one was written with
//! zeros before, as the mirror's is; and what sled alone takes to take them and flush: its own flush, which does not survive a power cut.

#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; a bench stops where it is wrong")]

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use frokost_engine::journal::{Journal, Shard};
use frokost_engine::memory_journal::MemoryJournal;
use frokost_engine::{
    AccountId, Amount, CallerId, Entry, Lsn, PersonId, Record, RequestKey, Sequence, Text, Timestamp,
};
use frokost_persistence::format::encode_group;
use frokost_persistence::mirrored_journal::Mode;
use frokost_persistence::{FileJournal, MirroredJournal, SledJournal};

/// Bytes of a file that is there before it is written to.
const THERE: usize = 16 << 20;

fn group_after(head: Lsn, count: u64) -> Vec<Record> {
    (head.0 + 1..=head.0 + count)
        .map(|lsn| Record {
            lsn: Lsn(lsn),
            at: Timestamp(1_790_000_000_000 + lsn),
            key: RequestKey { caller: CallerId(1), sequence: Sequence(lsn) },
            fingerprint: lsn,
            account: AccountId(lsn % 1000 + 1),
            balance: Amount::from_ore(10_000),
            by: PersonId(0),
            text: Text::EMPTY,
            entry: Entry::Purchased { amount: Amount::from_ore(2_500) },
        })
        .collect()
}

/// Appends `rounds` groups and returns the time spent in `append`.
fn append(journal: &mut impl Journal, count: u64, rounds: u64) -> Duration {
    let claim = journal.claim(Shard(0), "bench").unwrap();
    let mut head = claim.head;
    let mut spent = Duration::ZERO;
    for _ in 0..rounds {
        let records = group_after(head, count);
        let begin = Instant::now();
        head = journal.append(&claim, head, &records).unwrap();
        spent += begin.elapsed();
    }
    spent
}

/// The same bytes into two files, `rounds` times: one grows, the other is there already, and a thread of its own writes and syncs it.
fn two_at_once(folder: &Path, bytes: &[u8], rounds: u64) -> Duration {
    let mut grows = File::create(folder.join("grows")).unwrap();
    let there = File::create(folder.join("there")).unwrap();
    there.write_all_at(&vec![0; THERE], 0).unwrap();
    there.sync_all().unwrap();
    grows.sync_all().unwrap();
    let (begin, to_begin) = sync_channel::<u64>(1);
    let (done, is_done) = sync_channel::<()>(1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while let Ok(round) = to_begin.recv() {
                let place = usize::try_from(round).unwrap() * bytes.len() % (THERE - bytes.len());
                there.write_all_at(bytes, place as u64).unwrap();
                there.sync_data().unwrap();
                done.send(()).unwrap();
            }
        });
        let started = Instant::now();
        for round in 0..rounds {
            begin.send(round).unwrap();
            grows.write_all(bytes).unwrap();
            grows.sync_data().unwrap();
            is_done.recv().unwrap();
        }
        drop(begin);
        started.elapsed()
    })
}

fn group_commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("group commit");
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    for count in [1, 16, 160, 512] {
        group.throughput(Throughput::Elements(count));
        let folder = tempfile::tempdir().unwrap();
        let mut sled = SledJournal::open(&folder.path().join("journal")).unwrap();
        group.bench_with_input(BenchmarkId::new("sled, fdatasync", count), &count, |bench, count| {
            bench.iter_custom(|rounds| append(&mut sled, *count, rounds));
        });
        let own = SledJournal::open(&folder.path().join("mirrored")).unwrap();
        let mirror = FileJournal::open_mirror(&folder.path().join("mirror")).unwrap();
        let mut mirrored = MirroredJournal::new(own, mirror, Mode::Sync, None);
        group.bench_with_input(BenchmarkId::new("sled and its mirror", count), &count, |bench, count| {
            bench.iter_custom(|rounds| append(&mut mirrored, *count, rounds));
        });
        let mut file = File::create(folder.path().join("floor")).unwrap();
        let bytes: Vec<u8> =
            encode_group(&group_after(Lsn::ZERO, count), &[0; 16]).parts.into_iter().flat_map(|part| part.1).collect();
        let mut files = FileJournal::open(&folder.path().join("files")).unwrap();
        group.bench_with_input(BenchmarkId::new("plain files, fdatasync", count), &count, |bench, count| {
            bench.iter_custom(|rounds| append(&mut files, *count, rounds));
        });
        group.bench_with_input(BenchmarkId::new("floor: file append, fdatasync", count), &count, |bench, _| {
            bench.iter(|| {
                file.write_all(&bytes).unwrap();
                file.sync_data().unwrap();
            });
        });
        group.bench_with_input(BenchmarkId::new("floor: two files at once, fdatasync", count), &count, |bench, _| {
            bench.iter_custom(|rounds| two_at_once(folder.path(), &bytes, rounds));
        });
        let alone = sled::open(folder.path().join("alone")).unwrap();
        let mut key = 0_u64;
        group.bench_with_input(BenchmarkId::new("floor: sled alone, its own flush", count), &count, |bench, _| {
            bench.iter(|| {
                key += 1;
                alone.insert(key.to_be_bytes(), bytes.as_slice()).unwrap();
                alone.flush().unwrap();
            });
        });
        group.bench_with_input(BenchmarkId::new("in memory, not durable", count), &count, |bench, count| {
            // A new one each time: it keeps everything.
            bench.iter_custom(|rounds| append(&mut MemoryJournal::default(), *count, rounds));
        });
    }
    group.finish();
}

criterion_group!(benches, group_commit);
criterion_main!(benches);
