//! How it grows: what a thousand, 10 thousand, 100 thousand and a million accounts take in memory, on disk and to start, and what making a snapshot
//! costs the sales meanwhile. Each size is played in a process of its own, on sled with its mirror, statements and snapshots, as
//! `frokost serve` has them. `cargo bench --bench scale -- 10000 100000` plays other sizes; `PICTURES=docs/benchmarks` draws how it grows.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench stops where it is wrong")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints what it measured")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "figures for people"
)]

#[path = "plot/growth.rs"]
mod plot;

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use frokost_engine::command::Source;
use frokost_engine::journal::{Journal, JournalError};
use frokost_engine::snapshot::Snapshots;
use frokost_engine::{
    AccountId, Amount, AnswerSink, Asked, Caller, CallerHandle, CallerId, CardNumber, Clock, Command, Config, Engine,
    OrderNumber, Outcome, Ports, Reply, Role, SchoolId, Sequence, Timestamp,
};
use frokost_persistence::affinity::{Affinity, Placed};
use frokost_persistence::mirrored_journal::Mode;
use frokost_persistence::priority::step_back;
use frokost_persistence::{FileJournal, FileSnapshots, LoggedStatements, MirroredJournal, SledJournal};
use hdrhistogram::Histogram;
use rustix::process::Signal;
use tokio::sync::mpsc;

/// These end as if somebody had pulled the plug on the process.
const KILLED: [&str; 2] = ["rush", "start from the disk"];

/// As the program has it.
#[global_allocator]
static MEMORY: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Purchases behind the snapshot when the start is timed.
const TAIL: u64 = 1_000_000;
/// In flight at once where only getting there counts.
const IN_FLIGHT: u64 = 800;
/// How long the allocator is given to return memory.
const GIVES_BACK: Duration = Duration::from_secs(15);
/// Sales a second while p99 is taken: well below what it can, as a lunch rush should be.
const RATE: u64 = 20_000;
/// How long who asks sleeps between looking what is due.
const NAP: Duration = Duration::from_micros(100);
/// Seconds of sales without a snapshot; with one they last as long as the snapshot takes.
const SECONDS: u64 = 10;

struct SystemClock(Instant);

/// So many milliseconds have passed without anybody noticing: a day in a moment.
static AHEAD_MS: AtomicU64 = AtomicU64::new(0);

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp(u64::try_from(since.as_millis()).unwrap() + AHEAD_MS.load(Ordering::Relaxed))
    }

    fn running(&self) -> Duration {
        // A clock that jumps while no time passes is not believed (`engine/src/forgetting.rs`).
        self.0.elapsed() + Duration::from_millis(AHEAD_MS.load(Ordering::Relaxed))
    }
}

async fn open(folder: &Path, snapshot_every: u64) -> Engine {
    // The actors of the engine before are still going home; each holds on to the journal until it is there.
    let begin = Instant::now();
    let journal = loop {
        match SledJournal::open(&folder.join("journal")) {
            Err(JournalError::InUse) if begin.elapsed() < Duration::from_secs(60) => {}
            opened => break opened.unwrap(),
        }
    };
    let first = journal.reader().first().unwrap();
    let statements = LoggedStatements::open(&folder.join("statements"), first, journal.head(), |_| Ok(())).unwrap();
    let mirror = FileJournal::open_mirror(&folder.join("mirror")).unwrap();
    // Once: what a start takes is without it.
    static NEAR: OnceLock<Option<Affinity>> = OnceLock::new();
    let near = NEAR.get_or_init(|| Affinity::measured(folder).unwrap().map(|(affinity, _)| affinity)).as_ref();
    let ports = Ports {
        journal: Placed::around(
            Box::new(MirroredJournal::new(journal.near(near), mirror, Mode::Sync, None).near(near)),
            near,
        ),
        projection: Box::new(statements.clone()),
        statements: Arc::new(statements),
        snapshots: Arc::new(FileSnapshots::open(&folder.join("snapshots")).unwrap()),
        room: Arc::new(|| true),
        clock: Arc::new(SystemClock(Instant::now())),
        on_fatal: Arc::new(|why| panic!("{why}")),
    };
    let mut config = Config { snapshot_every, step_back: Some(Arc::new(step_back)), ..Config::default() };
    config.permits_per_caller = config.permits;
    Engine::start(ports, config).await.unwrap()
}

fn card(n: u64) -> CardNumber {
    format!("{n:014}").parse().unwrap()
}

fn caller(engine: &Engine, role: Role) -> CallerHandle {
    let school = SchoolId(u32::from(role == Role::Till));
    engine.caller(Caller { id: CallerId(if role == Role::Till { 2 } else { 1 }), role, school })
}

