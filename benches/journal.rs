//! Group commit: how long until a group of sales survives a power cut, and how many sales a second that makes, on sled and on plain files. The
//! floors beside it are what the disk takes to make the same bytes durable in one file, and what sled alone takes to take them and flush: its own
//! flush, which does not survive a power cut.

#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; a bench stops where it is wrong")]

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use frokost_engine::journal::{Journal, Shard};
use frokost_engine::memory_journal::MemoryJournal;
use frokost_engine::{
    AccountId, Amount, CallerId, Entry, Lsn, PersonId, Record, RequestKey, Sequence, Text, Timestamp,
};
use frokost_persistence::format::encode_group;
use frokost_persistence::{FileJournal, SledJournal};

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
