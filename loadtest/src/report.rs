//! What is told after a run: as lines for people, as JSON for programs. Every number says what it is of.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::asked::Asked;
use crate::audit::Audit;
use crate::comparison::Comparison;
use crate::expect::Expectation;
use crate::latency::{Latency, micros, readable};
use crate::machine::Machine;
use crate::plan::{Plan, Shape};
use crate::second::Second;
use crate::stats::Stats;

/// The version of the JSON.
pub const SCHEMA: u32 = 6;
/// Less of what was planned than this is a failure, whatever the latencies are.
const ACHIEVED: f64 = 0.99;
/// More of the plan than this begun late or never, and the rate is not claimed.
const LATE: f64 = 0.01;

/// A run's result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The version of this structure.
    pub schema: u32,
    /// The program that measured.
    pub version: String,
    /// When the tester asked the server for the first time, by the server's clock: a date and time with the offset from UTC.
    pub started_at: String,
    /// The server's address.
    pub server: String,
    /// The scenario.
    pub name: String,
    /// What was to be done.
    pub plan: Asked,
    /// How many tills sold.
    pub tills: usize,
    /// How many UDP sockets they shared.
    pub sockets: usize,
    /// How many different cards could buy.
    pub cards: usize,
    /// What made the choices.
    pub seed: u64,
    /// `open` or `closed`.
    pub model: String,
    /// Why it ended before its end, if it did.
    pub ended_early: Option<EndedEarly>,
    /// Sales planned per second; only in the open model.
    pub planned_rate: Option<f64>,
    /// Sales answered within the measured time, per second.
    pub achieved_rate: f64,
    /// Sales planned within the measured time; only in the open model.
    pub planned: Option<u64>,
    /// Of those, how many no till ever began: all that could have were gone.
    pub missed: u64,
    /// Of those that were begun, how many the tester itself was more than 50 ms late with.
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
    /// Packets lost on purpose, in the warm-up, too.
    #[serde(default)]
    pub lost_packets: u64,
    /// First connections that were lost with them and tried again, before anybody sold.
    #[serde(default)]
    pub lost_handshakes: u64,
    /// Errors of connections, by message.
    pub errors: BTreeMap<String, u64>,
    /// From when a sale was planned (open) or sent (closed) until its answer was read, in microseconds. Where there was none of the kind, this and those that follow are nothing.
    pub latency_us: Option<Latency>,
    /// From when it was first sent.
    pub raw_latency_us: Option<Latency>,
    /// Of those answered with a yes.
    pub approved_latency_us: Option<Latency>,
    /// Of the refused.
    pub refused_latency_us: Option<Latency>,
    /// How long it took until those without an answer were given up.
    pub unanswered_latency_us: Option<Latency>,
    /// Of those in whose time the machine itself was as fast as usual.
    pub undisturbed_latency_us: Option<Latency>,
    /// How many sales that were.
    pub undisturbed: u64,
    /// Looks at accounts that showed balance and statement.
    pub reads: u64,
    /// Looks in vain.
    pub reads_failed: u64,
    /// Looks that were due and never begun.
    pub reads_missed: u64,
    /// From when a look was planned until both were read, in microseconds.
    pub reads_latency_us: Option<Latency>,
    /// Every latency: the upper end of a class in microseconds, and how many.
    pub histogram_us: Vec<(f64, u64)>,
    /// Second by second, the warm-up included.
    pub seconds: Vec<Second>,
    /// What the tester itself used of the machine, 0 to 1.
    pub own_cpu_share: Option<f64>,
    /// How fast the machine itself was.
    pub machine: Machine,
    /// The audit after the run.
    pub audit: Audit,
    /// What was expected, and what came of it.
    pub expectations: BTreeMap<String, Verdict>,
    /// The run held against an earlier one.
    pub against: Option<Comparison>,
}

/// Why a run ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedEarly {
    /// Somebody said stop.
    Stopped,
    /// All tills had lost their server for good.
    NoTillLeft,
}

