//! Thresholds: `p99<20ms`, `refused.max<=1s`, `undisturbed.p99<5ms`, `refused<1%`, `rate>=5000`, and beside an earlier run
//! `p99<=1.2x`. A run that measured nothing meets none.

use std::fmt;
use std::str::FromStr;

use hdrhistogram::Histogram;

use crate::latency::{micros, readable};
use crate::report::{Report, Verdict};
use crate::stats::Stats;

/// Latencies are told apart up to a minute, in microseconds.
const LONGEST_US: f64 = 60e6;

/// A bound on something that is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    /// As it was written.
    text: String,
    what: What,
    comparison: Comparison,
    bound: Bound,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    /// A percentile from 0 to 100 of some latencies; 100 is the longest.
    Latency(Of, f64),
    Count(Counted),
    /// Sales answered within the measured time, a second.
    Rate,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Of {
    All,
    Raw,
    Approved,
    Refused,
    Undisturbed,
    Looks,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Counted {
    Refused,
    Unanswered,
    Resent,
    Missed,
    Errors,
    LooksFailed,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    Micros(f64),
    /// Of a hundred.
    Percent(f64),
    Number(f64),
    /// Of what an earlier run measured.
    Times(f64),
}

/// Why a text is no expectation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no threshold; write for instance 'p99<20ms', 'refused.max<=1s', 'undisturbed.p99<5ms', 'refused<1%', 'unanswered<1', 'rate>=5000', or 'p99<=1.2x' beside a baseline; times are up to 60s"
)]
pub struct NotAnExpectation(String);

impl FromStr for Expectation {
    type Err = NotAnExpectation;