/// Asks for everything, so many at a time; returns how long it took.
async fn ask_all(handle: &CallerHandle, first: u64, commands: impl Iterator<Item = Command>) -> Duration {
    let (to, mut answers) = mpsc::unbounded_channel();
    let to: Arc<dyn AnswerSink> = Arc::new(to);
    let begin = Instant::now();
    let (mut asked, mut answered) = (0, 0);
    let mut many = Vec::with_capacity(256);
    let mut check = |many: &mut Vec<(u64, Outcome)>| {
        for (_, outcome) in many.drain(..) {
            assert!(matches!(outcome, Outcome::Approved(_)), "{outcome:?}");
            answered += 1;
        }
        answered
    };
    let mut done = 0;
    for command in commands {
        if asked - done >= IN_FLIGHT {
            answers.recv_many(&mut many, 256).await;
            done = check(&mut many);
        }
        handle.submit(Sequence(first + asked), Asked::from(command), Reply::Stream { to: Arc::clone(&to), tag: asked });
        asked += 1;
    }
    while done < asked {
        answers.recv_many(&mut many, 256).await;
        done = check(&mut many);
    }
    begin.elapsed()
}

/// Answers with the moment in which they came: whoever reads them is not measured with them.
#[derive(Debug)]
struct Stamped(mpsc::UnboundedSender<(u64, Outcome, Instant)>);

impl AnswerSink for Stamped {
    fn feed(&self, tag: u64, outcome: Outcome) -> bool {
        let _ = self.0.send((tag, outcome, Instant::now()));
        false
    }

    fn flush(self: Arc<Self>) {}
}

/// Sales at an even pace until `enough` says so; latency from the moment a sale was due. A thread asks: timers of the runtime are coarser
/// than a sale takes.
async fn ask_evenly(
    handle: &CallerHandle,
    first: u64,
    accounts: u64,
    mut enough: impl FnMut(Duration) -> bool + Send,
) -> (Histogram<u64>, u64) {
    let (to, mut answers) = mpsc::unbounded_channel();
    let to: Arc<dyn AnswerSink> = Arc::new(Stamped(to));
    let begin = Instant::now();
    let due = |n: u64| Duration::from_nanos(n * 1_000_000_000 / RATE);
    let runtime = tokio::runtime::Handle::current();
    let ask = || {
        let _inside = runtime.enter();
        let mut random = fastrand::Rng::with_seed(first);
        let mut asked = 0;
        loop {
            let now = begin.elapsed();
            while due(asked) <= now {
                let command = Command::Purchase { card: card(random.u64(1..=accounts)), amount: Amount::from_ore(1) };
                handle.submit(Sequence(first + asked), command, Reply::Stream { to: Arc::clone(&to), tag: asked });
                asked += 1;
            }
            if enough(now) {
                return asked;
            }
            std::thread::sleep(NAP);
        }
    };
    let asked = std::thread::scope(|scope| scope.spawn(ask).join().unwrap());
    let mut latencies = Histogram::new(3).unwrap();
    let mut busy = 0;
    for _ in 0..asked {
        let (n, outcome, at) = answers.recv().await.unwrap();
        // Turned away counts with the time it took and is said.
        busy += u64::from(outcome == Outcome::Busy);
        assert!(matches!(outcome, Outcome::Approved(_) | Outcome::Busy), "{outcome:?}");
        latencies.record((at - begin).saturating_sub(due(n)).as_micros() as u64).unwrap();
    }
    if busy > 0 {
        eprintln!("  {busy} sales were turned away");
    }
    (latencies, asked)
}

fn resident_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// What this process has had of the processors so far.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // User and system, in hundredths of a second.
    let hundredths: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(hundredths * 10)
}

fn bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        sum += if entry.file_type().unwrap().is_dir() {
            bytes(&entry.path())
        } else if entry.file_name() == "next.zeros" {
            0
        } else {
            entry.metadata().unwrap().blocks() * 512
        };
    }
    sum
}

/// Reads every byte of a folder: what a start cannot be faster than.
fn read_all(folder: &Path) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        sum += if path.is_dir() { read_all(&path) } else { fs::read(path).unwrap().len() as u64 };
    }
    sum
}

