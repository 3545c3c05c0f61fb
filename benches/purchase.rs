//! A purchase through the engine in process: door, actor, committer, journal, answer; without the network, and without what follows behind
//! the journal: no statements, no snapshots (`--bench scale` has those). So many in flight at once, on 100,000 accounts chosen evenly; on
//! sled with fdatasync, with a mirror beside it, on plain files, and on a journal in memory to show what is the disk's share. The floors beside it
//! are ractor alone, an actor for each account that answers and does nothing else, told something and called; and the bytes of one sale's group appended to
//! a file and synced. At the end the three journals have a moment each in turn, with snapshots, as a server has them: what one makes beside another.
//! The journals' threads run where a server puts them; with `ANYWHERE` in the environment, wherever the system does (`docs/adr/0030-near-the-disk.md`).

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "criterion's macros; a bench stops where it is wrong"
)]
#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use frokost_engine::command::Source;
use frokost_engine::journal::Journal;
use frokost_engine::memory_journal::MemoryJournal;
use frokost_engine::memory_snapshots::MemorySnapshots;
use frokost_engine::memory_statements::MemoryStatements;
use frokost_engine::snapshot::Snapshots;
use frokost_engine::statement::{Projection, StatementError};
use frokost_engine::{
    AccountId, Amount, AnswerSink, Caller, CallerHandle, CallerId, CardNumber, Clock, Command, Config, Engine, Lsn,
    OrderNumber, Outcome, Ports, Record, Reply, Role, SchoolId, Sequence, Timestamp,
};
use frokost_persistence::affinity::{Affinity, Placed};
use frokost_persistence::mirrored_journal::Mode;
use frokost_persistence::priority::step_back;
use frokost_persistence::{FileJournal, FileSnapshots, MirroredJournal, SledJournal};
use hdrhistogram::Histogram;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// As the program has it.
#[global_allocator]
static MEMORY: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ACCOUNTS: u64 = 100_000;
/// Bytes of a group with one sale in it.
const GROUP_OF_ONE: usize = 80;
/// So many sales say how long they take.
const TIMED: u64 = 200_000;
/// So often each journal has its turn beside the others, with so many sales.
const TURNS: usize = 30;
const OF_A_TURN: u64 = 60_000;
/// Each comes behind each as often.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [2, 1, 0], [1, 0, 2], [1, 2, 0], [2, 0, 1]];
/// Asked for at once while accounts are opened.
const OPENING: u64 = 900;

/// Somebody who asks and tells how long it took.
type Asking = Pin<Box<dyn Future<Output = Duration> + Send>>;

