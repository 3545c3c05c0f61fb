//! What a sale comes to in single pieces, each in one thread, beside a floor of the same run: the decision about it, its key, its record, its line on a
//! statement, and what a snapshot of a hundred thousand accounts takes, written and read.

#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; a bench stops where it is wrong")]

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use frokost_engine::account::state::AccountState;
use frokost_engine::dedup::{Answer, Answered, Seen, Window};
use frokost_engine::forgetting::Old;
use frokost_engine::ledger_state::LedgerState;
use frokost_engine::rules::Rules;
use frokost_engine::snapshot::{Item, Snapshots, next_snapshot};
use frokost_engine::statement::Projection;
use frokost_engine::{
    Account, AccountId, Amount, Asked, Caller, CallerId, CardNumber, Command, Entry, Lsn, PersonId, Receipt, Record,
    RequestKey, Role, SchoolId, Sequence, Text, Timestamp,
};
use frokost_persistence::format::{decode_record, encode_group, encode_record};
use frokost_persistence::{FileSnapshots, LoggedStatements};

/// As the program has it.
#[global_allocator]
static MEMORY: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ACCOUNTS: u64 = 100_000;
const MORNING: Timestamp = Timestamp(1_790_000_000_000);
const HALF_A_DAY_MS: u64 = 12 * 60 * 60 * 1000;
const PRICE: Amount = Amount::from_ore(2_500);
const FULL: Amount = Amount::from_kroner(10_000);
const TILL: CallerId = CallerId(1);

fn card(n: u64) -> CardNumber {
    format!("{n:014}").parse().unwrap()
}

fn key(n: u64) -> RequestKey {
    RequestKey { caller: TILL, sequence: Sequence(n) }
}

fn account(n: u64) -> Account {
    let mut state = AccountState::unopened(AccountId(n));
    (state.school, state.card, state.balance) = (Some(SchoolId(1)), Some(card(n)), FULL);
    state.into()
}

/// The `n`th sale, each to the next account, all of which buy once in half a day.
fn sale(n: u64) -> Record {
    let round = n.div_ceil(ACCOUNTS);
    let taken = PRICE.ore() * i64::try_from(round).unwrap();
    Record {
        lsn: Lsn(n),
        at: Timestamp(MORNING.0 + round * HALF_A_DAY_MS),
        key: key(n),
        fingerprint: n,
        account: AccountId((n - 1) % ACCOUNTS + 1),
        balance: Amount::from_ore(FULL.ore() - taken),
        by: PersonId(0),
        text: Text::EMPTY,
        entry: Entry::Purchased { amount: PRICE },
    }
}

/// A child buys twice a day, so that an account remembers some thirty sales; the account alone is one that somebody shops with all day.
fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a purchase decided and applied");
    group.throughput(Throughput::Elements(1));
    let rules = Rules::default();
    let till = Caller { id: TILL, role: Role::Till, school: SchoolId(1) };
    for (accounts, step_ms) in [(1, HALF_A_DAY_MS / 72), (ACCOUNTS, HALF_A_DAY_MS)] {
        let mut all: Vec<Account> = (1..=accounts).map(account).collect();
        let mut n = 0_u64;
        group.bench_function(format!("{accounts} accounts in turn"), |bench| {
            bench.iter(|| {
                n += 1;
                let at = Timestamp(MORNING.0 + n / accounts * step_ms);
                // Far from each other, as those are who come to the till one after the other.
                let account = all.get_mut(usize::try_from(n * 7919 % accounts).unwrap()).unwrap();
                if account.balance() < PRICE {
                    *account = self::account(account.id().0);
                }
                let asked = Asked::from(Command::Purchase { card: account.card().unwrap(), amount: PRICE });
                let entry = account.decide(&till, &asked, &rules, at).unwrap();
                account.apply(key(n), at, &entry, &rules);
            });
        });
        let mut balances = vec![FULL; usize::try_from(accounts).unwrap()];
        group.bench_function(format!("floor: a number less, {accounts} in turn"), |bench| {
            bench.iter(|| {
                n += 1;
                let balance = balances.get_mut(usize::try_from(n * 7919 % accounts).unwrap()).unwrap();
                *balance = black_box(*balance).checked_sub(PRICE).filter(|left| *left > Amount::ZERO).unwrap_or(FULL);
            });
        });
    }
    group.finish();
}

/// The keys of a till on a morning; each is asked about once and answered.
fn keys(criterion: &mut Criterion) {
    const SALES: u64 = 10_000;
    let mut group = criterion.benchmark_group("a key taken and answered");
    group.throughput(Throughput::Elements(SALES));
    let answer = Answer::Approved(Receipt { lsn: Lsn(1), balance: FULL });
    let answered = |n| Answered { sequence: Sequence(n), fingerprint: n, at: MORNING, answer };
    group.bench_function("window", |bench| {
        let keys = |window: &mut Window<()>| {
            for n in 1..=SALES {
                assert_eq!(window.begin(Sequence(n), n, ()), Seen::New(()));
                window.settle(answered(n));
            }
        };
        bench.iter_batched_ref(Window::default, keys, BatchSize::LargeInput);
    });
    group.bench_function("floor: an answer put at the end of a list", |bench| {
        let keys = |list: &mut Vec<Answered>| (1..=SALES).for_each(|n| list.push(black_box(answered(n))));
        bench.iter_batched_ref(Vec::new, keys, BatchSize::LargeInput);
    });
    group.finish();
}

