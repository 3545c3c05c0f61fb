//! The engine as its owner sees it: started from a journal, asked through a [`CallerHandle`], shut down in order. It wires actors,
//! committer and projector together and decides nothing.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use dashmap::DashMap;
use ractor::{Actor, ActorRef, ActorRuntime};
use tokio::sync::watch;

use crate::account::Account;
use crate::actors::account::{AccountActor, AccountCell, AccountMessage, Delivery};
use crate::actors::pool::Pool;
use crate::actors::supervisor::Supervisor;
use crate::caller::Caller;
use crate::command::Command;
use crate::committer::{Committer, Item};
use crate::committer_queue::{self, Giver};
use crate::dedup::Window;
use crate::directory::Directory;
use crate::door::CallerHandle;
use crate::entry::Record;
use crate::forgetting::{Forgetting, Old};
use crate::id::{CallerId, Lsn};
use crate::journal::{AppendError, Journal, JournalError, JournalReader, Records, Shard};
use crate::ledger_state::LedgerState;
use crate::pending::CallerState;
use crate::permits::Permits;
use crate::projector::{FLUSH_AFTER, Projector};
use crate::read_ahead::ReadAhead;
use crate::recovery::{Recovered, ready};
use crate::releaser::release;
use crate::rules::Rules;
use crate::snapshot::Snapshots;
use crate::snapshotter::Snapshotter;
use crate::statement::{Projection, Statements};
use crate::time::Clock;
use crate::watchdog::{Busy, RoomWatch, Watchdog};
use crate::wishes::Wishes;

/// Called with every command right before it is decided; may panic. For fault tests.
pub type Probe = Arc<dyn Fn(&Command) + Send + Sync>;

/// Called by a thread that nobody waits for, before it works: to give it a low priority where the system has such a thing.
pub type StepBack = Arc<dyn Fn() + Send + Sync>;

/// How an engine is set up.
#[derive(Clone)]
pub struct Config {
    /// The bounds of every decision.
    pub rules: Rules,
    /// How many requests may be in flight; over it the answer is [`Outcome::Busy`].
    pub permits: usize,
    /// How many of them one caller may have, so that one that floods leaves room for the others.
    pub permits_per_caller: usize,
    /// The most entries of one group, and so of one flush.
    pub group_limit: usize,
    /// A snapshot is made after so many records, or as many as there are accounts if that is more; 0 for never.
    pub snapshot_every: u64,
    /// A journal that has not come back after this long never will: the process has to end.
    pub hung_after: Duration,
    /// See [`StepBack`].
    pub step_back: Option<StepBack>,
    /// See [`Probe`].
    pub probe: Option<Probe>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            rules: Rules::default(),
            permits: 16_384,
            permits_per_caller: 1_024,
            group_limit: 512,
            snapshot_every: 250_000,
            hung_after: Duration::from_secs(30),
            step_back: None,
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
    /// What writes the journal, or what lets its answers go, panicked.
    #[error("the engine panicked while it wrote the journal or let answers go")]
    Panicked,
    /// The thread that owns the journal does not come back.
    #[error("the journal has not answered for {} seconds", .0.as_secs())]
    Hung(Duration),
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

/// How often actors that nobody needs and keys that are too old are let go.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// So many callers' keys are looked at each time.
const WINDOWS_AT_ONCE: usize = 128;
/// So many keys of a caller are looked at in one go, while it waits: less than a millisecond.
const FORGOTTEN_AT_ONCE: usize = 16_384;

/// What an engine is connected to.
pub struct Ports {
    /// Where entries are kept.
    pub journal: Box<dyn Journal>,
    /// Where statements are written.
    pub projection: Box<dyn Projection>,
    /// Where statements are read.
    pub statements: Arc<dyn Statements>,
    /// Where snapshots are kept.
    pub snapshots: Arc<dyn Snapshots>,
    /// Is there room on the disk? Asked a few times a second; while there is none, nothing new is let in.
    pub room: Arc<dyn Fn() -> bool + Send + Sync>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Told when the journal fails or what is durable cannot be answered, by whoever notices. The program exits in it.
    pub on_fatal: Arc<dyn Fn(Fatal) + Send + Sync>,
}

/// What the door, the actors and the threads share.
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rules: Rules,
    pub(crate) probe: Option<Probe>,
    pub(crate) directory: Directory<Box<Account>, ActorRef<Delivery>>,
    pub(crate) reader: Arc<dyn JournalReader>,
    queue: Giver<Item>,
    pub(crate) permits: Arc<Permits>,
    permits_per_caller: usize,
    callers: DashMap<CallerId, Arc<CallerState>>,
    pub(crate) durable: watch::Receiver<Lsn>,
    pub(crate) projected: watch::Receiver<Lsn>,
    pub(crate) statements: Arc<dyn Statements>,
    pub(crate) snapshots: Arc<dyn Snapshots>,
    pub(crate) wishes: Arc<Wishes>,
    /// The account actors that own no account now.
    pub(crate) pool: Pool,
    /// Held while a card is bound, until that is in the committer's queue.
    pub(crate) binding: Mutex<()>,
    /// No room on the disk.
    pub(crate) full: AtomicBool,
    /// Which keys are old, as it was when somebody last looked.
    old_keys: Mutex<Old>,
    /// Parent of every account actor; there once the engine runs.
    supervisor: OnceLock<ActorRef<()>>,
}