/// What came of something that was expected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Did it hold?
    pub held: bool,
    /// What was held against the bound, in microseconds, sales a second, of a hundred, times, or a number of them, as the bound is; nothing
    /// if there was nothing, or the bound is no number.
    pub value: Option<f64>,
    /// What was measured, for people.
    pub measured: String,
}

/// Why a text is no report to hold a run against.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAReport {
    /// Another version.
    #[error("it is of schema {0}, and this program writes and reads {SCHEMA}: measure it again with this program")]
    Schema(u64),
    /// Something else.
    #[error("it is no report ({0}); write one with --out")]
    Other(String),
}

impl Report {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(crate) fn new(plan: &Plan, stats: &Stats, in_time: u64, elapsed: Duration, audit: Audit) -> Report {
        let seconds = elapsed.as_secs_f64();
        let undisturbed = stats.undisturbed_latency();
        let model = match plan.shape {
            Shape::Open { .. } => "open",
            Shape::Closed { .. } => "closed",
        };
        Report {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: String::new(),
            server: String::new(),
            name: plan.name.clone(),
            plan: plan.into(),
            tills: 0,
            sockets: 0,
            cards: 0,
            seed: plan.seed,
            model: model.to_owned(),
            ended_early: None,
            planned_rate: None,
            achieved_rate: in_time as f64 / seconds.max(f64::MIN_POSITIVE),
            planned: None,
            missed: 0,
            planned_late: stats.begun_late,
            measured_s: seconds,
            approved: stats.approved,
            refused: stats.refused.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect(),
            given_up: stats.given_up,
            resent: stats.resent,
            repeated: stats.repeated,
            broken: stats.broken,
            lost_packets: 0,
            lost_handshakes: 0,
            errors: stats.errors.clone(),
            latency_us: Latency::of(&stats.latency),
            raw_latency_us: Latency::of(&stats.raw),
            approved_latency_us: Latency::of(&stats.approved_latency()),
            refused_latency_us: Latency::of(&stats.refused_latency),
            unanswered_latency_us: Latency::of(&stats.unanswered_latency),
            undisturbed_latency_us: Latency::of(&undisturbed),
            undisturbed: undisturbed.len(),
            reads: stats.reads.len(),
            reads_failed: stats.reads_failed,
            reads_missed: stats.reads_missed,
            reads_latency_us: Latency::of(&stats.reads),
            histogram_us: stats
                .latency
                .iter_recorded()
                .map(|class| (micros(class.value_iterated_to()), class.count_since_last_iteration()))
                .collect(),
            seconds: Vec::new(),
            own_cpu_share: None,
            machine: stats.speed.into(),
            audit,
            expectations: BTreeMap::new(),
            against: None,
        }
    }

    /// Reads one that was written.
    ///
    /// # Errors
    /// [`NotAReport`], which names the version if that is what is wrong.
    pub fn read(text: &str) -> Result<Report, NotAReport> {
        #[derive(Deserialize)]
        struct Versioned {
            schema: u64,
        }
        let other = |error: serde_json::Error| NotAReport::Other(error.to_string());
        let Versioned { schema } = serde_json::from_str(text).map_err(other)?;
        if schema != u64::from(SCHEMA) {
            return Err(NotAReport::Schema(schema));
        }
        serde_json::from_str(text).map_err(other)
    }

