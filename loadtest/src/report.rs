//! What is told after a run: as lines for people, as JSON for programs. Every number says what it is of.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::audit::Audit;
use crate::plan::{Plan, Shape};
use crate::stats::Stats;

/// The version of the JSON.
pub const SCHEMA: u32 = 3;
/// Less of what was planned than this is a failure, whatever the latencies are.
const ACHIEVED: f64 = 0.99;
/// More of the plan than this said too late, and the rate is not claimed.
const LATE: f64 = 0.01;

/// A run's result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The version of this structure.
    pub schema: u32,
    /// The scenario.
    pub name: String,
    /// How many tills sold.
    pub tills: usize,
    /// How many UDP sockets they shared; `null` in reports of a time when it was always one.
    #[serde(default)]
    pub sockets: Option<usize>,
    /// How many different cards could buy.
    pub cards: usize,
    /// What made the choices.
    pub seed: u64,
    /// `open` or `closed`.
    pub model: String,
    /// Sales planned per second; only in the open model.
    pub planned_rate: Option<f64>,
    /// Sales answered within the measured time, per second.
    pub achieved_rate: f64,
    /// Sales planned within the measured time; only in the open model.
    pub planned: Option<u64>,
    /// Of those, how many the tester itself was more than 50 ms late with.
    pub planned_late: u64,
    /// How long was measured, in seconds.
    pub measured_s: f64,
    /// Sales answered with a yes.
    pub approved: u64,
    /// Sales refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Sales that never had an answer; their time until they were given up is among the latencies.
    pub given_up: u64,
    /// Sales sent again for want of an answer.
    pub resent: u64,
    /// Sales asked for twice on purpose, and both answered.
    pub repeated: u64,
    /// Connections lost on purpose.
    pub broken: u64,
    /// Errors of connections, by message.
    pub errors: BTreeMap<String, u64>,
    /// From when a sale was planned (open) or sent (closed) until its answer was read, in microseconds.
    pub latency_us: Latency,
    /// From when it was first sent.
    pub raw_latency_us: Latency,
    /// Of the refused alone.
    pub refused_latency_us: Latency,
    /// Looks at accounts, balance and statement together.
    pub reads: u64,
    /// Of those in vain.
    pub reads_failed: u64,
    /// From when a look was planned until both were read, in microseconds.
    pub reads_latency_us: Latency,
    /// Every latency: the upper end of a class in microseconds, and how many.
    pub histogram_us: Vec<(f64, u64)>,
    /// Second by second, the warm-up included.
    pub seconds: Vec<Second>,
    /// What the tester itself used of the machine, 0 to 1.
    pub own_cpu_share: Option<f64>,
    /// The audit after the run.
    pub audit: Audit,
    /// Thresholds and whether they held.
    pub expectations: BTreeMap<String, bool>,
}

/// One second of a run.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Second {
    /// Its end, since the run began.
    pub at_s: f64,
    /// Not measured yet?
    pub warming_up: bool,
    /// Sales answered, per second.
    pub rate: f64,
    /// Of them refused.
    pub refused: u64,
    /// Sent again.
    pub resent: u64,
    /// Errors of connections.
    pub errors: u64,
    /// Latencies in it.
    pub latency_us: Latency,
}

