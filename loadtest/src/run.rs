//! A run from beginning to end: connect the tills, warm up, measure, stop, audit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use frokost_engine::{CardNumber, Lsn};
use frokost_net::client::Dialer;
use frokost_net::{Bundle, Client, ClientError};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::audit;
use crate::expect::Expectation;
use crate::pacer;
use crate::plan::{Chooser, Plan, Shape, weights};
use crate::report::Report;
use crate::stats::{Board, Stats};
use crate::till::{Hours, Till};

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
    let dialer = Dialer::towards(cast.server)?;
    let mut tills = Vec::with_capacity(cast.tills.len());
    for bundle in cast.tills {
        tills.push(Arc::new(Till::connect(&dialer, cast.server, bundle, Arc::clone(&board)).await?));
        progress(Progress::Connected(tills.len()));
    }

    let open = Instant::now() + Duration::from_millis(50);
    let measure = open + plan.warm_up;
    let hours = Hours { open, measure, close: measure + plan.duration };
    let weights = weights(plan.cards, cards.len());
    let mut selling = tokio::task::JoinSet::new();
    let mut due = Vec::new();
    for (number, till) in (0u64..).zip(&tills) {
        till.measure_from(hours.measure);
        let chooser = Chooser::new(plan, number, Arc::clone(&weights));
        let (till, cards) = (Arc::clone(till), Arc::clone(&cards));
        match plan.shape {
            Shape::Open { .. } => {
                let (sender, receiver) = mpsc::unbounded_channel();
                due.push(sender);
                selling.spawn(till.sell_when_due(receiver, chooser, cards));
            }
            Shape::Closed { in_flight } => {
                selling.spawn(till.sell_in_loops(in_flight, hours, chooser, cards, stop.clone()));
            }
        }
    }
    if let Shape::Open { rate } = plan.shape {
        pacer::start(rate, hours, due, stop.clone()).map_err(|error| LoadError::Till(error.to_string()))?;
    }

    if !plan.warm_up.is_zero() {
        watch_until(hours.measure, open, true, &board, &stop, &mut progress).await;
    }
    watch_until(hours.close, open, false, &board, &stop, &mut progress).await;
    // The rate is of what was planned within this time; answers that come after it still count, and their latency says so.
    let elapsed =
        Instant::now().min(hours.close).saturating_duration_since(hours.measure).max(Duration::from_millis(1));
    while let Some(ended) = selling.join_next().await {
        ended.map_err(|error| LoadError::Till(error.to_string()))?;
    }
    let stats = board.total();

    let mut logs = Vec::with_capacity(tills.len());
    for till in tills {
        till.close().await;
        let till = Arc::into_inner(till).ok_or_else(|| LoadError::Till("it is still selling".to_owned()))?;
        logs.push(till.into_log());
    }
    let audit = audit::audit(&operator, &logs, |at, of| progress(Progress::Audit { at, of })).await?;
    operator.close().await;

    let mut report = Report::new(&stats, elapsed, plan.shape, audit);
    report.tills = logs.len();
    report.cards = cards.len();
    report.seed = plan.seed;
    report.expectations = expectations.iter().map(|e| (e.to_string(), e.holds(&stats))).collect();
    Ok(report)
}

async fn watch_until(
    until: Instant,
    open: Instant,
    warming_up: bool,
    board: &Board,
    stop: &watch::Receiver<bool>,
    progress: &mut impl FnMut(Progress<'_>),
) {
    let mut stop = stop.clone();
    loop {
        let next = (Instant::now() + Duration::from_secs(1)).min(until);
        let stopped = tokio::select! {
            () = tokio::time::sleep_until(next) => false,
            () = told(&mut stop) => true,
        };
        let stats = board.look();
        progress(Progress::Second { warming_up, elapsed: open.elapsed(), stats: &stats });
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
