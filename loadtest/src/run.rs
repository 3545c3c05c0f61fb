//! A run from beginning to end: connect the tills, warm up, measure, stop, audit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use frokost_engine::{AccountId, CardNumber, Command, Lsn, Outcome, Sequence, Timestamp};
use frokost_net::client::Dialer;
use frokost_net::wire::{Request, Response};
use frokost_net::{Bundle, Client, ClientError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::audit::{self, Audit};
use crate::expect::Expectation;
use crate::own_cost::OwnCost;
use crate::pacer::{self, Pace};
use crate::plan::{Chooser, Plan, Schedule, Shape};
use crate::readers::{self, Desk};
use crate::report::{Report, Second};
use crate::stats::{Board, Stats};
use crate::till::{BACK_WITHIN, Brief, Hours, Log, Till, Work};

/// Who takes part.
#[derive(Debug)]
pub struct Cast {
    /// The server's address.
    pub server: SocketAddr,
    /// A till each.
    pub tills: Vec<Bundle>,
    /// Reads the journal for the audit, blocks and activates.
    pub operator: Bundle,
    /// Looks at accounts, where the plan has readers.
    pub portal: Option<Bundle>,
}

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No connection.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nobody can buy.
    #[error("there is no card at this server; import pupils first")]
    NoCards,
    /// The run ended in a way it cannot end.
    #[error("a till of the load tester failed: {0}")]
    Till(String),
}

/// What a run tells while it goes on.
#[derive(Debug)]
pub enum Progress<'a> {
    /// What is done before anybody sells.
    Preparing(String),
    /// So many tills are connected.
    Connected(usize),
    /// What came in the last second; warming up or measured.
    Second {
        /// Still warming up?
        warming_up: bool,
        /// Since the run began.
        elapsed: Duration,
        /// In this second.
        stats: &'a Stats,
    },
    /// The audit has read so much of the journal.
    Audit {
        /// Up to here.
        at: Lsn,
        /// Of this.
        of: Lsn,
    },
}

/// Connections that are being made at once.
const CONNECTING: usize = 32;