struct SystemClock(Instant);

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp(u64::try_from(since.as_millis()).unwrap())
    }

    fn running(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Keeps nothing.
struct Nowhere(Lsn);

impl Projection for Nowhere {
    fn watermark(&self) -> Lsn {
        self.0
    }

    fn project(&mut self, records: &[Record]) -> Result<(), StatementError> {
        self.0 = records.last().map_or(self.0, |last| last.lsn);
        Ok(())
    }

    fn durable_watermark(&self) -> Lsn {
        self.0
    }

    fn flush(&mut self) -> Result<(), StatementError> {
        Ok(())
    }
}

fn card(n: u64) -> CardNumber {
    format!("{n:014}").parse().unwrap()
}

async fn engine(journal: Box<dyn Journal>, snapshots: Arc<dyn Snapshots>, config: Config) -> Engine {
    let ports = Ports {
        journal,
        projection: Box::new(Nowhere(Lsn::ZERO)),
        statements: Arc::new(MemoryStatements::default()),
        snapshots,
        room: Arc::new(|| true),
        clock: Arc::new(SystemClock(Instant::now())),
        on_fatal: Arc::new(|why| panic!("{why}")),
    };
    let engine = Engine::start(ports, config).await.unwrap();
    let operator = engine.caller(Caller { id: CallerId(1), role: Role::Operator, school: SchoolId(0) });
    let (to, mut answers) = mpsc::unbounded_channel();
    let to: Arc<dyn AnswerSink> = Arc::new(to);
    let (mut sequence, mut answered) = (0, 0);
    for n in 1..=ACCOUNTS {
        let account = AccountId(n);
        let amount = Amount::from_kroner(10_000);
        for command in [
            Command::Open { account, school: SchoolId(1) },
            Command::BindCard { account, card: card(n) },
            Command::TopUp { account, order: OrderNumber(1), amount, source: Source::Opening },
        ] {
            sequence += 1;
            operator.submit(Sequence(sequence), command, Reply::Stream { to: Arc::clone(&to), tag: sequence });
        }
        while sequence - answered > if n == ACCOUNTS { 0 } else { OPENING } {
            let answer = answers.recv().await;
            assert!(matches!(answer, Some((_, Outcome::Approved(_)))), "{answer:?}");
            answered += 1;
        }
    }
    engine
}

/// What `buy` tells of, with the sale's number.
enum Moment {
    Asked(u64),
    Answered(u64),
}

/// How long sales take, in microseconds: half of them, and all but a hundredth, at most.
async fn take(till: CallerHandle, next: Arc<AtomicU64>, in_flight: u64) -> [u64; 2] {
    let took = Arc::new(Mutex::new(Histogram::<u64>::new(3).unwrap()));
    let counts = Arc::clone(&took);
    let mut since = HashMap::new();
    let moment = move |moment| match moment {
        Moment::Asked(n) => drop(since.insert(n, Instant::now())),
        Moment::Answered(n) => {
            let micros = since.remove(&n).unwrap().elapsed().as_micros();
            counts.lock().unwrap().record(u64::try_from(micros).unwrap()).unwrap();
        }
    };
    buy(till, next, in_flight, TIMED, moment).await;
    let took = took.lock().unwrap();
    [0.5, 0.99].map(|quantile| took.value_at_quantile(quantile))
}

/// Keeps `in_flight` purchases in flight until `rounds` are answered.
async fn buy(
    till: CallerHandle,
    next: Arc<AtomicU64>,
    in_flight: u64,
    rounds: u64,
    mut moment: impl FnMut(Moment) + Send,
) -> Duration {
    let (to, mut answers) = mpsc::unbounded_channel();
    let to: Arc<dyn AnswerSink> = Arc::new(to);
    let submit = |moment: &mut dyn FnMut(Moment)| {
        let n = next.fetch_add(1, Ordering::Relaxed);
        moment(Moment::Asked(n));
        let command = Command::Purchase { card: card(n * 7919 % ACCOUNTS + 1), amount: Amount::from_ore(1) };
        till.submit(Sequence(n), command, Reply::Stream { to: Arc::clone(&to), tag: n });
    };
    let begin = Instant::now();
    let mut asked = 0;
    while asked < rounds.min(in_flight) {
        submit(&mut moment);
        asked += 1;
    }
    let mut many = Vec::with_capacity(256);
    let mut answered = 0;
    while answered < rounds {
        answered += answers.recv_many(&mut many, 256).await as u64;
        for (n, outcome) in many.drain(..) {
            assert!(matches!(outcome, Outcome::Approved(_)), "{outcome:?}");
            moment(Moment::Answered(n));
            if asked < rounds {
                submit(&mut moment);
                asked += 1;
            }
        }
    }
    begin.elapsed()
}

/// Answers its message.
struct Echo;

type EchoRef = ActorRef<Said>;

enum Said {
    Told(u64, mpsc::UnboundedSender<u64>),
    Called(RpcReplyPort<u64>),
}

impl Actor for Echo {
    type Msg = Said;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Said>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Said>, said: Said, (): &mut ()) -> Result<(), ActorProcessingErr> {
        // Whoever asked may have stopped listening.
        match said {
            Said::Told(n, to) => drop(to.send(n)),
            Said::Called(to) => drop(to.send(0)),
        }
        Ok(())
    }
}

