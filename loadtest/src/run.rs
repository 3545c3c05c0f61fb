//! A run from beginning to end: connect the tills, warm up, measure, stop, audit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use frokost_engine::time::Month;
use frokost_engine::{AccountId, CardNumber, Lsn};
use frokost_net::client::Dialer;
use frokost_net::wire::Welcome;
use frokost_net::{Bundle, Client, ClientError, Loss};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::audit::{self, Audit};
use crate::coming::BACK_WITHIN;
use crate::expect::Expectation;
use crate::machine::Probe;
use crate::own_cost::OwnCost;
use crate::pacer::{self, Pace};
use crate::plan::{Chooser, Plan, Readers, Schedule, Shape, Stage, due_until};
use crate::readers::{self, Desk, Portal};
use crate::report::{EndedEarly, Report};
use crate::second::{Phase, Second};
use crate::stats::{Board, Stats};
use crate::switch::Switch;
use crate::till::{Brief, Hours, Log, Till, Work};

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
    /// Somebody said stop before anything was sold.
    #[error("stopped before anything was sold; nothing is reported")]
    Stopped,
    /// It ended while accounts were being blocked for it, and not all of them could be given back.
    #[error(
        "{why}; {left} accounts that were blocked for this run may still be, `frokost account activate` lets them buy again"
    )]
    LeftBlocked {
        /// Why there was no run.
        why: Box<LoadError>,
        /// How many.
        left: usize,
    },
    /// The run ended in a way it cannot end.
    #[error("a till of the load tester failed: {0}")]
    Till(String),
    /// The same of one who looks at accounts.
    #[error("a reader of the load tester failed: {0}")]
    Reader(String),
    /// Nobody can look at the machine.
    #[error("the thread that looks how fast this machine is cannot be started: {0}")]
    Probe(String),
}