/// A snapshot is due after as many records as there are accounts: waits until none is.
async fn snapshots_made(snapshots: &FileSnapshots, head: u64, accounts: u64) {
    while snapshots.list().unwrap().first().is_none_or(|newest| newest.0 + accounts <= head) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn per_sale(folder: &Path, before: u64) -> String {
    format!("{:.0}", (bytes(folder).saturating_sub(before)) as f64 / TAIL as f64)
}

/// Everybody gets an account, a card and money, and a snapshot is made of it.
async fn fill(folder: &Path, accounts: u64) {
    // Before the engine is: opening them clears away what is being made.
    let snapshots = FileSnapshots::open(&folder.join("snapshots")).unwrap();
    let engine = open(folder, 1).await;
    let school = SchoolId(1);
    let made = (1..=accounts).flat_map(|n| {
        let (account, amount) = (AccountId(n), Amount::from_kroner(10_000));
        let top_up = Command::TopUp { account, order: OrderNumber(1), amount, source: Source::Opening };
        [Command::Open { account, school }, Command::BindCard { account, card: card(n) }, top_up]
    });
    let took = ask_all(&caller(&engine, Role::Operator), 1, made).await;
    eprintln!("{accounts} accounts made in {took:.1?}; a snapshot is on its way");
    snapshots_made(&snapshots, accounts * 3, accounts).await;
    engine.shutdown().await;
}

/// A million sales that no snapshot has seen.
async fn rush(folder: &Path, accounts: u64) -> Vec<String> {
    let [journal, mirror, statements] = ["journal", "mirror", "statements"].map(|part| folder.join(part));
    let before = [&journal, &mirror, &statements].map(|part| bytes(part));
    let engine = open(folder, 0).await;
    let till = caller(&engine, Role::Till);
    let mut random = fastrand::Rng::with_seed(7);
    let sales =
        (0..TAIL).map(|_| Command::Purchase { card: card(random.u64(1..=accounts)), amount: Amount::from_ore(1) });
    // Numbers that no rush before it has used.
    let first = SystemClock(Instant::now()).now().0 << 16;
    let worked = processor_time();
    let took = ask_all(&till, first, sales).await;
    let worked = processor_time() - worked;
    let (actors, resident) = (engine.actors(), resident_mb());
    // The allocator gives back what it does not need within ten seconds.
    tokio::time::sleep(GIVES_BACK).await;
    let afterwards = resident_mb();
    AHEAD_MS.store(25 * 3_600_000, Ordering::Relaxed);
    tokio::time::sleep(GIVES_BACK).await;
    let next_day = resident_mb();
    std::mem::forget((engine, till));
    vec![
        format!("{:.0}", TAIL as f64 / took.as_secs_f64()),
        format!("{:.1}", worked.as_secs_f64() * 1e6 / TAIL as f64),
        actors.to_string(),
        resident.to_string(),
        afterwards.to_string(),
        next_day.to_string(),
        per_sale(&journal, before[0]),
        per_sale(&mirror, before[1]),
        per_sale(&statements, before[2]),
    ]
}

/// Has every file of a folder read from the disk the next time, as after the machine was off.
fn out_of_memory(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out_of_memory(&path);
        } else {
            let file = fs::File::open(path).unwrap();
            file.sync_all().unwrap();
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        }
    }
}

/// A start after a kill, from the snapshot and the million sales behind it, beside reading the same files; and what is in memory while nobody asks.
async fn start(folder: &Path, from_disk: bool) -> Vec<String> {
    if from_disk {
        out_of_memory(folder);
    }
    let begin = Instant::now();
    let read: u64 = ["journal", "snapshots"].iter().map(|part| read_all(&folder.join(part))).sum();
    let reading = begin.elapsed();
    if from_disk {
        out_of_memory(folder);
    }
    let begin = Instant::now();
    let engine = open(folder, 0).await;
    let starting = begin.elapsed();
    let took = [starting, reading].map(|took| format!("{:.2}", took.as_secs_f64()));
    if from_disk {
        std::mem::forget(engine);
        return took.into();
    }
    tokio::time::sleep(GIVES_BACK).await;
    let figures = [&took[..], &[(read >> 20).to_string(), resident_mb().to_string()]].concat();
    engine.shutdown().await;
    figures
}

/// Sales at an even pace, without a snapshot being made and with, in turn, twice.
async fn snapshot(folder: &Path, accounts: u64) -> Vec<String> {
    // Above the numbers of the rush before: a caller's numbers rise.
    let mut first = SystemClock(Instant::now()).now().0 << 16;
    let mut figures = Vec::new();
    for _ in 0..2 {
        for making in [false, true] {
            let snapshots = FileSnapshots::open(&folder.join("snapshots")).unwrap();
            let before = snapshots.list().unwrap().first().copied().unwrap_or_default();
            let engine = open(folder, u64::from(making)).await;
            let till = caller(&engine, Role::Till);
            let mut looked = Duration::ZERO;
            let enough = |now: Duration| {
                if !making || now < looked + Duration::from_millis(250) {
                    return !making && now > Duration::from_secs(SECONDS);
                }
                looked = now;
                // At the latest after two minutes, should none be due.
                let made = snapshots.list().unwrap().first().is_some_and(|newest| *newest > before);
                now > Duration::from_secs(SECONDS) && made || now > Duration::from_secs(120)
            };
            let begin = Instant::now();
            let (latencies, asked) = ask_evenly(&till, first, accounts, enough).await;
            first += asked;
            eprintln!(
                "  {asked} sales in {:.1?}, snapshot on its way: {making}; the longest took {:.1} ms",
                begin.elapsed(),
                latencies.max() as f64 / 1000.0
            );
            for quantile in [0.5, 0.99] {
                figures.push(format!("{:.2}", latencies.value_at_quantile(quantile) as f64 / 1000.0));
            }
            engine.shutdown().await;
        }
    }
    figures
}

