//! What a histogram of latencies says, in microseconds, and how people read it.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// The shortest.
    pub min: f64,
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 95 %.
    pub p95: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    #[serde(rename = "p99.9")]
    pub p99_9: f64,
    /// The longest.
    pub max: f64,
}

/// One figure of several.
pub type Pick = fn(&Latency) -> f64;

/// All figures, and what people call them.
pub const FIGURES: [(&str, Pick); 8] = [
    ("shortest", |latency| latency.min),
    ("mean", |latency| latency.mean),
    ("p50", |latency| latency.p50),
    ("p90", |latency| latency.p90),
    ("p95", |latency| latency.p95),
    ("p99", |latency| latency.p99),
    ("p99.9", |latency| latency.p99_9),
    ("longest", |latency| latency.max),
];

impl Latency {
    /// Of what was measured; nothing if that was nothing.
    #[must_use]
    pub fn of(latency: &Histogram<u64>) -> Option<Latency> {
        let at = |percentile| micros(latency.value_at_percentile(percentile));
        (!latency.is_empty()).then(|| Latency {
            min: micros(latency.min()),
            mean: latency.mean() / 1e3,
            p50: at(50.0),
            p90: at(90.0),
            p95: at(95.0),
            p99: at(99.0),
            p99_9: at(99.9),
            max: micros(latency.max()),
        })
    }
}

pub(crate) fn micros(nanos: u64) -> f64 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_the_one_it_is_called() {
        let mut latency = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        assert_eq!(Latency::of(&latency), None);
        (1..=1_000).for_each(|millis| latency.record(millis * 1_000_000).unwrap());
        let latency = Latency::of(&latency).unwrap();
        let wanted = [1.0, 500.5, 500.0, 900.0, 950.0, 990.0, 999.0, 1_000.0];
        for ((name, pick), wanted) in FIGURES.into_iter().zip(wanted) {
            assert!((pick(&latency) / 1e3 / wanted - 1.0).abs() < 0.002, "{name} of {latency:?}");
        }
    }
}