impl Second {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(crate) fn of(stats: &Stats, at: Duration, took: Duration, warming_up: bool) -> Second {
        Second {
            at_s: at.as_secs_f64(),
            warming_up,
            rate: stats.answered() as f64 / took.as_secs_f64().max(0.001),
            refused: stats.refused.values().sum(),
            resent: stats.resent,
            errors: stats.errors.values().sum(),
            latency_us: Latency::of(&stats.latency),
        }
    }
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
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
    pub fn of(latency: &Histogram<u64>) -> Latency {
        let at = |percentile| micros(latency.value_at_percentile(percentile));
        Latency { p50: at(50.0), p90: at(90.0), p99: at(99.0), p99_9: at(99.9), max: micros(latency.max()) }
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
    pub(crate) fn new(plan: &Plan, stats: &Stats, in_time: u64, elapsed: Duration, audit: Audit) -> Report {
        let seconds = elapsed.as_secs_f64();
        let model = match plan.shape {
            Shape::Open { .. } => "open",
            Shape::Closed { .. } => "closed",
        };
        Report {
            schema: SCHEMA,
            name: plan.name.clone(),
            tills: 0,
            sockets: None,
            cards: 0,
            seed: plan.seed,
            model: model.to_owned(),
            planned_rate: None,
            achieved_rate: in_time as f64 / seconds.max(f64::MIN_POSITIVE),
            planned: None,
            planned_late: 0,
            measured_s: seconds,
            approved: stats.approved,
            refused: stats.refused.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect(),
            given_up: stats.given_up,
            resent: stats.resent,
            repeated: stats.repeated,
            broken: stats.broken,
            errors: stats.errors.clone(),
            latency_us: Latency::of(&stats.latency),
            raw_latency_us: Latency::of(&stats.raw),
            refused_latency_us: Latency::of(&stats.refused_latency),
            reads: stats.reads.len(),
            reads_failed: stats.reads_failed,
            reads_latency_us: Latency::of(&stats.reads),
            histogram_us: stats
                .latency
                .iter_recorded()
                .map(|class| (micros(class.value_iterated_to()), class.count_since_last_iteration()))
                .collect(),
            seconds: Vec::new(),
            own_cpu_share: None,
            audit,
            expectations: BTreeMap::new(),
        }
    }

    /// What was planned, in the open model, and whether it was done.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(crate) fn plan(&mut self, planned: u64, late: u64, cut: bool) {
        self.planned = Some(planned);
        self.planned_late = late;
        let rate = planned as f64 / self.measured_s.max(f64::MIN_POSITIVE);
        self.planned_rate = Some(rate);
        if !cut {
            let achieved = self.achieved_rate >= rate * ACHIEVED && planned > 0;
            self.expectations.insert(format!("achieved>={:.0}%", ACHIEVED * 100.0), achieved);
        }
        self.expectations.insert("planned in time".to_owned(), late as f64 <= planned as f64 * LATE);
    }

    /// The lines that hold this run against an earlier one.
    #[must_use]
    pub fn against(&self, before: &Report) -> String {
        let mut lines = format!("against   {} of {} s\n", before.name, before.measured_s.round());
        let rows = [
            ("sales/s", self.achieved_rate, before.achieved_rate),
            ("p50", self.latency_us.p50, before.latency_us.p50),
            ("p99", self.latency_us.p99, before.latency_us.p99),
            ("p99.9", self.latency_us.p99_9, before.latency_us.p99_9),
        ];
        for (what, now, then) in rows {
            let show = |value: f64| if what == "sales/s" { format!("{value:.0}") } else { readable(value) };
            let ratio = if then > 0.0 { format!("{:.2} x", now / then) } else { "-".to_owned() };
            lines.push_str(&format!("          {what:<8} {:>10}  before {:>10}  {ratio}\n", show(now), show(then)));
        }
        lines
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} tills, {} cards, {:.1} s, {} model",
            self.name, self.tills, self.cards, self.measured_s, self.model
        )?;
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
        if self.repeated > 0 {
            writeln!(f, "twice     {} were asked for twice and answered alike", self.repeated)?;
        }
        if self.broken > 0 {
            writeln!(f, "broken    {} connections, on purpose", self.broken)?;
        }
        for (error, count) in &self.errors {
            writeln!(f, "error     {count} x {error}")?;
        }
        let line = |name: &str, latency: Latency| {
            format!(
                "{name:<9} p50 {}   p90 {}   p99 {}   p99.9 {}   max {}",
                readable(latency.p50),
                readable(latency.p90),
                readable(latency.p99),
                readable(latency.p99_9),
                readable(latency.max)
            )
        };
        writeln!(f, "{}", line("latency", self.latency_us))?;
        if self.model == "open" {
            writeln!(f, "{} (from when it was sent)", line("raw", self.raw_latency_us))?;
        }
        if !self.refused.is_empty() {
            writeln!(f, "{}", line("refusals", self.refused_latency_us))?;
        }
        if self.reads > 0 {
            writeln!(f, "{} (balance and statement)", line("looks", self.reads_latency_us))?;
            writeln!(f, "          {} looks at accounts, {} of them in vain", self.reads, self.reads_failed)?;
        }
        if let Some(share) = self.own_cpu_share {
            writeln!(f, "tester    used {:.0} % of this machine's processors", share * 100.0)?;
        }
        if self.planned_late > 0 {
            writeln!(f, "          was more than 50 ms late with {} sales", self.planned_late)?;
        }
        let audit = &self.audit;
        if audit.records == 0 {
            writeln!(
                f,
                "audit     impossible: nothing is known of {} approved sales and {} without an answer",
                audit.approved, audit.unanswered
            )?;
        } else {
            writeln!(
                f,
                "audit     {} of {} approved sales are in the journal, once each; {} records; all ledgers sum to {} øre",
                audit.found, audit.approved, audit.records, audit.ledgers_sum_ore
            )?;
        }
        if audit.records > 0 && audit.unanswered > 0 {
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