/// One step in a process of its own, so that what is in memory is that step's.
fn child(step: &str, folder: &Path, accounts: u64) -> Vec<String> {
    let ran = std::process::Command::new(std::env::current_exe().unwrap())
        .env("FROKOST_SCALE", format!("{accounts} {}", folder.display()))
        .env("FROKOST_SCALE_STEP", step)
        .stderr(std::process::Stdio::inherit())
        .output()
        .unwrap();
    let killed = KILLED.contains(&step) && ran.status.signal() == Some(Signal::KILL.as_raw());
    assert!(ran.status.success() || killed, "{step} with {accounts} accounts failed");
    let out = String::from_utf8(ran.stdout).unwrap();
    out.trim().split(';').map(str::to_owned).collect()
}

fn main() {
    if let Ok(order) = std::env::var("FROKOST_SCALE") {
        let (accounts, folder) = order.split_once(' ').unwrap();
        let (accounts, folder) = (accounts.parse().unwrap(), Path::new(folder));
        let step = std::env::var("FROKOST_SCALE_STEP").unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let figures = runtime.block_on(async {
            match step.as_str() {
                "fill" => {
                    fill(folder, accounts).await;
                    Vec::new()
                }
                "rush" => rush(folder, accounts).await,
                "start from the disk" => start(folder, true).await,
                "start" => start(folder, false).await,
                _ => snapshot(folder, accounts).await,
            }
        });
        println!("{}", figures.join(";"));
        if KILLED.contains(&step.as_str()) {
            std::io::stdout().flush().unwrap();
            rustix::process::kill_process(rustix::process::getpid(), Signal::KILL).unwrap();
        }
        return;
    }
    let mut sizes: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![1_000, 10_000, 100_000, 1_000_000];
    }
    let rows = [
        "sales/s while each account is asked now and then",
        "processor time a sale, the asking included, us",
        "actors at the end",
        "resident then, MB",
        "and fifteen seconds later, MB",
        "and the next day, when the keys of this one are forgotten, MB",
        "journal, bytes a sale until it is cut",
        "mirror, bytes a sale for good",
        "statements, bytes a sale for good",
        "start after a kill, files on the disk: snapshot and a million records, s",
        "reading them from the disk, s",
        "start after a kill, files in memory, s",
        "reading the same files, s",
        "their size, MB",
        "resident when idle, MB",
        "p50 / p99 at 20,000 sales/s, ms",
        "the same while a snapshot is made, ms",
        "and again without, ms",
        "and again with, ms",
    ];
    let mut columns: Vec<Vec<String>> = Vec::new();
    for accounts in &sizes {
        let folder = tempfile::tempdir().unwrap();
        child("fill", folder.path(), *accounts);
        let mut column = child("rush", folder.path(), *accounts);
        column.extend(child("start from the disk", folder.path(), *accounts));
        column.extend(child("start", folder.path(), *accounts));
        let pairs = child("snapshot", folder.path(), *accounts);
        column.extend(pairs.chunks(2).map(|pair| pair.join(" / ")));
        columns.push(column);
    }
    println!("| accounts | {} |", sizes.iter().map(u64::to_string).collect::<Vec<_>>().join(" | "));
    println!("|---{}|", "|---".repeat(sizes.len()));
    for (n, row) in rows.iter().enumerate() {
        println!("| {row} | {} |", columns.iter().map(|column| column[n].as_str()).collect::<Vec<_>>().join(" | "));
    }
    let line = |row: usize| -> Vec<(f64, f64)> {
        let figures = sizes.iter().zip(&columns);
        figures.filter_map(|(size, column)| Some((*size as f64, column.get(row)?.parse().ok()?))).collect()
    };
    let place = |text: &str| rows.iter().position(|row| row.starts_with(text)).unwrap();
    let memory = [
        ("after a start, idle", line(place("resident when idle"))),
        ("after a million sales", line(place("resident then"))),
    ];
    plot::draw("memory", "accounts", "megabytes resident", &memory);
    let time = [
        ("start after a kill, from the disk", line(place("start after a kill, files on"))),
        ("reading the same files from the disk", line(place("reading them"))),
    ];
    plot::draw("start", "accounts", "seconds", &time);
    plot::draw("accounts", "accounts", "sales a second", &[("800 in flight", line(place("sales/s")))]);
    plot::draw(
        "accounts-cost",
        "accounts",
        "microseconds of processor a sale",
        &[("800 in flight", line(place("processor")))],
    );
}
