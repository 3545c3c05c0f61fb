//! What every story needs: a clock that stands where it is put, and an engine on a journal that outlives it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use frokost_engine::command::Source;
use frokost_engine::journal::{AppendError, Claim, Journal, JournalError, JournalReader, Records, Shard};
use frokost_engine::memory_journal::MemoryJournal;
use frokost_engine::memory_snapshots::MemorySnapshots;
use frokost_engine::memory_statements::MemoryStatements;
use frokost_engine::{
    AccountId, Amount, Caller, CallerHandle, CallerId, CardNumber, Clock, Command, Config, Engine, Fatal, Lsn,
    OrderNumber, Outcome, Ports, Record, Rejection, Role, SchoolId, Sequence, Timestamp,
};

pub struct StoppedClock {
    passed: AtomicU64,
    /// How far it is ahead of that.
    jumped: AtomicU64,
}

impl StoppedClock {
    /// So many milliseconds pass.
    pub fn later(&self, millis: u64) {
        self.passed.fetch_add(millis, Ordering::SeqCst);
    }

    /// It says that so many milliseconds have passed, which have not.
    pub fn jump(&self, millis: u64) {
        self.jumped.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.passed.load(Ordering::SeqCst) + self.jumped.load(Ordering::SeqCst))
    }

    fn running(&self) -> Duration {
        Duration::from_millis(self.passed.load(Ordering::SeqCst))
    }
}

/// An engine, and what is left when it is gone.
pub struct World {
    pub journal: MemoryJournal,
    pub snapshots: MemorySnapshots,
    pub statements: MemoryStatements,
    /// Is there room on the disk?
    pub room: Arc<AtomicBool>,
    /// Whoever asks the disk for room gets no answer.
    pub disk_hangs: Arc<AtomicBool>,
    pub clock: Arc<StoppedClock>,
    pub fatal: Arc<Mutex<Option<Fatal>>>,
    pub config: Config,
}

impl World {
    pub fn new() -> World {
        World {
            journal: MemoryJournal::default(),
            snapshots: MemorySnapshots::default(),
            statements: MemoryStatements::default(),
            room: Arc::new(AtomicBool::new(true)),
            disk_hangs: Arc::new(AtomicBool::new(false)),
            clock: Arc::new(StoppedClock { passed: AtomicU64::new(1_790_000_000_000), jumped: AtomicU64::new(0) }),
            fatal: Arc::default(),
            config: Config::default(),
        }
    }

    pub async fn start(&self) -> Engine {
        self.start_on(Box::new(self.journal.clone())).await
    }

    pub async fn start_on(&self, journal: Box<dyn Journal>) -> Engine {
        self.start_with(journal, self.clock.clone()).await
    }

    pub async fn start_with(&self, journal: Box<dyn Journal>, clock: Arc<dyn Clock>) -> Engine {
        let statements = self.statements.clone();
        let fatal = Arc::clone(&self.fatal);
        let (room, disk_hangs) = (Arc::clone(&self.room), Arc::clone(&self.disk_hangs));
        let ports = Ports {
            journal,
            projection: Box::new(statements.clone()),
            statements: Arc::new(statements),
            snapshots: Arc::new(self.snapshots.clone()),
            room: Arc::new(move || {
                while disk_hangs.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                room.load(Ordering::SeqCst)
            }),
            clock,
            on_fatal: Arc::new(move |why| *fatal.lock().unwrap() = Some(why)),
        };
        Engine::start(ports, self.config.clone()).await.unwrap()
    }

    /// An engine with one open account that has a card and `kroner`.
    pub async fn with_pupil(&self, kroner: i64) -> (Engine, CallerHandle) {
        let engine = self.start().await;
        let till = open_pupil(&engine, kroner).await;
        (engine, till)
    }
}

/// Opens an account that has a card and `kroner`; returns a till.
pub async fn open_pupil(engine: &Engine, kroner: i64) -> CallerHandle {
    let operator = operator(engine);
    approved(operator.ask(Sequence(1), Command::Open { account: PUPIL, school: SCHOOL }).await);
    approved(operator.ask(Sequence(2), Command::BindCard { account: PUPIL, card: card(1) }).await);
    approved(operator.ask(Sequence(3), top_up(1, kroner)).await);
    till(engine)
}

pub const PUPIL: AccountId = AccountId(1);
pub const SCHOOL: SchoolId = SchoolId(1);

pub fn card(n: u32) -> CardNumber {
    format!("{n:014}").parse().unwrap()
}

pub fn operator(engine: &Engine) -> CallerHandle {
    engine.caller(Caller { id: CallerId(1), role: Role::Operator, school: SchoolId(0) })
}

pub fn till(engine: &Engine) -> CallerHandle {
    engine.caller(Caller { id: CallerId(2), role: Role::Till, school: SCHOOL })
}

pub fn buy(kroner: i64) -> Command {
    Command::Purchase { card: card(1), amount: Amount::from_kroner(kroner) }
}

pub fn top_up(order: u64, kroner: i64) -> Command {
    let amount = Amount::from_kroner(kroner);
    Command::TopUp { account: PUPIL, order: OrderNumber(order), amount, source: Source::Provider }
}