/// What a run tells while it goes on.
#[derive(Debug)]
pub enum Progress<'a> {
    /// What is done before anybody sells.
    Preparing(String),
    /// So many tills are connected.
    Connected(usize),
    /// What came in the last second.
    Second {
        /// Warming up, measured, or afterwards?
        phase: Phase,
        /// Since the run began.
        elapsed: Duration,
        /// How long it was: a second, or what was left of one.
        took: Duration,
        /// Sales that were planned, a second; only in the open model.
        planned: Option<f64>,
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
/// How long after the last till has ended a reader may still wait for an answer: a look is two questions, of ten seconds each at most.
const READERS_END_WITHIN: Duration = Duration::from_secs(25);
/// How often it is told how it goes.
const SECOND: Duration = Duration::from_secs(1);
/// What is left of a second is shown with the one before, or not at all.
const TOO_SHORT: Duration = Duration::from_millis(100);
/// What was due so shortly before somebody said stop may not have been begun.
const JUST_BEFORE: Duration = Duration::from_millis(100);

/// Runs a plan. `stop` ends it early, and it is reported all the same, once somebody has sold. `before` is an earlier run to hold it against.
///
/// # Errors
/// [`LoadError`] if it could not be run; what went wrong during the run is in the report.
pub async fn run(
    cast: Cast,
    plan: &Plan,
    expectations: &[Expectation],
    before: Option<&Report>,
    stop: watch::Receiver<bool>,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Report, LoadError> {
    let Cast { server, tills, operator: operator_bundle, portal } = cast;
    let sockets = usize::try_from(plan.sockets).unwrap_or(usize::MAX).clamp(1, tills.len().max(1));
    let board = Arc::new(Board::default());
    let mut stopped = stop.clone();
    // Whoever says stop before anybody sells gets no report: there is nothing to report.
    let prepared = tokio::select! {
        biased;
        () = told(&mut stopped) => return Err(LoadError::Stopped),
        prepared = prepare(server, tills, &operator_bundle, portal, sockets, plan, &board, &mut progress) => prepared?,
    };
    let Prepared { operator, welcome, accounts, cards, tills, portal } = prepared;
    // When everybody is there: a run that cannot begin leaves nobody blocked.
    let mut switch = Switch::new(plan, &accounts, welcome.now);
    if !switch.chosen.is_empty() {
        progress(Progress::Preparing(format!("blocking {} accounts", switch.chosen.len())));
    }
    let blocked = tokio::select! {
        biased;
        () = told(&mut stopped) => Err(LoadError::Stopped),
        blocked = switch.block(&operator) => blocked.map_err(LoadError::from),
    };
    let crew = Crew { tills, portal, accounts, month: welcome.now.month() };
    let sold = match blocked {
        Ok(()) => sell(crew, plan, &board, &stop, &mut progress).await,
        Err(why) => Err(why),
    };
    // Over a connection of its own: the server may have been started anew meanwhile. If it cannot be asked, the report says that, and the rest.
    operator.close().await;
    let sold = match sold {
        Err(why) if switch.blocked.is_empty() => return Err(why),
        sold => sold,
    };
    let back = come_back(server, &operator_bundle, &mut progress).await;
    let left = match &back {
        Ok((operator, welcome)) => switch.activate(operator, welcome.now).await,
        Err(_) => switch.blocked.len(),
    };
    let audited = match (sold, &back) {
        (Ok(sold), Ok((operator, _))) => Ok((audited(operator, &sold.logs, &mut progress).await, sold)),
        (Ok(sold), Err(error)) => Ok((Audit::impossible(&sold.logs, error), sold)),
        (Err(why), _) if left > 0 => Err(LoadError::LeftBlocked { why: Box::new(why), left }),
        (Err(why), _) => Err(why),
    };
    if let Ok((operator, _)) = back {
        operator.close().await;
    }
    let (audit, sold) = audited?;
    let audit = Audit { left_blocked: left as u64, ..audit };
    let stats = board.total();

    // Answers that come after the end have their latency counted, and no more: who gets behind and catches up when it is over has not kept the rate.
    let in_time = sold.cut_at.unwrap_or(stats.in_time);
    let mut report = Report::new(plan, &stats, in_time, sold.elapsed, audit);
    report.server = server.to_string();
    report.started_at = welcome.now.local().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    report.tills = sold.logs.len();
    report.sockets = sockets;
    report.cards = cards.len();
    report.seconds = sold.seconds;
    report.own_cpu_share = sold.own_share;
    report.lost_packets = board.lost_packets.load(Ordering::Relaxed);
    report.lost_handshakes = board.lost_handshakes.load(Ordering::Relaxed);
    report.ended_early = sold.ended_early;
    if let Some(planned) = sold.planned {
        // What was due in the moment when somebody said stop, and was let be for that, was not missed.
        let let_be = planned.saturating_sub(stats.begun).min(sold.let_be);
        report.plan(planned - let_be, stats.begun);
    }
    report.judge(&stats, expectations, before);
    Ok(report)
}

/// Who sells and who looks on.
struct Crew {
    tills: Vec<Till>,
    portal: Option<(Readers, Portal)>,
    accounts: Arc<[AccountId]>,
    month: Month,
}

/// What came of the selling, beside what is on the board.
struct Sold {
    logs: Vec<Log>,
    seconds: Vec<Second>,
    elapsed: Duration,
    ended_early: Option<EndedEarly>,
    /// How many sales were decided when it was ended early.
    cut_at: Option<u64>,
    own_share: Option<f64>,
    /// How many were planned, in the open model.
    planned: Option<u64>,
    /// How many of them may not have been begun because somebody said stop.
    let_be: u64,
}

/// Has the tills sell until the end, or until somebody says stop or nobody is left.
async fn sell(
    crew: Crew,
    plan: &Plan,
    board: &Arc<Board>,
    stop: &watch::Receiver<bool>,
    progress: &mut impl FnMut(Progress<'_>),
) -> Result<Sold, LoadError> {
    let Crew { tills, portal, accounts, month } = crew;
    let open = Instant::now() + Duration::from_millis(50);
    let measure = open + plan.warm_up;
    let hours = Hours { open, measure, close: measure + plan.shape.duration() };
    let own = tokio::spawn(async move {
        tokio::time::sleep_until(measure).await;
        OwnCost::begin()
    });
    let probe = Probe::start(Arc::clone(board), hours).map_err(|error| LoadError::Probe(error.to_string()))?;
    let pace = Arc::new(Pace::default());
    let stages = plan.shape.with_warm_up(plan.warm_up);
    // They sell in turn: lists that are copied when they have no room left would all be copied in the same moment.
    let share = match &plan.shape {
        Shape::Open { .. } => due_until(&stages, hours.close - open) / tills.len().max(1) as f64,
        Shape::Closed { .. } => 0.0,
    };
    let mut selling = JoinSet::new();
    let mut due = Vec::new();
    for mut till in tills {
        till.make_room(share);
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
    let pacer = match &plan.shape {
        Shape::Open { .. } => {
            let pacer = pacer::start(Schedule::new(stages.clone()), hours, due, Arc::clone(&pace));
            Some(pacer.map_err(|error| LoadError::Till(error.to_string()))?)
        }
        Shape::Closed { .. } => None,
    };
    let mut reading = JoinSet::new();
    let desk = portal.map(|(readers, portal)| {
        let desk = Arc::new(Desk { portal, accounts, month, board: Arc::clone(board), hours });
        reading = readers::start(&desk, readers, plan.seed, stop);
        desk
    });

    let (logs, seconds) = (Vec::new(), Vec::new());
    let mut watch =
        Watch { open, board, stages: stages.clone(), stop: stop.clone(), selling: &mut selling, logs, seconds };
    let mut goes_on = true;
    if !plan.warm_up.is_zero() {
        goes_on = watch.until(hours.measure, Phase::WarmUp, progress).await?;
    }
    if goes_on {
        watch.until(hours.close, Phase::Measured, progress).await?;
    }
    let Watch { mut logs, mut seconds, .. } = watch;
    let now = Instant::now();
    let early = now < hours.close;
    let cut_at = early.then(|| board.total().in_time);
    let ended_early = early.then(|| if *stop.borrow() { EndedEarly::Stopped } else { EndedEarly::NoTillLeft });
    // Nothing was measured where it has not begun.
    own.abort();
    let own_share = own.await.ok().and_then(|own| own.share());
    probe.count_no_more();
    if early {
        // Nothing is due any more.
        pace.over.store(true, Ordering::Relaxed);
        reading.abort_all();
    }
    let planned = match pacer {
        Some(pacer) => match tokio::task::spawn_blocking(move || pacer.join()).await {
            Ok(Ok(())) => Some(pace.planned.load(Ordering::Relaxed)),
            Ok(Err(_)) | Err(_) => return Err(LoadError::Till("the pacer failed".to_owned())),
        },
        None => None,
    };
    let stopped = ended_early == Some(EndedEarly::Stopped);
    let let_be = if stopped { due_between(&stages, now - JUST_BEFORE - open, Instant::now() - open) } else { 0 };
    // Who waits for a server that stands still sees it, and what comes late is in no second before.
    let mut last = now;
    loop {
        let ended = tokio::select! {
            ended = selling.join_next() => Some(ended),
            () = tokio::time::sleep_until(last + SECOND) => None,
        };
        if let Some(Some(log)) = ended {
            logs.push(log.map_err(|error| LoadError::Till(error.to_string()))?);
            continue;
        }
        if last.elapsed() >= TOO_SHORT {
            let (stats, took) = (board.look(), last.elapsed());
            last += took;
            let elapsed = last.saturating_duration_since(open);
            progress(Progress::Second { phase: Phase::After, elapsed, took, planned: None, stats: &stats });
            seconds.push(Second::of(&stats, elapsed, took, None, Phase::After));
        }
        if ended.is_some() {
            break;
        }
    }
    drop(probe);
    match tokio::time::timeout(READERS_END_WITHIN, all_ended(&mut reading)).await {
        Ok(ended) => ended?,
        Err(_) => {
            // They look at a server that does not answer.
            board.nth_seat(0).of(true).reads_failed += reading.len() as u64;
            reading.shutdown().await;
        }
    }
    if let Some(desk) = desk {
        desk.portal.close().await;
    }
    let elapsed = now.min(hours.close).saturating_duration_since(hours.measure).max(Duration::from_millis(1));
    Ok(Sold { logs, seconds, elapsed, ended_early, cut_at, own_share, planned, let_be })
}

/// How many sales a plan has between two moments since the opening, and perhaps one more.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a plan never goes backwards")]
fn due_between(stages: &[Stage], from: Duration, until: Duration) -> u64 {
    (due_until(stages, until) - due_until(stages, from)).ceil() as u64
}

/// Waits until the readers have ended, by themselves or because they were told to.
async fn all_ended(reading: &mut JoinSet<()>) -> Result<(), LoadError> {
    while let Some(ended) = reading.join_next().await {
        match ended {
            Err(error) if error.is_panic() => return Err(LoadError::Reader(error.to_string())),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Everybody who takes part, connected.
struct Prepared {
    operator: Client,
    welcome: Welcome,
    accounts: Arc<[AccountId]>,
    cards: Arc<[CardNumber]>,
    tills: Vec<Till>,
    portal: Option<(Readers, Portal)>,
}

#[expect(clippy::too_many_arguments, reason = "a cast has many parts")]
async fn prepare(
    server: SocketAddr,
    tills: Vec<Bundle>,
    operator: &Bundle,
    portal: Option<Bundle>,
    sockets: usize,
    plan: &Plan,
    board: &Arc<Board>,
    progress: &mut impl FnMut(Progress<'_>),
) -> Result<Prepared, LoadError> {
    let (operator, welcome) = Client::connect(server, operator).await?;
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
    let tills = connect(server, tills, sockets, plan, &cards, board, progress).await?;
    let portal = match (plan.readers, portal) {
        (Some(readers), Some(bundle)) => Some((readers, Portal::connect(server, bundle).await?)),
        (Some(_), None) | (None, _) => None,
    };
    Ok(Prepared { operator, welcome, accounts, cards, tills, portal })
}

/// The audit, told of ten times a second.
async fn audited(operator: &Client, logs: &[Log], progress: &mut impl FnMut(Progress<'_>)) -> Audit {
    let mut said: Option<Instant> = None;
    let tell = |at: Lsn, of: Lsn| {
        if at == of || said.is_none_or(|said| said.elapsed() > Duration::from_millis(100)) {
            said = Some(Instant::now());
            progress(Progress::Audit { at, of });
        }
    };
    audit::audit(operator, logs, tell).await.unwrap_or_else(|error| Audit::impossible(logs, &error))
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
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is between 0 and 1")]
    let of_a_million = (plan.loss * 1e6) as u32;
    let loss = |seed| Loss { of_a_million, seed, lost: Arc::clone(&board.lost_packets) };
    let mut dialers = (0_u64..)
        .take(sockets)
        .map(|n| Dialer::losing(server, (of_a_million > 0).then(|| loss(plan.seed.wrapping_add(n)))))
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
        let Some(connected) = connecting.join_next().await else { break };
        tills.push(connected.map_err(|error| LoadError::Till(error.to_string()))??);
        progress(Progress::Connected(tills.len()));
    }
    // In the order of their numbers, not in that in which they came: sales are dealt in this order, and the same seed makes the same plan.
    tills.sort_by_key(|till: &Till| till.number);
    Ok(tills)
}

/// Connects again, trying for as long as a till does.
async fn come_back(
    server: SocketAddr,
    operator: &Bundle,
    progress: &mut impl FnMut(Progress<'_>),
) -> Result<(Client, Welcome), ClientError> {
    let begin = Instant::now();
    let mut said = false;
    loop {
        match Client::connect(server, operator).await {
            Ok(connected) => return Ok(connected),
            Err(error) if begin.elapsed() > BACK_WITHIN => return Err(error),
            Err(error) if !said => progress(Progress::Preparing(format!("waiting for the server: {error}"))),
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
    /// The plan in the open model, from the opening on.
    stages: Vec<Stage>,
    stop: watch::Receiver<bool>,
    selling: &'a mut JoinSet<Log>,
    /// Of the tills that have ended.
    logs: Vec<Log>,
    seconds: Vec<Second>,
}

impl Watch<'_> {
    /// Until then, until somebody says stop, or until no till is left. False if it does not go on from there.
    async fn until(
        &mut self,
        until: Instant,
        phase: Phase,
        progress: &mut impl FnMut(Progress<'_>),
    ) -> Result<bool, LoadError> {
        // Nobody sells before the opening.
        let mut last = Instant::now().max(self.open);
        loop {
            let next = last + SECOND;
            let next = if until.saturating_duration_since(next) < TOO_SHORT { until } else { next };
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
            let now = Instant::now();
            let (elapsed, took) = (now.saturating_duration_since(self.open), now.saturating_duration_since(last));
            last = now;
            let due = due_until(&self.stages, elapsed) - due_until(&self.stages, elapsed.saturating_sub(took));
            let planned = (!self.stages.is_empty()).then(|| due / took.as_secs_f64().max(0.001));
            progress(Progress::Second { phase, elapsed, took, planned, stats: &stats });
            self.seconds.push(Second::of(&stats, elapsed, took, planned, phase));
            if ended || Instant::now() >= until {
                return Ok(!ended);
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