    fn from_str(text: &str) -> Result<Expectation, NotAnExpectation> {
        let bare: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        Expectation::read(&bare).ok_or_else(|| NotAnExpectation(text.to_owned()))
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Expectation {
    fn read(bare: &str) -> Option<Expectation> {
        let at = bare.find(['<', '>'])?;
        let (what, bound) = bare.split_at(at);
        let (comparison, bound) =
            [("<=", Comparison::AtMost), (">=", Comparison::AtLeast), ("<", Comparison::Less), (">", Comparison::More)]
                .into_iter()
                .find_map(|(sign, comparison)| Some((comparison, bound.strip_prefix(sign)?)))?;
        let (what, bound) = (What::read(what)?, Bound::read(bound)?);
        let at_most = matches!(comparison, Comparison::Less | Comparison::AtMost);
        let fits = match (what, bound) {
            (What::Latency(..), Bound::Micros(_)) | (What::Latency(Of::All, _), Bound::Times(_)) => at_most,
            (What::Count(Counted::Errors), Bound::Number(_)) => at_most,
            (What::Count(Counted::Errors), _) => false,
            (What::Count(_), Bound::Number(_) | Bound::Percent(_)) => at_most,
            (What::Rate, Bound::Number(_) | Bound::Times(_)) => !at_most,
            (What::Latency(..) | What::Count(_) | What::Rate, _) => false,
        };
        fits.then(|| Expectation { text: bare.to_owned(), what, comparison, bound })
    }

    /// Is it about an earlier run, too?
    #[must_use]
    pub fn is_relative(&self) -> bool {
        matches!(self.bound, Bound::Times(_))
    }

    /// Does it say how many sales may be without an answer?
    pub(crate) fn bounds_unanswered(&self) -> bool {
        self.what == What::Count(Counted::Unanswered)
    }

    /// Did it hold? Nothing measured means no, and so does a sale without an answer where latencies are bounded.
    pub(crate) fn judge(&self, stats: &Stats, report: &Report, before: Option<&Report>) -> Verdict {
        let Some(measured) = self.measured(stats, report) else {
            return Verdict { held: false, value: None, measured: "nothing was measured".to_owned() };
        };
        let then = before.and_then(|before| match self.what {
            What::Latency(_, percentile) => before.percentile(percentile),
            What::Rate => Some(before.achieved_rate),
            What::Count(_) => None,
        });
        let (bound, times) = match (self.bound, then) {
            (Bound::Micros(bound) | Bound::Percent(bound) | Bound::Number(bound), _) => (bound, None),
            (Bound::Times(bound), Some(then)) if then > 0.0 => (bound, Some(measured / then)),
            (Bound::Times(_), _) => {
                let measured = "there is nothing to hold it against".to_owned();
                return Verdict { held: false, value: None, measured };
            }
        };
        let value = times.unwrap_or(measured);
        let of_sales =
            matches!(self.what, What::Latency(Of::All | Of::Raw | Of::Approved | Of::Refused | Of::Undisturbed, _));
        let unsold = report.unsold(stats);
        let unanswered = of_sales && unsold > 0;
        let within = match self.comparison {
            Comparison::Less => value < bound,
            Comparison::AtMost => value <= bound,
            Comparison::More => value > bound,
            Comparison::AtLeast => value >= bound,
        };
        let mut said = match (self.what, self.bound) {
            (What::Latency(..), _) => readable(measured),
            (What::Rate, _) => format!("{measured:.0}/s"),
            (What::Count(_), Bound::Percent(_)) => format!("{measured:.2} %"),
            (What::Count(_), _) => format!("{measured:.0}"),
        };
        if let Some(times) = times {
            said.push_str(&format!(", {times:.2} x"));
        }
        if unanswered {
            said.push_str(&format!(", and {unsold} sales had no answer"));
        }
        Verdict { held: within && !unanswered, value: Some(value), measured: said }
    }

    /// What is bounded, in the unit of the bound; nothing if there is nothing of it.
    #[expect(clippy::cast_precision_loss, reason = "2^52 sales are not measured")]
    fn measured(&self, stats: &Stats, report: &Report) -> Option<f64> {
        let sales = stats.answered() + report.unsold(stats);
        match self.what {
            What::Latency(of, percentile) => {
                let at = |latency: &Histogram<u64>| {
                    (!latency.is_empty()).then(|| micros(latency.value_at_percentile(percentile)))
                };
                match of {
                    Of::All => at(&stats.latency),
                    Of::Raw => at(&stats.raw),
                    Of::Approved => at(&stats.approved_latency()),
                    Of::Refused => at(&stats.refused_latency),
                    Of::Undisturbed => at(&stats.undisturbed_latency()),
                    Of::Looks => at(&stats.reads),
                }
            }
            What::Rate => (sales > 0).then_some(report.achieved_rate),
            What::Count(counted) => {
                let looks = stats.reads.len() + stats.reads_failed + stats.reads_missed;
                let (count, of) = match counted {
                    Counted::Refused => (stats.refused_in_all(), sales),
                    Counted::Unanswered => (report.unsold(stats), sales),
                    Counted::Resent => (stats.resent, sales),
                    Counted::Missed => (report.missed, report.planned?),
                    Counted::Errors => (stats.errors.values().sum(), sales),
                    Counted::LooksFailed => (stats.reads_failed + stats.reads_missed, looks),
                };
                let share = if matches!(self.bound, Bound::Percent(_)) { 100.0 / of as f64 } else { 1.0 };
                (of > 0).then_some(count as f64 * share)
            }
        }
    }
}

impl What {
    fn read(text: &str) -> Option<What> {
        let counted = match text {
            "rate" => return Some(What::Rate),
            "refused" => Some(Counted::Refused),
            "unanswered" => Some(Counted::Unanswered),
            "resent" => Some(Counted::Resent),
            "missed" => Some(Counted::Missed),
            "errors" => Some(Counted::Errors),
            "looks_failed" => Some(Counted::LooksFailed),
            _ => None,
        };
        if let Some(counted) = counted {
            return Some(What::Count(counted));
        }
        let (of, percentile) = [
            ("raw.", Of::Raw),
            ("approved.", Of::Approved),
            ("refused.", Of::Refused),
            ("undisturbed.", Of::Undisturbed),
            ("looks.", Of::Looks),
        ]
        .into_iter()
        .find_map(|(prefix, of)| Some((of, text.strip_prefix(prefix)?)))
        .unwrap_or((Of::All, text));
        let percentile = match percentile {
            "max" => 100.0,
            _ => percentile.strip_prefix('p')?.parse::<f64>().ok()?,
        };
        (percentile > 0.0 && percentile <= 100.0).then_some(What::Latency(of, percentile))
    }
}

impl Bound {
    fn read(text: &str) -> Option<Bound> {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: f64 = number.parse().ok()?;
        let time = |micros: f64| (micros <= LONGEST_US).then_some(Bound::Micros(micros));
        match unit {
            "us" | "µs" => time(number),
            "ms" => time(number * 1e3),
            "s" => time(number * 1e6),
            "%" => (number <= 100.0).then_some(Bound::Percent(number)),
            "x" => (number > 0.0).then_some(Bound::Times(number)),
            "" => Some(Bound::Number(number)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use frokost_engine::{Amount, Lsn, Outcome, Receipt, Rejection};

    use super::*;
    use crate::audit::Audit;
    use crate::plan::{Plan, Shape};

    fn report(stats: &Stats) -> Report {
        let plan = Plan::new("a run", Shape::steady(100.0, Duration::from_secs(2)));
        Report::new(&plan, stats, stats.answered(), Duration::from_secs(2), Audit::default())
    }

    fn verdict(text: &str, stats: &Stats, before: Option<&Report>) -> Verdict {
        text.parse::<Expectation>().unwrap().judge(stats, &report(stats), before)
    }

    /// A hundred sales of 1 to 100 ms, one in ten refused, those above 40 ms disturbed by the machine.
    fn measured() -> Stats {
        let mut stats = Stats::default();
        for millis in 1..=100 {
            let outcome = if millis % 10 == 0 {
                Outcome::Rejected(Rejection::CardBlocked)
            } else {
                Outcome::Approved(Receipt { lsn: Lsn(1), balance: Amount::ZERO })
            };
            stats.decided(&outcome, Duration::from_millis(millis), Duration::from_millis(1), millis > 40);
        }
        stats
    }

    #[test]
    fn thresholds_are_read_and_held() {
        let stats = measured();
        for (text, held, said) in [
            ("p50<51ms", true, "50.00 ms"),
            ("p50 < 50ms", false, "50.00 ms"),
            ("max<=0.11s", true, "100.01 ms"),
            ("p99.9<90000us", false, "100.01 ms"),
            ("raw.p99<2ms", true, "1.00 ms"),
            ("refused.p50<=51ms", true, "50.00 ms"),
            ("approved.max<99.5ms", true, "99.02 ms"),
            ("refused<=10%", true, "10.00 %"),
            ("refused<10%", false, "10.00 %"),
            ("refused<11", true, "10"),
            ("unanswered<1", true, "0"),
            ("errors<1", true, "0"),
            ("resent<=0%", true, "0.00 %"),
            ("rate>=50", true, "50/s"),
            ("rate>50", false, "50/s"),
        ] {
            let verdict = verdict(text, &stats, None);
            assert_eq!((verdict.held, verdict.measured.as_str()), (held, said), "{text}");
        }
    }

    #[test]
    fn what_the_machine_disturbed_can_be_left_out() {
        let mut stats = measured();
        assert!(!verdict("max<50ms", &stats, None).held, "what is bounded without a word are all");
        let said = |text| verdict(text, &stats, None);
        let left = said("undisturbed.max<41ms");
        assert!(left.held && left.value.is_some_and(|micros| micros < 41e3), "{left:?}");
        assert!(!said("undisturbed.p50<20ms").held);
        stats.disturbed_latency = stats.latency.clone();
        assert!(!verdict("undisturbed.max<41ms", &stats, None).held, "nothing is left");
    }

    #[test]
    fn what_was_not_measured_holds_nothing() {
        for text in ["p99<20ms", "refused<1%", "unanswered<1", "errors<1", "rate>=0", "looks.p50<1s", "looks_failed<1"]
        {
            assert!(!verdict(text, &Stats::default(), None).held, "{text}");
        }
        assert!(!verdict("looks.p50<1s", &measured(), None).held, "nobody looked");
        assert!(!verdict("missed<1", &measured(), None).held, "nothing was planned");
        let mut stats = measured();
        stats.abandoned(Duration::from_millis(1));
        let verdict = |text| verdict(text, &stats, None);
        assert!(!verdict("p50<51ms").held && verdict("p50<51ms").measured.contains("1 sales had no answer"));
        assert!(!verdict("unanswered<1").held && verdict("unanswered<2").held);
    }

    #[test]
    fn an_earlier_run_can_be_the_measure() {
        let before = report(&measured());
        let mut stats = Stats::default();
        (0..200).for_each(|_| {
            let yes = Outcome::Approved(Receipt { lsn: Lsn(1), balance: Amount::ZERO });
            stats.decided(&yes, Duration::from_millis(60), Duration::from_millis(1), false);
        });
        let verdict = |text| verdict(text, &stats, Some(&before));
        let slower = verdict("p50<=1.1x");
        assert_eq!((slower.held, slower.measured.as_str()), (false, "60.03 ms, 1.20 x"));
        assert!(slower.value.is_some_and(|times| (1.19..1.21).contains(&times)), "{slower:?}");
        assert!(verdict("p50<1.3x").held && verdict("p99<0.7x").held);
        let faster = verdict("rate>=1.9x");
        assert_eq!((faster.held, faster.measured.as_str()), (true, "100/s, 2.00 x"));
        assert!("p50<1.3x".parse::<Expectation>().unwrap().is_relative());
        assert!(!"p50<1.3x".parse::<Expectation>().unwrap().judge(&stats, &before, None).held);
    }

    #[test]
    fn what_is_no_threshold_is_said() {
        for text in [
            "",
            "p99",
            "p99<20",
            "p0<1ms",
            "p101<1ms",
            "99<1ms",
            "p99>1ms",
            "p99<-1ms",
            "p99<1h",
            "pNaN<1ms",
            "max<61s",
            "rate<5",
            "rate>=5ms",
            "refused>1%",
            "refused<101%",
            "refused<1ms",
            "errors<1%",
            "raw.p99<1.2x",
            "p99<0x",
            "looks<1",
            "<1ms",
            "p99<<1ms",
            "p99=1ms",
        ] {
            assert!(text.parse::<Expectation>().is_err(), "{text}");
        }
    }
}
