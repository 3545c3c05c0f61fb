//! What tills measure. Latency is the time from when a sale was *planned* (open model) or sent (closed loop) until its
//! answer was read; a server that stalls is charged for every pupil who had to wait, also for those not yet sent.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use frokost_engine::Outcome;
use hdrhistogram::Histogram;

/// The longest latency that is told apart: a minute.
const LONGEST_NS: u64 = 60_000_000_000;

/// Counts and latencies.
#[derive(Debug, Clone)]
pub struct Stats {
    /// Latencies in nanoseconds, three digits exact.
    pub latency: Histogram<u64>,
    /// How many sales were answered with a yes.
    pub approved: u64,
    /// How many were refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// How many were sent again because the answer was `Busy`, `Unavailable` or lost.
    pub resent: u64,
    /// How many sales never had an answer, however often they were sent; their time until then is among the latencies.
    pub given_up: u64,
    /// Errors of the connection, by message.
    pub errors: BTreeMap<String, u64>,
}

impl Default for Stats {
    fn default() -> Stats {
        let latency = Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are sound");
        Stats { latency, approved: 0, refused: BTreeMap::new(), given_up: 0, resent: 0, errors: BTreeMap::new() }
    }
}

impl Stats {
    /// Counts a sale that was decided.
    pub fn decided(&mut self, outcome: &Outcome, latency: Duration) {
        match outcome {
            Outcome::Approved(_) => self.approved += 1,
            Outcome::Rejected(why) => *self.refused.entry(why.name()).or_default() += 1,
            Outcome::View(_) | Outcome::Busy | Outcome::OutOfSpace | Outcome::Unavailable => return,
        }
        self.took(latency);
    }

    /// Counts a sale that was given up. Left out, a server that answers only what it can answer quickly would look good.
    pub fn abandoned(&mut self, after: Duration) {
        self.given_up += 1;
        self.took(after);
    }

    fn took(&mut self, latency: Duration) {
        self.latency.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(LONGEST_NS));
    }

    /// How many sales were decided.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.approved + self.refused.values().sum::<u64>()
    }
}

/// Where all tills count: what was planned within the measured time, and what came since the last look.
#[derive(Debug, Default)]
pub(crate) struct Board {
    window: Mutex<Stats>,
    total: Mutex<Stats>,
}

impl Board {
    /// Counts something about a sale; `measured` says that it was planned after the warm-up.
    pub(crate) fn count(&self, measured: bool, with: impl Fn(&mut Stats)) {
        with(&mut lock(&self.window));
        if measured {
            with(&mut lock(&self.total));
        }
    }

    /// What came since the last look.
    pub(crate) fn look(&self) -> Stats {
        std::mem::take(&mut *lock(&self.window))
    }

    /// What was planned within the measured time.
    pub(crate) fn total(&self) -> Stats {
        lock(&self.total).clone()
    }
}

fn lock(stats: &Mutex<Stats>) -> MutexGuard<'_, Stats> {
    stats.lock().unwrap_or_else(PoisonError::into_inner)
}
