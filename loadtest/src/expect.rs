//! Thresholds: `p99<20ms`, `p50<=500us`, `max<1s`. A run that measured nothing meets none.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::stats::Stats;

/// A bound on a latency.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    /// As it was written.
    text: String,
    /// 0 to 100; 100 is the maximum.
    percentile: f64,
    inclusive: bool,
    bound: Duration,
}

/// Why a text is no expectation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no threshold; write for instance 'p99<20ms', 'p50<=500us' or 'max<1s'")]
pub struct NotAnExpectation(String);

impl FromStr for Expectation {
    type Err = NotAnExpectation;

    fn from_str(text: &str) -> Result<Expectation, NotAnExpectation> {
        let wrong = || NotAnExpectation(text.to_owned());
        let bare: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let (what, bound) = bare.split_once('<').ok_or_else(wrong)?;
        let (inclusive, bound) = match bound.strip_prefix('=') {
            Some(bound) => (true, bound),
            None => (false, bound),
        };
        let percentile = match what {
            "max" => 100.0,
            _ => what.strip_prefix('p').and_then(|p| p.parse::<f64>().ok()).ok_or_else(wrong)?,
        };
        let digits = bound.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, unit) = bound.split_at(digits);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let seconds = match unit {
            "us" | "µs" => number / 1e6,
            "ms" => number / 1e3,
            "s" => number,
            _ => return Err(wrong()),
        };
        if !(percentile > 0.0 && percentile <= 100.0 && (0.0..=3600.0).contains(&seconds)) {
            return Err(wrong());
        }
        Ok(Expectation { text: bare, percentile, inclusive, bound: Duration::from_secs_f64(seconds) })
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Expectation {
    /// Did it hold? Nothing measured means no, and so does a sale that never had an answer.
    #[must_use]
    pub fn holds(&self, stats: &Stats) -> bool {
        if stats.latency.is_empty() || stats.given_up > 0 {
            return false;
        }
        let measured = Duration::from_nanos(stats.latency.value_at_percentile(self.percentile));
        if self.inclusive { measured <= self.bound } else { measured < self.bound }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frokost_engine::{Amount, Lsn, Outcome, Receipt};

    #[test]
    fn thresholds_are_read_and_held() {
        let mut stats = Stats::default();
        let expect = |text: &str| text.parse::<Expectation>().unwrap();
        assert!(!expect("p99<20ms").holds(&stats), "nothing measured meets nothing");
        let yes = Outcome::Approved(Receipt { lsn: Lsn(1), balance: Amount::ZERO });
        for millis in 1..=100 {
            stats.decided(&yes, Duration::from_millis(millis), Duration::from_millis(1));
        }
        assert!(expect("p50<51ms").holds(&stats));
        assert!(!expect("p50 < 50ms").holds(&stats));
        assert!(expect("max<=0.11s").holds(&stats));
        assert!(!expect("p99.9<90000us").holds(&stats));
        stats.abandoned(Duration::from_millis(1));
        assert!(!expect("p50<51ms").holds(&stats), "a sale without an answer meets nothing");
        for text in ["", "p99", "p99<20", "p0<1ms", "p101<1ms", "99<1ms", "p99>1ms", "p99<-1ms", "p99<1h", "pNaN<1ms"] {
            assert!(text.parse::<Expectation>().is_err(), "{text}");
        }
    }
}