/// Calls one actor after the other and waits for its answer.
async fn call(actors: Arc<[EchoRef]>, rounds: u64) -> Duration {
    let begin = Instant::now();
    for n in 0..rounds {
        let actor = actors.get(usize::try_from(n * 7919 % ACCOUNTS).unwrap()).unwrap();
        ractor::call!(actor, Said::Called).unwrap();
    }
    begin.elapsed()
}

/// Keeps `in_flight` messages in flight until `rounds` are answered.
async fn tell(actors: Arc<[EchoRef]>, in_flight: u64, rounds: u64) -> Duration {
    let (to, mut answers) = mpsc::unbounded_channel();
    let ask = |n: u64| {
        let actor = actors.get(usize::try_from(n * 7919 % ACCOUNTS).unwrap()).unwrap();
        actor.cast(Said::Told(n, to.clone())).unwrap();
    };
    let begin = Instant::now();
    let mut asked = 0;
    while asked < rounds.min(in_flight) {
        ask(asked);
        asked += 1;
    }
    let mut many = Vec::with_capacity(256);
    let mut answered = 0;
    while answered < rounds {
        answered += answers.recv_many(&mut many, 256).await as u64;
        for _ in many.drain(..) {
            if asked < rounds {
                ask(asked);
                asked += 1;
            }
        }
    }
    begin.elapsed()
}

fn purchase(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut group = criterion.benchmark_group("purchase in process");
    group.throughput(Throughput::Elements(1)).sample_size(10).measurement_time(Duration::from_secs(5));
    // Whoever asks is a task among the others, as a till's session is.
    let run = |asking: Asking| runtime.block_on(async { tokio::spawn(asking).await.unwrap() });
    let actors: Arc<[_]> = runtime.block_on(async {
        let mut actors = Vec::new();
        for _ in 0..ACCOUNTS {
            actors.push(Actor::spawn(None, Echo, ()).await.unwrap().0);
        }
        actors.into()
    });
    for in_flight in [1, 64, 1000] {
        group.bench_with_input(BenchmarkId::new("floor: ractor alone", in_flight), &in_flight, |bench, in_flight| {
            bench.iter_custom(|rounds| run(Box::pin(tell(Arc::clone(&actors), *in_flight, rounds))));
        });
    }
    group.bench_function(BenchmarkId::new("floor: ractor called", 1), |bench| {
        bench.iter_custom(|rounds| run(Box::pin(call(Arc::clone(&actors), rounds))));
    });
    for actor in actors.iter() {
        actor.stop(None);
    }
    let folder = tempfile::tempdir().unwrap();
    let mut file = File::create(folder.path().join("floor")).unwrap();
    group.bench_function(BenchmarkId::new("floor: a file that grows, fdatasync", 1), |bench| {
        bench.iter(|| {
            file.write_all(&[1; GROUP_OF_ONE]).unwrap();
            file.sync_data().unwrap();
        });
    });
    let affinity = Affinity::measured(folder.path()).unwrap().map(|(affinity, _)| affinity);
    let affinity = affinity.filter(|_| std::env::var_os("ANYWHERE").is_none());
    let memory: (&str, Box<dyn Journal>) = ("in memory, not durable", Box::new(MemoryJournal::default()));
    for (name, journal) in journals(&folder.path().join("alone"), affinity.as_ref()).into_iter().chain([memory]) {
        let without_snapshots = Config { snapshot_every: 0, ..Config::default() };
        let engine = runtime.block_on(engine(journal, Arc::new(MemorySnapshots::default()), without_snapshots));
        let (till, next) = till_of(&engine);
        for in_flight in [1, 64, 1000] {
            group.bench_with_input(BenchmarkId::new(name, in_flight), &in_flight, |bench, in_flight| {
                bench.iter_custom(|rounds| {
                    run(Box::pin(buy(till.clone(), Arc::clone(&next), *in_flight, rounds, |_| {})))
                });
            });
        }
        let [p50, p99] = runtime.block_on(async { tokio::spawn(take(till, next, 1000)).await.unwrap() });
        println!("{name}, 1000 in flight: p50 {p50} us, p99 {p99} us");
        runtime.block_on(engine.shutdown());
    }
    group.finish();
    in_turn(&folder.path().join("in turn"), affinity.as_ref(), &runtime);
}