impl Shared {
    pub(crate) fn old_keys(&self) -> Old {
        *self.old_keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the committer something to do. After it has stopped, what is given is dropped and so answered `Unavailable`.
    pub(crate) fn commit(&self, item: Item) {
        self.queue.give(item);
    }

    /// Puts a message into the mailbox of the account's actor. If the account is being rebuilt or is about to be, the message is dropped, which answers it.
    pub(crate) fn tell(self: &Arc<Shared>, cell: Arc<AccountCell>, message: AccountMessage) {
        let one = Arc::clone(&cell);
        one.send(
            || self.pool.take().unwrap_or_else(|| self.spawn_account()),
            |actor, state| {
                let activation = state.map(|account| (cell, account));
                drop(actor.cast(Delivery { activation, message }));
            },
        );
    }

    fn spawn_account(self: &Arc<Shared>) -> ActorRef<Delivery> {
        let actor = AccountActor { shared: Arc::clone(self) };
        let parent = self.supervisor.get().expect("the supervisor is there before anybody may ask").get_cell();
        let (actor, _starting) = ActorRuntime::spawn_linked_instant(None, actor, (), parent)
            .expect("an actor without a name can always be started");
        self.pool.spawned();
        actor
    }
}

/// A running engine. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Engine {
    /// Claims the journal, recovers from it and starts. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] where the journal is in use, damaged or unreadable; nothing has changed then.
    pub async fn start(ports: Ports, config: Config) -> Result<Engine, StartError> {
        let ahead = ReadAhead::begin(Arc::clone(&ports.snapshots));
        Engine::start_with(ahead, ports, config).await
    }

    /// The same, where the newest of those snapshots is being read already; what is read of other ones is not used.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub async fn start_with(ahead: ReadAhead, ports: Ports, config: Config) -> Result<Engine, StartError> {
        let Ports { mut journal, projection, statements, snapshots, room, clock, on_fatal } = ports;
        let reader = journal.reader();
        // Claiming reads the journal from end to end.
        let claim = journal.claim(Shard(0), "engine")?;
        let ahead = ahead.wait(&snapshots);
        let state = LedgerState::recover_from(ahead, reader.as_ref(), snapshots.as_ref(), claim.head, &config.rules)?;
        let Recovered { directory, windows, wishes } = ready(state)?;
        tracing::info!(head = %claim.head, accounts = directory.len(), "recovered");
        let wishes = Arc::new(wishes);
        let busy = Busy::new(Arc::clone(&clock));
        let kept = Arc::new(AtomicU64::new(projection.durable_watermark().0));

