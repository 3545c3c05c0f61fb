//! The engine as its users see it: started from a journal, asked through a [`CallerHandle`], shut down in order. This is
//! the door: permits are taken, keys looked up and refusals that concern no account made here, before anything is queued.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use dashmap::DashMap;
use ractor::{Actor, ActorRef, ActorRuntime};
use tokio::sync::{oneshot, watch};

use crate::account::Account;
use crate::actors::account::{AccountActor, AccountCell, AccountMessage, CommandMessage};
use crate::actors::supervisor::Supervisor;
use crate::amount::Amount;
use crate::caller::{Caller, Role};
use crate::command::{Command, Query};
use crate::committer::{Committer, Draft, Item};
use crate::dedup::Seen;
use crate::directory::{Directory, Reserved};
use crate::entry::{Entry, Record};
use crate::id::{AccountId, CallerId, Lsn, RequestKey, Sequence};
use crate::journal::{AppendError, Journal, JournalError, JournalReader, Shard};
use crate::outcome::Outcome;
use crate::pending::{Pending, Reply, SharedWindow, Ticket, Waiter, lock};
use crate::permits::Permits;
use crate::projector::Projector;
use crate::recovery::{Recovered, recover};
use crate::rejection::Rejection;
use crate::rules::Rules;
use crate::statement::{Projection, Statement, StatementError, Statements};
use crate::time::{Clock, Month};

/// Called with every command right before it is decided; may panic. For fault tests.
pub type Probe = Arc<dyn Fn(&Command) + Send + Sync>;

/// How an engine is set up.
#[derive(Clone)]
pub struct Config {
    /// The bounds of every decision.
    pub rules: Rules,
    /// How many requests may be in flight; over it the answer is [`Outcome::Busy`].
    pub permits: usize,
    /// The most entries of one group, and so of one flush.
    pub group_limit: usize,
    /// An actor that nobody asks for this long, and up to twice as long, is retired.
    pub idle_after: Duration,
    /// See [`Probe`].
    pub probe: Option<Probe>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            rules: Rules::default(),
            permits: 16_384,
            group_limit: 512,
            idle_after: Duration::from_secs(30),
            probe: None,
        }
    }
}

/// Why the engine can do nothing more. The process has to end and recover.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The journal refused a group.
    #[error("{0}")]
    Journal(AppendError),
}

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal is damaged or in use.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A thread or actor could not be started.
    #[error("the engine cannot start its {0}: {1}")]
    Spawn(&'static str, String),
}

/// What an engine is connected to.
pub struct Ports {
    /// Where entries are kept.
    pub journal: Box<dyn Journal>,
    /// Where statements are written.
    pub projection: Box<dyn Projection>,
    /// Where statements are read.
    pub statements: Arc<dyn Statements>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Told once, from the committer's thread, when the journal fails. The program exits in it.
    pub on_fatal: Arc<dyn Fn(Fatal) + Send + Sync>,
}

/// What the door, the actors and the threads share.
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rules: Rules,
    pub(crate) probe: Option<Probe>,
    pub(crate) directory: Directory<Box<Account>, ActorRef<AccountMessage>>,
    pub(crate) reader: Arc<dyn JournalReader>,
    queue: mpsc::Sender<Item>,
    permits: Arc<Permits>,
    windows: DashMap<CallerId, SharedWindow>,
    durable: watch::Receiver<Lsn>,
    projected: watch::Receiver<Lsn>,
    statements: Arc<dyn Statements>,
    closing: AtomicBool,
}

impl Shared {
    /// Gives the committer something to do. After it has stopped, what is given is dropped and so answered `Unavailable`.
    pub(crate) fn commit(&self, item: Item) {
        drop(self.queue.send(item));
    }
}