/// What one journal makes beside another, as a server has them: a moment of each in turn, since these machines change within seconds, and each
/// follows on each as often. What one does behind its sales, in pieces and at rest in between, falls partly into the others' turns.
fn in_turn(folder: &Path, affinity: Option<&Affinity>, runtime: &Runtime) {
    let engines = journals(folder, affinity).map(|(name, journal)| {
        let snapshots = FileSnapshots::open(&folder.join(name).join("snapshots")).unwrap();
        let config = Config { step_back: Some(Arc::new(step_back)), ..Config::default() };
        runtime.block_on(engine(journal, Arc::new(snapshots), config))
    });
    let tills = engines.each_ref().map(till_of);
    for in_flight in [64, 1000] {
        let rates: Vec<[f64; 3]> = (0..TURNS)
            .map(|turn| {
                let mut rates = [0.0; 3];
                for which in ORDERS[turn % ORDERS.len()] {
                    let (till, next) = tills[which].clone();
                    let buying = buy(till, next, in_flight, OF_A_TURN, |_| {});
                    let took = runtime.block_on(async { tokio::spawn(buying).await.unwrap() });
                    rates[which] = OF_A_TURN as f64 / took.as_secs_f64();
                }
                rates
            })
            .collect();
        println!(
            "{in_flight} in flight, {TURNS} times {OF_A_TURN} sales of each in turn: the middle one (a quarter less, a quarter more)"
        );
        quartiles("sled, sales/s", 0, rates.iter().map(|[sled, ..]| *sled));
        quartiles("sled and its mirror, sales/s", 0, rates.iter().map(|[_, mirrored, _]| *mirrored));
        quartiles("plain files, sales/s", 0, rates.iter().map(|[.., files]| *files));
        quartiles("sled beside plain files", 3, rates.iter().map(|[sled, _, files]| sled / files));
        quartiles("with its mirror beside sled", 3, rates.iter().map(|[sled, mirrored, _]| mirrored / sled));
    }
    for engine in engines {
        runtime.block_on(engine.shutdown());
    }
}

/// The durable journals in a folder.
fn journals(folder: &Path, affinity: Option<&Affinity>) -> [(&'static str, Box<dyn Journal>); 3] {
    let sled = |name: &str| SledJournal::open(&folder.join(name)).unwrap().near(affinity);
    let files = |name: &str| FileJournal::open(&folder.join(name)).unwrap();
    let mirrored = MirroredJournal::new(sled("beside a mirror"), files("mirror"), Mode::Sync, None).near(affinity);
    let placed = |journal| Placed::around(journal, affinity);
    [
        ("sled, fdatasync", placed(Box::new(sled("alone")))),
        ("sled and its mirror", placed(Box::new(mirrored))),
        ("plain files", placed(Box::new(files("files")))),
    ]
}

/// A till of this engine, and the number of its next sale.
fn till_of(engine: &Engine) -> (CallerHandle, Arc<AtomicU64>) {
    let caller = Caller { id: CallerId(2), role: Role::Till, school: SchoolId(1) };
    (engine.caller(caller), Arc::new(AtomicU64::new(1)))
}

/// Prints the middle one and those a quarter of the way from either end.
fn quartiles(what: &str, digits: usize, numbers: impl Iterator<Item = f64>) {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    let [low, middle, high] = [1, 2, 3].map(|part| numbers[numbers.len() * part / 4]);
    println!("    {what}: {middle:.digits$} ({low:.digits$} to {high:.digits$})");
}

criterion_group!(benches, purchase);
criterion_main!(benches);