    /// What was planned, in the open model.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(crate) fn plan(&mut self, planned: u64, begun: u64) {
        self.planned = Some(planned);
        self.missed = planned.saturating_sub(begun);
        self.planned_rate = Some(planned as f64 / self.measured_s.max(f64::MIN_POSITIVE));
    }

    /// Judges what is expected of every run, and what somebody expects of this one.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(crate) fn judge(&mut self, stats: &Stats, expectations: &[Expectation], before: Option<&Report>) {
        let mut verdicts: BTreeMap<String, Verdict> =
            expectations.iter().map(|expected| (expected.to_string(), expected.judge(stats, self, before))).collect();
        let mut expect = |what: &str, held: bool, measured: String| {
            verdicts.insert(what.to_owned(), Verdict { held, value: None, measured });
        };
        if stats.approved == 0 {
            expect("something is sold", false, "no sale was approved".to_owned());
        }
        let bounded = expectations.iter().any(Expectation::bounds_unanswered);
        let unsold = self.unsold(stats);
        if unsold > 0 && !bounded {
            expect("every sale is answered", false, format!("{unsold} were not"));
        }
        if self.ended_early == Some(EndedEarly::NoTillLeft) {
            expect("the plan is played to its end", false, format!("no till was left after {:.1} s", self.measured_s));
        }
        if self.audit.left_blocked > 0 {
            let left = format!("{} may not", self.audit.left_blocked);
            expect("who was blocked for the run can buy again", false, left);
        }
        if let (Some(planned), Some(rate)) = (self.planned, self.planned_rate) {
            if self.ended_early != Some(EndedEarly::Stopped) {
                let achieved = self.achieved_rate / rate.max(f64::MIN_POSITIVE);
                let what = format!("achieved>={:.0}%", ACHIEVED * 100.0);
                expect(&what, planned > 0 && achieved >= ACHIEVED, format!("{:.1} %", achieved * 100.0));
            }
            let (late, missed) = (self.planned_late, self.missed);
            let held = planned > 0 && (late + missed) as f64 <= planned as f64 * LATE;
            let share = (late + missed) as f64 / planned.max(1) as f64 * 100.0;
            let measured = if planned == 0 {
                "nothing was planned".to_owned()
            } else {
                format!("{late} late, {missed} never begun: {share:.2} %, at most {:.0} %", LATE * 100.0)
            };
            expect("planned in time", held, measured);
        }
        self.expectations = verdicts;
        self.against = before.map(|before| Comparison::of(self, before));
    }

    /// Sales that were to be and had no answer: given up, or never begun.
    pub(crate) fn unsold(&self, stats: &Stats) -> u64 {
        stats.given_up + self.missed
    }

    /// Did everything hold that was expected, and is the audit sound?
    #[must_use]
    pub fn passed(&self) -> bool {
        self.expectations.values().all(|verdict| verdict.held) && self.audit.sound()
    }

    /// So many of a hundred sales took no longer than this, in microseconds; nothing if there was none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "2^52 sales are not measured")]
    pub fn percentile(&self, percentile: f64) -> Option<f64> {
        let all: u64 = self.histogram_us.iter().map(|(_, count)| count).sum();
        let mut counted = 0;
        let within = self.histogram_us.iter().find(|(_, count)| {
            counted += count;
            counted as f64 >= all as f64 * percentile / 100.0
        });
        within.map(|(micros, _)| *micros)
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
            Some(planned) if planned > 0.0 => writeln!(
                f,
                ": {:.0} sales/s planned, {:.0} achieved ({:.1} %)",
                planned,
                self.achieved_rate,
                self.achieved_rate / planned * 100.0
            )?,
            Some(_) => writeln!(f, ": no sale was planned")?,
            None => writeln!(f, ": {:.0} sales/s", self.achieved_rate)?,
        }
        let ended = match self.ended_early {
            None => None,
            Some(EndedEarly::Stopped) => Some("stopped   before its end"),
            Some(EndedEarly::NoTillLeft) => Some("ended     with its last till"),
        };
        if let Some(ended) = ended {
            writeln!(f, "{ended}: {:.1} of {:.1} s were measured", self.measured_s, self.plan.seconds)?;
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
        if self.lost_packets > 0 {
            let handshakes = match self.lost_handshakes {
                0 => String::new(),
                some => format!("; {some} handshakes with them, tried again before anybody sold"),
            };
            writeln!(f, "lost      {} packets, on purpose{handshakes}", self.lost_packets)?;
        }
        for (error, count) in &self.errors {
            writeln!(f, "error     {count} x {error}")?;
        }
        let line = |name: &str, latency: Option<Latency>| match latency {
            Some(Latency { p50, p90, p99, p99_9, max, .. }) => {
                let [p50, p90, p99, p99_9, max] = [p50, p90, p99, p99_9, max].map(readable);
                format!("{name:<9} p50 {p50}   p90 {p90}   p99 {p99}   p99.9 {p99_9}   max {max}")
            }
            None => format!("{name:<9} there were none"),
        };
        writeln!(f, "{}", line("latency", self.latency_us))?;
        if self.model == "open" {
            writeln!(f, "{} (from when it was sent)", line("raw", self.raw_latency_us))?;
        }
        if !self.refused.is_empty() {
            writeln!(f, "{}", line("approvals", self.approved_latency_us))?;
            writeln!(f, "{}", line("refusals", self.refused_latency_us))?;
        }
        if self.given_up > 0 {
            writeln!(f, "{} (until they were given up)", line("no answer", self.unanswered_latency_us))?;
        }
        let (seen, vain, missed) = (self.reads, self.reads_failed, self.reads_missed);
        if seen + vain + missed > 0 {
            writeln!(f, "{} (balance and statement)", line("looks", self.reads_latency_us))?;
            writeln!(f, "          {seen} looks at accounts, {vain} more in vain, {missed} due and never begun")?;
        }
        if let Some(share) = self.own_cpu_share {
            writeln!(f, "tester    used {:.0} % of this machine's processors", share * 100.0)?;
        }
        if self.planned_late > 0 {
            writeln!(f, "          was more than 50 ms late with {} sales", self.planned_late)?;
        }
        if let Machine { slow_share, slow_speed: Some(speed), slow_stretches: times, longest_slow_ms: longest } =
            self.machine
        {
            let (share, speed) = (slow_share * 100.0, speed * 100.0);
            writeln!(
                f,
                "machine   was slow itself for {share:.1} % of the time ({times} times, {longest:.0} ms at most), and did {speed:.0} % of its usual work then"
            )?;
            let all: u64 = self.histogram_us.iter().map(|(_, count)| count).sum();
            match self.undisturbed {
                0 => writeln!(f, "          it disturbed every sale")?,
                some => writeln!(
                    f,
                    "{} (undisturbed: {:.0} % of the sales)",
                    line("", self.undisturbed_latency_us),
                    some as f64 / all.max(1) as f64 * 100.0
                )?,
            }
        }
        if self.missed > 0 {
            writeln!(f, "missed    {} planned sales were never begun", self.missed)?;
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
        if audit.left_blocked > 0 {
            writeln!(
                f,
                "          {} accounts that were blocked for this run may still be; `frokost account activate` lets them buy again",
                audit.left_blocked
            )?;
        }
        for finding in &audit.findings {
            writeln!(f, "          WRONG: {finding}")?;
        }
        for (expectation, Verdict { held, measured, .. }) in &self.expectations {
            writeln!(f, "expected  {expectation}: {} ({measured})", if *held { "held" } else { "NOT HELD" })?;
        }
        if let Some(against) = &self.against {
            write!(f, "{against}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use frokost_engine::{Amount, Lsn, Outcome, Receipt, Rejection};

    use super::*;
    use crate::machine::Speed;

    #[test]
    fn what_the_machine_did_to_it_is_said_and_only_then() {
        let yes = Outcome::Approved(Receipt { lsn: Lsn(1), balance: Amount::ZERO });
        let plan = Plan::new("a run", Shape::steady(100.0, Duration::from_secs(2)));
        let mut stats = Stats::default();
        let told = |stats: &Stats| {
            Report::new(&plan, stats, stats.answered(), Duration::from_secs(2), Audit::default()).to_string()
        };
        for millis in 1..=100 {
            let latency = Duration::from_millis(millis);
            stats.decided(&yes, latency, latency, millis > 75);
        }
        assert!(!told(&stats).contains("machine") && !told(&stats).contains("undisturbed"), "{}", told(&stats));
        let longest = Duration::from_millis(86);
        let slow = longest + Duration::from_millis(48);
        stats.speed = Speed { looked: Duration::from_secs(2), slow, stretches: 2, longest, lost: slow.mul_f64(0.8) };
        let text = told(&stats);
        let slow = "machine   was slow itself for 6.7 % of the time (2 times, 86 ms at most), and did 20 % of its usual work then\n";
        assert!(text.contains(slow), "{text}");
        assert!(text.contains("          p50 38.01 ms") && text.contains("(undisturbed: 75 % of the sales)"), "{text}");
        stats.disturbed_latency = stats.latency.clone();
        assert!(told(&stats).contains("it disturbed every sale"), "{}", told(&stats));
    }

    #[test]
    fn nothing_sold_or_never_begun_is_not_passed_over() {
        let open = Plan::new("open", Shape::steady(100.0, Duration::from_secs(2)));
        let ended = |stats: &Stats, planned: Option<(u64, u64)>, ended: Option<EndedEarly>| {
            let audit = Audit { records: 1, ..Audit::default() };
            let mut report = Report::new(&open, stats, stats.answered(), Duration::from_secs(2), audit);
            report.ended_early = ended;
            if let Some((planned, begun)) = planned {
                report.plan(planned, begun);
            }
            report.judge(stats, &["p99<1s".parse().unwrap()], None);
            (report.passed(), report.to_string())
        };
        let judged =
            |stats: &Stats, planned, stopped: bool| ended(stats, planned, stopped.then_some(EndedEarly::Stopped));
        let no = Outcome::Rejected(Rejection::CardBlocked);
        let mut refused = Stats::default();
        (0..200).for_each(|_| refused.decided(&no, Duration::from_millis(1), Duration::from_millis(1), false));
        let (passed, text) = judged(&refused, Some((200, 200)), false);
        assert!(!passed && text.contains("something is sold: NOT HELD (no sale was approved)"), "{text}");
        let yes = Outcome::Approved(Receipt { lsn: Lsn(1), balance: Amount::ZERO });
        let mut stats = Stats::default();
        for planned in [None, Some((0, 0)), Some((200, 0))] {
            let (passed, text) = judged(&stats, planned, true);
            assert!(!passed && text.contains("something is sold: NOT HELD") && !text.contains("NaN"), "{text}");
        }
        (0..200).for_each(|_| stats.decided(&yes, Duration::from_millis(1), Duration::from_millis(1), false));
        assert!(judged(&stats, Some((200, 200)), false).0 && judged(&stats, None, false).0);
        let (passed, text) = judged(&stats, Some((203, 200)), false);
        assert!(!passed && text.contains("missed    3 planned sales were never begun"), "{text}");
        assert!(text.contains("planned in time: NOT HELD (0 late, 3 never begun: 1.48 %, at most 1 %)"), "{text}");
        // What was never begun has no latency: it might have been the longest.
        let (passed, text) = judged(&stats, Some((201, 200)), false);
        assert!(!passed && text.contains("p99<1s: NOT HELD (1.00 ms, and 1 sales had no answer)"), "{text}");
        let (passed, text) = judged(&stats, Some((210, 210)), false);
        assert!(!passed && text.contains("achieved>=99%: NOT HELD (95.2 %)"), "{text}");
        assert!(judged(&stats, Some((210, 210)), true).0, "who stops a run is not told that it fell short");
        let (passed, text) = ended(&stats, Some((200, 200)), Some(EndedEarly::NoTillLeft));
        let why = "the plan is played to its end: NOT HELD (no till was left after 2.0 s)";
        assert!(!passed && text.contains(why), "all that was due by then was sold: {text}");
        stats.begun_late = 3;
        assert!(
            judged(&stats, Some((200, 200)), false)
                .1
                .contains("planned in time: NOT HELD (3 late, 0 never begun: 1.50 %, at most 1 %)")
        );
        stats.begun_late = 0;
        stats.abandoned(Duration::from_secs(1));
        assert!(judged(&stats, None, false).1.contains("every sale is answered: NOT HELD (1 were not)"));
        let audit = Audit { records: 1, left_blocked: 2, ..Audit::default() };
        let mut report = Report::new(&open, &stats, stats.answered(), Duration::from_secs(2), audit);
        report.judge(&stats, &["unanswered<=1".parse().unwrap()], None);
        let held: Vec<bool> = report.expectations.values().map(|verdict| verdict.held).collect();
        assert_eq!(held, [true, false], "{report}");
        assert!(report.to_string().contains("can buy again: NOT HELD (2 may not)"), "{report}");
    }
}