fn records(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a record");
    group.throughput(Throughput::Elements(1));
    let record = sale(1);
    let mut bytes = Vec::with_capacity(256);
    group.bench_function("encode", |bench| {
        bench.iter(|| {
            bytes.clear();
            encode_record(black_box(&record), &mut bytes);
        });
    });
    group.bench_function("decode", |bench| bench.iter(|| decode_record(black_box(&bytes)).unwrap().0));
    let mut copy = Vec::with_capacity(256);
    group.bench_function("floor: its bytes copied", |bench| {
        bench.iter(|| {
            copy.clear();
            copy.extend_from_slice(black_box(&bytes));
        });
    });
    let many: Vec<Record> = (1..=160).map(sale).collect();
    group.throughput(Throughput::Elements(160));
    group.bench_function("encode, 160 in a group", |bench| bench.iter(|| encode_group(black_box(&many), &[0; 16])));
    group.finish();
}

/// Written behind the journal, not flushed with each group.
fn statements(criterion: &mut Criterion) {
    const GROUP: u64 = 512;
    let mut group = criterion.benchmark_group("a line on a statement");
    // They grow all the time: a gigabyte is enough.
    group.throughput(Throughput::Elements(GROUP)).sample_size(20).measurement_time(Duration::from_secs(2));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("statements");
    let mut statements = LoggedStatements::open(&path, Lsn(1), Lsn(u64::MAX), |_| Ok(())).unwrap();
    let mut head = 0;
    group.bench_function("projected", |bench| {
        bench.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let records: Vec<Record> = (head + 1..=head + GROUP).map(sale).collect();
                head += GROUP;
                let began = Instant::now();
                statements.project(&records).unwrap();
                spent += began.elapsed();
            }
            spent
        });
    });
    let mut bytes = Vec::new();
    (1..=GROUP).for_each(|n| encode_record(&sale(n), &mut bytes));
    let mut file = File::create(folder.path().join("floor")).unwrap();
    group.bench_function("floor: the records' bytes written to a file", |bench| {
        bench.iter(|| file.write_all(&bytes).unwrap());
    });
    group.finish();
}

/// The next one: the one before is read, a sale of each account goes into it, and it is written and durable.
fn snapshots(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a snapshot of 100,000 accounts");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshots");
    let snapshots = FileSnapshots::open(&path).unwrap();
    let rules = Rules::default();
    let first = Lsn(1);
    let accounts = (1..=ACCOUNTS).map(|n| Item::Account(Box::new(account(n).into_state())));
    let cards = (1..=ACCOUNTS).map(|n| Item::Card(card(n), AccountId(n)));
    snapshots.write(first, Box::new(accounts.chain(cards).map(Ok))).unwrap();
    let mut newest = first;
    group.bench_function("the next, with a sale of each", |bench| {
        bench.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                // It keeps two; the first is always the one before.
                let lsn = Lsn(newest.0 + 1);
                let sales = (1..=ACCOUNTS).map(|n| Ok(sale(n)));
                let began = Instant::now();
                let items = next_snapshot(snapshots.read(first).unwrap(), sales, &rules, Old::default()).unwrap();
                snapshots.write(lsn, items).unwrap();
                spent += began.elapsed();
                if newest > first {
                    std::fs::remove_file(path.join(format!("{:020}.snapshot", newest.0))).unwrap();
                }
                newest = lsn;
            }
            spent
        });
    });
    let newest_file = path.join(format!("{:020}.snapshot", newest.0));
    let written = std::fs::read(&newest_file).unwrap();
    group.bench_function("floor: its bytes written to a file, fsync", |bench| {
        bench.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let began = Instant::now();
                let mut file = File::create_new(folder.path().join("floor")).unwrap();
                file.write_all(&written).unwrap();
                file.sync_all().unwrap();
                spent += began.elapsed();
                std::fs::remove_file(folder.path().join("floor")).unwrap();
            }
            spent
        });
    });
    group.bench_function("read", |bench| {
        bench.iter(|| LedgerState::<()>::from_snapshot(newest, snapshots.read(newest).unwrap()).unwrap());
    });
    group.bench_function("floor: its bytes read from memory", |bench| {
        bench.iter(|| std::fs::read(&newest_file).unwrap());
    });
    group.finish();
}

criterion_group!(benches, decisions, keys, records, statements, snapshots);
criterion_main!(benches);