        let (queue, items) = committer_queue::queue();
        let (releases, released) = tokio::sync::mpsc::unbounded_channel();
        let (groups, projector_queue) = mpsc::sync_channel(1024);
        let (durable, durable_now) = watch::channel(claim.head);
        let (projected, projected_now) = watch::channel(projection.watermark());
        let permits = Arc::new(Permits::new(config.permits));
        let shared = Arc::new(Shared {
            clock,
            rules: config.rules,
            probe: config.probe,
            directory,
            reader: Arc::clone(&reader),
            queue,
            callers: windows
                .into_iter()
                .map(|(id, window)| (id, CallerState::new(config.permits_per_caller, Arc::clone(&permits), window)))
                .collect(),
            permits,
            permits_per_caller: config.permits_per_caller,
            durable: durable_now.clone(),
            projected: projected_now,
            statements,
            snapshots: Arc::clone(&snapshots),
            wishes: Arc::clone(&wishes),
            pool: Pool::default(),
            binding: Mutex::new(()),
            full: AtomicBool::new(!room()),
            old_keys: Mutex::default(),
            supervisor: OnceLock::new(),
        });
        let committer = Committer {
            journal,
            claim,
            queue: items,
            group_limit: config.group_limit,
            permits: Arc::clone(&shared.permits),
            releases,
            durable,
            projector: groups,
            wishes,
            clock: Arc::clone(&shared.clock),
            busy: Arc::clone(&busy),
            on_fatal: Arc::clone(&on_fatal),
        };
        tokio::spawn(release(released, Arc::clone(&on_fatal)));
        let projector = Projector {
            projection,
            reader: Arc::clone(&reader),
            groups: projector_queue,
            durable: durable_now,
            projected,
            kept: Arc::clone(&kept),
            flushed: Lsn::ZERO,
            // The journal is cut behind both: flushed more seldom than there are snapshots, these would be in vain.
            flush_after: if config.snapshot_every == 0 { FLUSH_AFTER } else { config.snapshot_every.min(FLUSH_AFTER) },
        };
        let snapshotter = Snapshotter {
            shared: Arc::downgrade(&shared),
            snapshots,
            reader,
            rules: config.rules,
            every: config.snapshot_every,
            kept,
            step_back: config.step_back,
        };
        let watchdog = Watchdog { shared: Arc::downgrade(&shared), busy, hung_after: config.hung_after, on_fatal };
        let room_watch = RoomWatch { shared: Arc::downgrade(&shared), room };
        let threads = vec![
            spawn_thread("committer", move || committer.run_or_die())?,
            spawn_thread("projector", move || projector.run())?,
            spawn_thread("snapshots", move || snapshotter.run())?,
            spawn_thread("watchdog", move || watchdog.run())?,
            spawn_thread("room", move || room_watch.run())?,
        ];
        let (supervisor, _) = Actor::spawn(None, Supervisor { shared: Arc::clone(&shared) }, ())
            .await
            .map_err(|error| StartError::Spawn("supervisor", error.to_string()))?;
        drop(shared.supervisor.set(supervisor));
        tokio::spawn(sweep(Arc::downgrade(&shared)));
        Ok(Engine { shared, threads: Arc::new(Mutex::new(threads)) })
    }

    /// The way in for one caller. Its sessions share one window of keys.
    #[must_use]
    pub fn caller(&self, caller: Caller) -> CallerHandle {
        let Shared { callers, permits, permits_per_caller, .. } = &*self.shared;
        let state = callers
            .entry(caller.id)
            .or_insert_with(|| CallerState::new(*permits_per_caller, Arc::clone(permits), Window::default()));
        CallerHandle { engine: self.clone(), caller, state: Arc::clone(&state) }
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

    /// How many account actors there are, whether they own an account now or rest.
    #[must_use]
    pub fn actors(&self) -> usize {
        self.shared.pool.all()
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
        let statements = Arc::clone(&self.shared.statements);
        let read = move || {
            let wanted = |records: Records<'_>| -> Result<Vec<Record>, JournalError> {
                records.take_while(|r| r.as_ref().map_or(true, |r| r.lsn <= durable)).take(most).collect()
            };
            if from >= reader.first()? {
                let read = wanted(reader.read_from(from));
                // What was cut off while it was read is missing in it.
                if from >= reader.first()? {
                    return read;
                }
            }
            // What the journal has let go of is in the statements.
            wanted(statements.records_from(from))
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(records) => records,
            Err(error) => Err(JournalError::Storage(error.to_string())),
        }
    }

    /// Lets nobody in any more, waits until everyone inside is answered, makes everything durable and stops.
    pub async fn shutdown(&self) {
        self.shared.permits.close();
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
        // No permit is out, so no mailbox has a request: nothing is lost by stopping.
        if let Some(supervisor) = self.shared.supervisor.get() {
            supervisor.stop(None);
        }
    }
}

fn spawn_thread(name: &'static str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new()
        .name(format!("frokost-{name}"))
        .spawn(run)
        .map_err(|error| StartError::Spawn(name, error.to_string()))
}

/// Lets actors go that nobody needs any more, and has windows forget what is old.
async fn sweep(shared: std::sync::Weak<Shared>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    let mut forgetting = Forgetting::default();
    for turn in 0_usize.. {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        if shared.permits.is_closed() {
            return;
        }
        // Away from the threads that serve: there may be many windows to look at.
        let old = forgetting.look(shared.clock.now(), shared.clock.running(), shared.rules.key_memory_ms);
        let swept = tokio::task::spawn_blocking(move || {
            shared.pool.trim();
            *shared.old_keys.lock().unwrap_or_else(PoisonError::into_inner) = old;
            if old == Old::default() {
                return;
            }
            // Of thousands each has its turn now and then: what a window has at its front is far away in memory.
            let parts = shared.callers.len().div_ceil(WINDOWS_AT_ONCE).max(1);
            for caller in &shared.callers {
                if usize::try_from(caller.key().0).unwrap_or_default() % parts == turn % parts {
                    caller.window().forget(old, FORGOTTEN_AT_ONCE);
                }
            }
        });
        if swept.await.is_err() {
            tracing::error!("letting idle actors go, or forgetting old keys, panicked");
        }
    }
}