/// Runs a plan. `stop` ends it early, and it is reported all the same.
///
/// # Errors
/// [`LoadError`] if it could not be run; what went wrong during the run is in the report.
pub async fn run(
    cast: Cast,
    plan: &Plan,
    expectations: &[Expectation],
    stop: watch::Receiver<bool>,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Report, LoadError> {
    let (operator, welcome) = Client::connect(cast.server, &cast.operator).await?;
    let mut said = Instant::now();
    let looking = |at: Lsn, of: Lsn| {
        // Millions of records take a while, a few thousand none.
        if said.elapsed() > Duration::from_secs(1) {
            said = Instant::now();
            progress(Progress::Preparing(format!("looking for cards: {at} of {of} records read")));
        }
    };
    let (accounts, cards): (Vec<AccountId>, Vec<CardNumber>) =
        audit::cards(&operator, looking).await?.into_iter().unzip();
    let (accounts, cards): (Arc<[AccountId]>, Arc<[CardNumber]>) = (accounts.into(), cards.into());
    if cards.is_empty() {
        return Err(LoadError::NoCards);
    }
    let board = Arc::new(Board::default());
    let sockets = usize::try_from(plan.sockets).unwrap_or(usize::MAX).clamp(1, cast.tills.len().max(1));
    let tills = connect(cast.server, cast.tills, sockets, plan, &cards, &board, &mut progress).await?;
    let portal = match (plan.readers, &cast.portal) {
        (Some(readers), Some(bundle)) => Some((readers, Client::connect(cast.server, bundle).await?.0)),
        (Some(_), None) | (None, _) => None,
    };
    // When everybody is there: a run that cannot begin leaves nobody blocked.
    let mut switch = Switch::new(plan, &accounts, welcome.now);
    if !switch.accounts.is_empty() {
        progress(Progress::Preparing(format!("blocking {} accounts", switch.accounts.len())));
        switch.turn(&operator, |account| Command::Block { account }).await?;
    }

    let open = Instant::now() + Duration::from_millis(50);
    let measure = open + plan.warm_up;
    let hours = Hours { open, measure, close: measure + plan.shape.duration() };
    let own = OwnCost::begin();
    let pace = Arc::new(Pace::default());
    let mut selling = JoinSet::new();
    let mut due = Vec::new();
    for till in tills {
        let work = match &plan.shape {
            Shape::Open { .. } => {
                let (sender, receiver) = mpsc::unbounded_channel();
                due.push(sender);
                Work::Due(receiver)
            }
            Shape::Closed { in_flight, .. } => Work::Loops(*in_flight),
        };
        selling.spawn(till.sell(work, hours, stop.clone()));
    }
    if let Shape::Open { stages } = &plan.shape {
        let schedule = Schedule::new(stages, plan.warm_up);
        pacer::start(schedule, hours, due, Arc::clone(&pace), stop.clone())
            .map_err(|error| LoadError::Till(error.to_string()))?;
    }

    let mut reading = JoinSet::new();
    if let Some((readers, portal)) = &portal {
        let desk = Desk {
            portal: portal.clone(),
            accounts: Arc::clone(&accounts),
            month: welcome.now.month(),
            board: Arc::clone(&board),
            hours,
        };
        reading = readers::start(&desk, *readers, plan.seed, &stop);
    }

    let mut seconds = Vec::new();
    let mut logs = Vec::with_capacity(selling.len());
    let mut watch = Watch {
        open,
        board: &board,
        stop: stop.clone(),
        selling: &mut selling,
        logs: &mut logs,
        seconds: &mut seconds,
    };
    if !plan.warm_up.is_zero() {
        watch.until(hours.measure, true, &mut progress).await?;
    }
    watch.until(hours.close, false, &mut progress).await?;
    // The rate is of what was planned and answered within this time. Answers that come after it have their latency counted, and no more:
    // who gets behind and catches up when it is over has not kept the rate.
    let in_time = board.total().answered();
    let elapsed =
        Instant::now().min(hours.close).saturating_duration_since(hours.measure).max(Duration::from_millis(1));
    let own_share = own.share();
    while let Some(ended) = selling.join_next().await {
        logs.push(ended.map_err(|error| LoadError::Till(error.to_string()))?);
    }
    if Instant::now() < hours.close {
        // All tills are gone, or somebody said stop.
        reading.abort_all();
    }
    while let Some(ended) = reading.join_next().await {
        if ended.as_ref().is_err_and(|error| !error.is_cancelled()) {
            ended.map_err(|error| LoadError::Till(error.to_string()))?;
        }
    }
    if let Some((_, portal)) = portal {
        portal.close().await;
    }
    let stats = board.total();
    // Over a connection of its own: the server may have been started anew meanwhile. If it cannot be asked, the report says that, and the rest.
    operator.close().await;
    let audited = async {
        let operator = come_back(cast.server, &cast.operator, &mut progress).await?;
        switch.turn(&operator, |account| Command::Activate { account }).await?;
        let audit = audit::audit(&operator, &logs, |at, of| progress(Progress::Audit { at, of })).await?;
        operator.close().await;
        Ok::<_, ClientError>(audit)
    };
    let audit = audited.await.unwrap_or_else(|error| Audit::impossible(&logs, &error));

    let mut report = Report::new(plan, &stats, in_time, elapsed, audit);
    report.tills = logs.len();
    report.sockets = Some(sockets);
    report.cards = cards.len();
    report.seconds = seconds;
    report.own_cpu_share = own_share;
    if let Shape::Open { .. } = plan.shape {
        let planned = pace.planned.load(Ordering::Relaxed);
        report.plan(planned, pace.late.load(Ordering::Relaxed), pace.cut.load(Ordering::Relaxed));
    }
    report.expectations.extend(expectations.iter().map(|e| (e.to_string(), e.holds(&stats))));
    Ok(report)
}

/// The accounts that are blocked for as long as a run lasts.
struct Switch {
    accounts: Vec<AccountId>,
    /// The number of the operator's next command; above every number that one can have used before.
    next: u64,
}

/// Commands of the operator in flight at once.
const SWITCHING: usize = 128;

impl Switch {
    fn new(plan: &Plan, accounts: &[AccountId], now: Timestamp) -> Switch {
        let mut random = fastrand::Rng::with_seed(plan.seed);
        let chosen = accounts.iter().copied().filter(|_| random.f64() < plan.blocked);
        Switch { accounts: if plan.blocked > 0.0 { chosen.collect() } else { Vec::new() }, next: now.0 << 16 }
    }

    /// Asks for a command for each of them.
    async fn turn(&mut self, operator: &Client, command: impl Fn(AccountId) -> Command) -> Result<(), ClientError> {
        for some in self.accounts.chunks(SWITCHING) {
            let mut asked = Vec::with_capacity(some.len());
            for account in some {
                let sequence = Sequence(self.next);
                self.next += 1;
                asked.push((sequence, *account, operator.send(&request(sequence, command(*account)))?));
            }
            for (sequence, account, answer) in asked {
                // Who is not let in is asked again; a refusal means that somebody else has blocked or activated it already.
                let mut answer = answer.await;
                while let Ok(Response::Outcome(Outcome::Busy | Outcome::OutOfSpace | Outcome::Unavailable)) = answer {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    answer = operator.send(&request(sequence, command(account)))?.await;
                }
                if answer.is_err() {
                    return Err(operator.ended().unwrap_or(ClientError::Confused));
                }
            }
        }
        Ok(())
    }
}

fn request(sequence: Sequence, command: Command) -> Request {
    Request::Command { sequence, asked: command.into() }
}

/// Connects every till, many at once.
async fn connect(
    server: SocketAddr,
    bundles: Vec<Bundle>,
    sockets: usize,
    plan: &Plan,
    cards: &Arc<[CardNumber]>,
    board: &Arc<Board>,
    progress: &mut impl FnMut(Progress<'_>),
) -> Result<Vec<Till>, LoadError> {
    let mut dialers = std::iter::repeat_with(|| Dialer::towards(server))
        .take(sockets)
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .cycle();
    let mut tills = Vec::with_capacity(bundles.len());
    let mut waiting = bundles.into_iter().enumerate();
    let mut connecting = JoinSet::new();
    loop {
        while connecting.len() < CONNECTING
            && let Some((number, bundle)) = waiting.next()
            && let Some(dialer) = dialers.next()
        {
            let chooser = Chooser::new(plan, number as u64, cards.len());
            let plan = plan.clone();
            let (cards, board) = (Arc::clone(cards), Arc::clone(board));
            connecting.spawn(async move {
                let brief = Brief { number, plan: &plan, chooser, cards, board };
                Till::connect(&dialer, server, bundle, brief).await
            });
        }
        let Some(connected) = connecting.join_next().await else { return Ok(tills) };
        tills.push(connected.map_err(|error| LoadError::Till(error.to_string()))??);
        progress(Progress::Connected(tills.len()));
    }
}

/// Connects again, trying for as long as a till does.
async fn come_back(
    server: SocketAddr,
    operator: &Bundle,
    progress: &mut impl FnMut(Progress<'_>),
) -> Result<Client, ClientError> {
    let begin = Instant::now();
    let mut said = false;
    loop {
        match Client::connect(server, operator).await {
            Ok((client, _)) => return Ok(client),
            Err(error) if begin.elapsed() > BACK_WITHIN => return Err(error),
            Err(error) if !said => progress(Progress::Preparing(format!("the audit waits for the server: {error}"))),
            Err(_) => {}
        }
        said = true;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Looks on while tills sell.
struct Watch<'a> {
    open: Instant,
    board: &'a Board,
    stop: watch::Receiver<bool>,
    selling: &'a mut JoinSet<Log>,
    /// Of the tills that have ended.
    logs: &'a mut Vec<Log>,
    seconds: &'a mut Vec<Second>,
}

impl Watch<'_> {
    /// Until then, until somebody says stop, or until no till is left.
    async fn until(
        &mut self,
        until: Instant,
        warming_up: bool,
        progress: &mut impl FnMut(Progress<'_>),
    ) -> Result<(), LoadError> {
        let mut last = Instant::now();
        loop {
            let next = (Instant::now() + Duration::from_secs(1)).min(until);
            let ended = loop {
                tokio::select! {
                    () = tokio::time::sleep_until(next) => break false,
                    () = told(&mut self.stop) => break true,
                    Some(log) = self.selling.join_next() => {
                        self.logs.push(log.map_err(|error| LoadError::Till(error.to_string()))?);
                        // Those that have nothing to do any more are not gone: the time that is measured goes on.
                        if self.selling.is_empty() && self.logs.iter().all(|log| log.gone) {
                            break true;
                        }
                    }
                }
            };
            let stats = self.board.look();
            progress(Progress::Second { warming_up, elapsed: self.open.elapsed(), stats: &stats });
            self.seconds.push(Second::of(&stats, self.open.elapsed(), last.elapsed(), warming_up));
            last = Instant::now();
            if ended || Instant::now() >= until {
                return Ok(());
            }
        }
    }
}

/// Waits until somebody says stop; for ever if nobody is left who could.
async fn told(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