/// A running engine. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    supervisor: ActorRef<()>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Engine {
    /// Claims the journal, recovers from it and starts. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] where the journal is in use, damaged or unreadable; nothing has changed then.
    pub async fn start(ports: Ports, config: Config) -> Result<Engine, StartError> {
        let Ports { mut journal, projection, statements, clock, on_fatal } = ports;
        let reader = journal.reader();
        let claim = journal.claim(Shard(0), "engine")?;
        let Recovered { directory, windows, records } = recover(reader.as_ref(), claim.head, &config.rules)?;
        tracing::info!(records, accounts = directory.len(), "recovered");

        let (queue, items) = mpsc::channel();
        let (groups, projector_queue) = mpsc::sync_channel(1024);
        let (durable, durable_now) = watch::channel(claim.head);
        let (projected, projected_now) = watch::channel(projection.watermark());
        let shared = Arc::new(Shared {
            clock,
            rules: config.rules,
            probe: config.probe,
            directory,
            reader: Arc::clone(&reader),
            queue,
            permits: Permits::new(config.permits),
            windows: windows.into_iter().collect(),
            durable: durable_now.clone(),
            projected: projected_now,
            statements,
            closing: AtomicBool::new(false),
        });
        let committer = Committer {
            journal,
            claim,
            queue: items,
            group_limit: config.group_limit,
            key_memory_ms: config.rules.key_memory_ms,
            durable,
            projector: groups,
            on_fatal,
        };
        let projector = Projector { projection, reader, groups: projector_queue, durable: durable_now, projected };
        let threads = vec![
            spawn_thread("committer", move || committer.run())?,
            spawn_thread("projector", move || projector.run())?,
        ];
        let (supervisor, _) = Actor::spawn(None, Supervisor { shared: Arc::clone(&shared) }, ())
            .await
            .map_err(|error| StartError::Spawn("supervisor", error.to_string()))?;
        tokio::spawn(sweep(Arc::downgrade(&shared), config.idle_after));
        Ok(Engine { shared, supervisor, threads: Arc::new(Mutex::new(threads)) })
    }

    /// The way in for one caller. Its sessions share one window of keys.
    #[must_use]
    pub fn caller(&self, caller: Caller) -> CallerHandle {
        let window = Arc::clone(&self.shared.windows.entry(caller.id).or_default());
        CallerHandle { engine: self.clone(), caller, window }
    }

    /// The last durable record.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        *self.shared.durable.borrow()
    }

    /// How many accounts there are.
    #[must_use]
    pub fn accounts(&self) -> usize {
        self.shared.directory.len()
    }

    /// How many requests are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.permits.taken()
    }

    /// Up to `most` durable records from `from` on. Reads storage: not for the hot path.
    ///
    /// # Errors
    /// [`JournalError`] where the journal cannot be read.
    pub async fn records(&self, from: Lsn, most: usize) -> Result<Vec<Record>, JournalError> {
        let durable = self.durable();
        let reader = Arc::clone(&self.shared.reader);
        let read = move || {
            reader.read_from(from).take_while(|r| r.as_ref().map_or(true, |r| r.lsn <= durable)).take(most).collect()
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(records) => records,
            Err(error) => Err(JournalError::Storage(error.to_string())),
        }
    }

    /// Lets nobody in any more, waits until everyone inside is answered, makes everything durable and stops.
    pub async fn shutdown(&self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        while self.shared.permits.taken() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.shared.commit(Item::Stop);
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("an engine thread panicked");
                }
            }
        });
        if joined.await.is_err() {
            tracing::error!("waiting for the engine's threads panicked");
        }
        // No permit is out, so no mailbox has a message: nothing is lost by stopping.
        self.supervisor.stop(None);
    }

    fn spawn_account(&self, cell: &Arc<AccountCell>, account: Box<Account>) -> ActorRef<AccountMessage> {
        let actor = AccountActor { shared: Arc::clone(&self.shared), cell: Arc::clone(cell) };
        let (actor, _starting) = ActorRuntime::spawn_linked_instant(None, actor, account, self.supervisor.get_cell())
            .expect("an actor without a name can always be started");
        actor
    }

    /// Puts a message into an account's mailbox. If its actor has fallen, the message is dropped, which answers it.
    fn tell(&self, cell: &Arc<AccountCell>, message: AccountMessage) {
        let mut message = Some(message);
        cell.send(
            |account| self.spawn_account(cell, account),
            |actor| {
                if let Some(message) = message.take() {
                    drop(actor.cast(message));
                }
            },
        );
    }
}

