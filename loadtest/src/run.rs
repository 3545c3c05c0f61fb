//! A run from beginning to end: connect the tills, warm up, measure, stop, audit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use frokost_engine::{CardNumber, Lsn};
use frokost_net::client::Dialer;
use frokost_net::{Bundle, Client, ClientError};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::audit;
use crate::expect::Expectation;
use crate::own_cost::OwnCost;
use crate::pacer::{self, Pace};
use crate::plan::{Chooser, Plan, Schedule, Shape, weights};
use crate::report::{Report, Second};
use crate::stats::{Board, Stats};
use crate::till::{Brief, Hours, Till, Work};

/// Who takes part.
#[derive(Debug)]
pub struct Cast {
    /// The server's address.
    pub server: SocketAddr,
    /// A till each.
    pub tills: Vec<Bundle>,
    /// Reads the journal for the audit.
    pub operator: Bundle,
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
    let (operator, _) = Client::connect(cast.server, &cast.operator).await?;
    let cards: Arc<[CardNumber]> = audit::cards(&operator).await?.into();
    if cards.is_empty() {
        return Err(LoadError::NoCards);
    }
    let board = Arc::new(Board::default());
    let tills = connect(cast.server, cast.tills, plan, &cards, &board, &mut progress).await?;

    let open = Instant::now() + Duration::from_millis(50);
    let measure = open + plan.warm_up;
    let hours = Hours { open, measure, close: measure + plan.shape.duration() };
    let own = OwnCost::begin();
    let pace = Arc::new(Pace::default());
    let mut selling = tokio::task::JoinSet::new();
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

    let mut seconds = Vec::new();
    if !plan.warm_up.is_zero() {
        watch_until(hours.measure, open, true, &board, &stop, &mut progress, &mut seconds).await;
    }
    watch_until(hours.close, open, false, &board, &stop, &mut progress, &mut seconds).await;
    // The rate is of what was planned and answered within this time. Answers that come after it have their latency counted, and no more:
    // who gets behind and catches up when it is over has not kept the rate.
    let in_time = board.total().answered();
    let elapsed =
        Instant::now().min(hours.close).saturating_duration_since(hours.measure).max(Duration::from_millis(1));
    let own_share = own.share();
    let mut logs = Vec::with_capacity(selling.len());
    while let Some(ended) = selling.join_next().await {
        logs.push(ended.map_err(|error| LoadError::Till(error.to_string()))?);
    }
    let stats = board.total();
    let audit = audit::audit(&operator, &logs, |at, of| progress(Progress::Audit { at, of })).await?;
    operator.close().await;

    let mut report = Report::new(plan, &stats, in_time, elapsed, audit);
    report.tills = logs.len();
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

/// Connects every till, many at once.
async fn connect(
    server: SocketAddr,
    bundles: Vec<Bundle>,
    plan: &Plan,
    cards: &Arc<[CardNumber]>,
    board: &Arc<Board>,
    progress: &mut impl FnMut(Progress<'_>),
) -> Result<Vec<Till>, LoadError> {
    let dialer = Dialer::towards(server)?;
    let weights = weights(plan.cards, cards.len());
    let mut tills = Vec::with_capacity(bundles.len());
    let mut waiting = bundles.into_iter().enumerate();
    let mut connecting = tokio::task::JoinSet::new();
    loop {
        while connecting.len() < CONNECTING
            && let Some((number, bundle)) = waiting.next()
        {
            let chooser = Chooser::new(plan, number as u64, Arc::clone(&weights));
            let (dialer, plan) = (dialer.clone(), plan.clone());
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

async fn watch_until(
    until: Instant,
    open: Instant,
    warming_up: bool,
    board: &Board,
    stop: &watch::Receiver<bool>,
    progress: &mut impl FnMut(Progress<'_>),
    seconds: &mut Vec<Second>,
) {
    let mut stop = stop.clone();
    let mut last = Instant::now();
    loop {
        let next = (Instant::now() + Duration::from_secs(1)).min(until);
        let stopped = tokio::select! {
            () = tokio::time::sleep_until(next) => false,
            () = told(&mut stop) => true,
        };
        let stats = board.look();
        progress(Progress::Second { warming_up, elapsed: open.elapsed(), stats: &stats });
        seconds.push(Second::of(&stats, open.elapsed(), last.elapsed(), warming_up));
        last = Instant::now();
        if stopped || Instant::now() >= until {
            return;
        }
    }
}

/// Waits until somebody says stop; for ever if nobody is left who could.
async fn told(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
