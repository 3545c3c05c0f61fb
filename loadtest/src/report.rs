//! What is told after a run: as lines for people, as JSON for programs. Every number says what it is of.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::audit::Audit;
use crate::plan::Shape;
use crate::stats::Stats;

/// The version of the JSON.
pub const SCHEMA: u32 = 1;

/// A run's result.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The version of this structure.
    pub schema: u32,
    /// How many tills sold.
    pub tills: usize,
    /// How many different cards could buy.
    pub cards: usize,
    /// What made the choices.
    pub seed: u64,
    /// `open` or `closed`.
    pub model: &'static str,
    /// Sales planned per second; only in the open model.
    pub planned_rate: Option<f64>,
    /// Sales answered per second.
    pub achieved_rate: f64,
    /// How long was measured, in seconds.
    pub seconds: f64,
    /// Sales answered with a yes.
    pub approved: u64,
    /// Sales refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Sales that never had an answer; their time until they were given up is among the latencies.
    pub given_up: u64,
    /// Sales sent again for want of an answer.
    pub resent: u64,
    /// Errors of connections, by message.
    pub errors: BTreeMap<String, u64>,
    /// From when a sale was planned (open) or sent (closed) until its answer was read, in microseconds.
    pub latency_us: Latency,
    /// The audit after the run.
    pub audit: Audit,
    /// Thresholds and whether they held.
    pub expectations: BTreeMap<String, bool>,
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    #[serde(rename = "p99.9")]
    pub p99_9: f64,
    /// The longest.
    pub max: f64,
}

impl Latency {
    /// Of what was measured.
    #[must_use]
    pub fn of(stats: &Stats) -> Latency {
        let at = |percentile| micros(stats.latency.value_at_percentile(percentile));
        Latency { p50: at(50.0), p90: at(90.0), p99: at(99.0), p99_9: at(99.9), max: micros(stats.latency.max()) }
    }
}

fn micros(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64() * 1e6
}

/// A number of microseconds as people read it.
#[must_use]
pub fn readable(micros: f64) -> String {
    if micros < 1_000.0 {
        format!("{micros:.0} us")
    } else if micros < 1_000_000.0 {
        format!("{:.2} ms", micros / 1e3)
    } else {
        format!("{:.2} s", micros / 1e6)
    }
}

impl Report {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(crate) fn new(stats: &Stats, elapsed: Duration, shape: Shape, audit: Audit) -> Report {
        let seconds = elapsed.as_secs_f64();
        let (model, planned_rate) = match shape {
            Shape::Open { rate } => ("open", Some(rate)),
            Shape::Closed { .. } => ("closed", None),
        };
        Report {
            schema: SCHEMA,
            tills: 0,
            cards: 0,
            seed: 0,
            model,
            planned_rate,
            achieved_rate: stats.answered() as f64 / seconds.max(f64::MIN_POSITIVE),
            seconds,
            approved: stats.approved,
            refused: stats.refused.clone(),
            given_up: stats.given_up,
            resent: stats.resent,
            errors: stats.errors.clone(),
            latency_us: Latency::of(stats),
            audit,
            expectations: BTreeMap::new(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tills, {} cards, {:.1} s, {} model", self.tills, self.cards, self.seconds, self.model)?;
        match self.planned_rate {
            Some(planned) => writeln!(
                f,
                ": {:.0} sales/s planned, {:.0} achieved ({:.1} %)",
                planned,
                self.achieved_rate,
                self.achieved_rate / planned * 100.0
            )?,
            None => writeln!(f, ": {:.0} sales/s", self.achieved_rate)?,
        }
        writeln!(f, "approved  {}", self.approved)?;
        for (why, count) in &self.refused {
            writeln!(f, "refused   {count} {why}")?;
        }
        if self.given_up > 0 {
            writeln!(f, "no answer {}", self.given_up)?;
        }
        if self.resent > 0 {
            writeln!(f, "resent    {}", self.resent)?;
        }
        for (error, count) in &self.errors {
            writeln!(f, "error     {count} x {error}")?;
        }
        let latency = self.latency_us;
        writeln!(
            f,
            "latency   p50 {}   p90 {}   p99 {}   p99.9 {}   max {}",
            readable(latency.p50),
            readable(latency.p90),
            readable(latency.p99),
            readable(latency.p99_9),
            readable(latency.max)
        )?;
        let audit = &self.audit;
        writeln!(
            f,
            "audit     {} of {} approved sales are in the journal, once each; {} records; all ledgers sum to {} øre",
            audit.found, audit.approved, audit.records, audit.ledgers_sum_ore
        )?;
        if audit.unanswered > 0 {
            writeln!(
                f,
                "          {} sales had no answer, {} of them were carried out",
                audit.unanswered, audit.unanswered_found
            )?;
        }
        for finding in &audit.findings {
            writeln!(f, "          WRONG: {finding}")?;
        }
        for (expectation, held) in &self.expectations {
            writeln!(f, "expected  {expectation}: {}", if *held { "held" } else { "NOT HELD" })?;
        }
        Ok(())
    }
}