fn spawn_thread(name: &'static str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new()
        .name(format!("frokost-{name}"))
        .spawn(run)
        .map_err(|error| StartError::Spawn(name, error.to_string()))
}

/// Retires the actors that nobody has asked since the last sweep.
async fn sweep(shared: std::sync::Weak<Shared>, idle_after: Duration) {
    let mut ticks = tokio::time::interval(idle_after);
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        if shared.closing.load(Ordering::SeqCst) {
            return;
        }
        let idle: Vec<_> = shared.directory.cells().iter().filter_map(|cell| cell.idle_actor()).collect();
        for actor in idle {
            // An actor that is gone already needs no retiring.
            drop(actor.cast(AccountMessage::Retire));
        }
    }
}

/// One caller's way into the engine.
#[derive(Clone)]
pub struct CallerHandle {
    engine: Engine,
    caller: Caller,
    window: SharedWindow,
}

impl CallerHandle {
    /// Who it is.
    #[must_use]
    pub fn caller(&self) -> Caller {
        self.caller
    }

    /// Asks for a command under the caller's own number `sequence`. Returns at once; the answer comes through
    /// `reply` when what it rests on is durable.
    pub fn submit(&self, sequence: Sequence, command: Command, reply: Reply) {
        if !self.caller.role.may(&command) {
            return reply.send(Outcome::Rejected(Rejection::NotAllowed));
        }
        let Some(waiter) = self.enter(reply) else { return };
        let fingerprint = command.fingerprint();
        let ordered = self.caller.role == Role::Till;
        let seen = lock(&self.window).begin(sequence, fingerprint, ordered, waiter);
        let waiter = match seen {
            Seen::New(waiter) => waiter,
            Seen::Waiting => return,
            Seen::Before(waiter, outcome) => return waiter.answer(outcome),
            Seen::Refused(waiter, rejection) => return waiter.answer(Outcome::Rejected(rejection)),
            Seen::Undecided(waiter) => return waiter.answer(Outcome::Busy),
        };
        let ticket = Ticket { window: Arc::clone(&self.window), sequence, fingerprint };
        let pending = Pending::new(waiter, Some(ticket));
        let key = RequestKey { caller: self.caller.id, sequence };
        match self.route(&command) {
            Ok((cell, reserved)) => {
                let message = CommandMessage { caller: self.caller, key, fingerprint, command, reserved, pending };
                self.engine.tell(&cell, AccountMessage::Command(message));
            }
            Err(rejection) => {
                // No account decides this, so it is journalled from here: the same key is refused the same way for ever.
                let draft = Draft {
                    at: self.engine.shared.clock.now(),
                    key,
                    fingerprint,
                    account: AccountId(0),
                    balance: Amount::ZERO,
                    entry: Entry::Refused { rejection },
                };
                self.engine.shared.commit(Item::Commit(draft, pending));
            }
        }
    }

    /// Like [`CallerHandle::submit`], and waits for the answer. `Unavailable` if the engine falls meanwhile.
    pub async fn ask(&self, sequence: Sequence, command: Command) -> Outcome {
        let (to, answer) = oneshot::channel();
        self.submit(sequence, command, Reply::Once(to));
        answer.await.unwrap_or(Outcome::Unavailable)
    }

    /// Asks for a balance; statements come from [`CallerHandle::statement`]. A query by card or account is answered
    /// when everything that made up the balance is durable.
    pub fn query(&self, query: Query, reply: Reply) {
        if !self.caller.role.may_query(&query) {
            return reply.send(Outcome::Rejected(Rejection::NotAllowed));
        }
        let Some(waiter) = self.enter(reply) else { return };
        let directory = &self.engine.shared.directory;
        let (cell, unknown) = match query {
            Query::CardBalance { card } => (directory.by_card(&card), Rejection::UnknownCard),
            Query::AccountBalance { account } | Query::Statement { account, .. } => {
                (directory.by_account(account), Rejection::UnknownAccount)
            }
        };
        let pending = Pending::new(waiter, None);
        match cell {
            Some(cell) => self.engine.tell(&cell, AccountMessage::View(pending)),
            None => self.engine.shared.commit(Item::Answer(Outcome::Rejected(unknown), pending)),
        }
    }

