//! A run second by second: what is shown while it goes on, and kept for the report.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::latency::Latency;
use crate::stats::Stats;

/// Which part of a run it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// What is planned now is not measured.
    WarmUp,
    /// It is.
    Measured,
    /// Nothing is begun any more; the last answers are waited for.
    After,
}

/// One second of a run.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Second {
    /// Its end, since the run began.
    pub at_s: f64,
    /// Not measured yet?
    pub warming_up: bool,
    /// Not any more? Nothing is begun then, and what was is waited for.
    pub after_end: bool,
    /// Sales planned, per second; only in the open model.
    pub planned_rate: Option<f64>,
    /// Sales answered, per second.
    pub rate: f64,
    /// How many were approved.
    pub approved: u64,
    /// How many were refused.
    pub refused: u64,
    /// How many were given up.
    pub given_up: u64,
    /// Sent again.
    pub resent: u64,
    /// Errors of connections.
    pub errors: u64,
    /// The share of it in which the machine itself was slow, 0 to 1.
    pub machine_slow: f64,
    /// Latencies in it, if anything was answered.
    pub latency_us: Option<Latency>,
}

impl Second {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(crate) fn of(stats: &Stats, at: Duration, took: Duration, planned_rate: Option<f64>, phase: Phase) -> Second {
        Second {
            at_s: at.as_secs_f64(),
            warming_up: phase == Phase::WarmUp,
            after_end: phase == Phase::After,
            planned_rate,
            rate: stats.answered() as f64 / took.as_secs_f64().max(0.001),
            approved: stats.approved,
            refused: stats.refused_in_all(),
            given_up: stats.given_up,
            resent: stats.resent,
            errors: stats.errors.values().sum(),
            machine_slow: stats.speed.slow_share(),
            latency_us: Latency::of(&stats.latency),
        }
    }
}