pub fn approved(outcome: Outcome) -> Amount {
    match outcome {
        Outcome::Approved(receipt) => receipt.balance,
        other => panic!("not approved: {other:?}"),
    }
}

pub fn rejected(outcome: Outcome) -> Rejection {
    match outcome {
        Outcome::Rejected(why) => why,
        other => panic!("not rejected: {other:?}"),
    }
}

/// A journal whose appends panic.
pub struct Panicking(pub MemoryJournal);

impl Journal for Panicking {
    fn claim(&mut self, shard: Shard, owner: &str) -> Result<Claim, JournalError> {
        self.0.claim(shard, owner)
    }

    fn append(&mut self, _: &Claim, _: Lsn, _: &[Record]) -> Result<Lsn, AppendError> {
        panic!("the store panics")
    }

    fn truncate_before(&mut self, claim: &Claim, before: Lsn) -> Result<bool, AppendError> {
        self.0.truncate_before(claim, before)
    }

    fn reader(&self) -> Arc<dyn JournalReader> {
        self.0.reader()
    }
}

/// A journal that panics when it is cut.
pub struct PanickingCut(pub MemoryJournal);

impl Journal for PanickingCut {
    fn claim(&mut self, shard: Shard, owner: &str) -> Result<Claim, JournalError> {
        self.0.claim(shard, owner)
    }

    fn append(&mut self, claim: &Claim, expected: Lsn, records: &[Record]) -> Result<Lsn, AppendError> {
        self.0.append(claim, expected, records)
    }

    fn truncate_before(&mut self, _: &Claim, _: Lsn) -> Result<bool, AppendError> {
        panic!("no scissors")
    }

    fn reader(&self) -> Arc<dyn JournalReader> {
        self.0.reader()
    }
}

/// A journal whose appends wait at a gate.
pub struct Gated {
    pub journal: MemoryJournal,
    pub gate: Gate,
}

#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<u64>, Condvar)>);

impl Gate {
    /// For everyone, or for nobody.
    pub fn open(&self, open: bool) {
        self.let_in(if open { u64::MAX } else { 0 });
    }

    /// For so many.
    pub fn let_in(&self, many: u64) {
        *self.0.0.lock().unwrap() = many;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let mut left = self.0.1.wait_while(self.0.0.lock().unwrap(), |left| *left == 0).unwrap();
        *left = if *left == u64::MAX { u64::MAX } else { *left - 1 };
    }
}

impl Journal for Gated {
    fn claim(&mut self, shard: Shard, owner: &str) -> Result<Claim, JournalError> {
        self.journal.claim(shard, owner)
    }

    fn append(&mut self, claim: &Claim, expected: Lsn, records: &[Record]) -> Result<Lsn, AppendError> {
        self.gate.pass();
        self.journal.append(claim, expected, records)
    }

    fn truncate_before(&mut self, claim: &Claim, before: Lsn) -> Result<bool, AppendError> {
        self.journal.truncate_before(claim, before)
    }

    fn reader(&self) -> Arc<dyn JournalReader> {
        self.journal.reader()
    }
}

/// A journal that is cut at the worst of moments, when somebody has begun to read it, or that cannot be read then.
#[derive(Clone, Default)]
pub struct Disturbed {
    pub journal: MemoryJournal,
    claim: Arc<Mutex<Option<Claim>>>,
    disturbance: Arc<Mutex<Option<Disturbance>>>,
}

/// Returns where to cut, or why it cannot be read.
type Disturbance = Box<dyn FnOnce() -> Result<Lsn, JournalError> + Send>;

impl Disturbed {
    /// For the next that reads.
    pub fn next_time(&self, disturbance: impl FnOnce() -> Result<Lsn, JournalError> + Send + 'static) {
        *self.disturbance.lock().unwrap() = Some(Box::new(disturbance));
    }
}

impl Journal for Disturbed {
    fn claim(&mut self, shard: Shard, owner: &str) -> Result<Claim, JournalError> {
        let claim = self.journal.claim(shard, owner)?;
        *self.claim.lock().unwrap() = Some(claim);
        Ok(claim)
    }

    fn append(&mut self, claim: &Claim, expected: Lsn, records: &[Record]) -> Result<Lsn, AppendError> {
        self.journal.append(claim, expected, records)
    }

    fn truncate_before(&mut self, claim: &Claim, before: Lsn) -> Result<bool, AppendError> {
        self.journal.truncate_before(claim, before)
    }

    fn reader(&self) -> Arc<dyn JournalReader> {
        Arc::new(self.clone())
    }
}

impl JournalReader for Disturbed {
    fn read_from(&self, from: Lsn) -> Records<'_> {
        if let Some(disturbance) = self.disturbance.lock().unwrap().take() {
            let claim = self.claim.lock().unwrap().unwrap();
            match disturbance() {
                Ok(cut) => drop(self.journal.clone().truncate_before(&claim, cut).unwrap()),
                Err(why) => return Box::new(std::iter::once(Err(why))),
            }
        }
        self.journal.read_from(from)
    }

    fn first(&self) -> Result<Lsn, JournalError> {
        self.journal.first()
    }
}