    /// Like [`CallerHandle::query`], and waits for the answer.
    pub async fn view(&self, query: Query) -> Outcome {
        let (to, answer) = oneshot::channel();
        self.query(query, Reply::Once(to));
        answer.await.unwrap_or(Outcome::Unavailable)
    }

    /// An account's month, with everything in it that was durable when it was asked for.
    ///
    /// # Errors
    /// The outcome that came instead: a rejection, `Busy`, or `Unavailable` where statements cannot be read.
    pub async fn statement(&self, account: AccountId, month: Month) -> Result<Statement, Outcome> {
        match self.view(Query::Statement { account, month }).await {
            Outcome::View(view) if !self.caller.serves(view.school) => {
                return Err(Outcome::Rejected(Rejection::OtherSchool));
            }
            Outcome::View(_) => {}
            other @ (Outcome::Approved(_) | Outcome::Rejected(_) | Outcome::Busy | Outcome::Unavailable) => {
                return Err(other);
            }
        }
        let shared = &self.engine.shared;
        let durable = self.engine.durable();
        let mut projected = shared.projected.clone();
        let caught_up = async { projected.wait_for(|lsn| *lsn >= durable).await.is_ok() };
        if !matches!(tokio::time::timeout(Duration::from_secs(5), caught_up).await, Ok(true)) {
            return Err(Outcome::Unavailable);
        }
        let statements = Arc::clone(&shared.statements);
        let read = tokio::task::spawn_blocking(move || -> Result<Statement, StatementError> {
            Ok(Statement { months: statements.months(account)?, postings: statements.postings(account, month)? })
        });
        match read.await {
            Ok(Ok(statement)) => Ok(statement),
            Ok(Err(error)) => {
                tracing::error!(%error, "a statement cannot be read");
                Err(Outcome::Unavailable)
            }
            Err(_) => Err(Outcome::Unavailable),
        }
    }

    /// A permit for a reply, or the reply sent off.
    fn enter(&self, reply: Reply) -> Option<Waiter> {
        let shared = &self.engine.shared;
        let Some(permit) = shared.permits.try_take() else {
            metrics::counter!("frokost_answers_total", "outcome" => "busy").increment(1);
            reply.send(Outcome::Busy);
            return None;
        };
        // Looked at after the permit is taken: a shutdown either sees the permit or is seen here.
        if shared.closing.load(Ordering::SeqCst) {
            drop(permit);
            reply.send(Outcome::Unavailable);
            return None;
        }
        Some(Waiter { reply, permit })
    }

    /// Which account decides a command, and whether a card was reserved for it.
    fn route(&self, command: &Command) -> Result<(Arc<AccountCell>, bool), Rejection> {
        let directory = &self.engine.shared.directory;
        match *command {
            Command::Purchase { card, .. } | Command::Refund { card, .. } => {
                directory.by_card(&card).map(|cell| (cell, false)).ok_or(Rejection::UnknownCard)
            }
            // Account 0 is the mark of records that concern no account.
            Command::Open { account: AccountId(0), .. } => Err(Rejection::UnknownAccount),
            Command::Open { account, .. } => {
                Ok((directory.get_or_insert(account, || Box::new(Account::unopened(account))), false))
            }
            Command::BindCard { account, card } => {
                let cell = directory.by_account(account).ok_or(Rejection::UnknownAccount)?;
                match directory.reserve(card, &cell) {
                    Reserved::New => Ok((cell, true)),
                    Reserved::Already => Ok((cell, false)),
                    Reserved::Taken => Err(Rejection::CardTaken),
                }
            }
            Command::TopUp { account, .. }
            | Command::Block { account }
            | Command::Activate { account }
            | Command::SetDailyLimit { account, .. } => {
                directory.by_account(account).map(|cell| (cell, false)).ok_or(Rejection::UnknownAccount)
            }
        }
    }
}
