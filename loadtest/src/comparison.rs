//! A run held against an earlier one: what is not the same about them, and how their figures stand to each other.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::asked::Asked;
use crate::latency::{FIGURES, Latency, Pick, readable};
use crate::report::{EndedEarly, Report};

/// Two runs beside each other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Comparison {
    /// The earlier run.
    pub name: String,
    /// When it began.
    pub started_at: String,
    /// How long it was measured, in seconds.
    pub measured_s: f64,
    /// What the runs do not have in common, each in words: then the figures say little.
    pub unlike: Vec<String>,
    /// The figures.
    pub rows: Vec<Row>,
}

/// One figure of both.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// Which.
    pub what: String,
    /// `us`, `1/s`, `%` or `sales`.
    pub unit: String,
    /// Of this run.
    pub now: f64,
    /// Of the earlier one.
    pub before: f64,
}

impl Comparison {
    /// What `now` is beside `before`.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "2^52 sales are not measured")]
    pub fn of(now: &Report, before: &Report) -> Comparison {
        let mut unlike = Vec::new();
        let mut told = |what: &str, now: String, before: String| {
            if now != before {
                unlike.push(format!("{what}: {now}, before {before}"));
            }
        };
        told("scenario", now.name.clone(), before.name.clone());
        told("tills", now.tills.to_string(), before.tills.to_string());
        told("sockets", now.sockets.to_string(), before.sockets.to_string());
        told("cards that could buy", now.cards.to_string(), before.cards.to_string());
        told("seed", now.seed.to_string(), before.seed.to_string());
        let ended = |report: &Report| match report.ended_early {
            None => "by its plan",
            Some(EndedEarly::Stopped) => "stopped",
            Some(EndedEarly::NoTillLeft) => "with its last till",
        };
        told("ended", ended(now).to_owned(), ended(before).to_owned());
        // Field by field, so that what differs is named; both as they are read, which may be a last digit beside what was written.
        let fields = |report: &Report| {
            let text = serde_json::to_string(&report.plan).unwrap_or_default();
            let read = serde_json::from_str::<Asked>(&text).ok().and_then(|plan| serde_json::to_value(plan).ok());
            match read {
                Some(serde_json::Value::Object(fields)) => fields,
                Some(_) | None => serde_json::Map::new(),
            }
        };
        let then = fields(before);
        for (key, value) in fields(now) {
            told(&key, value.to_string(), then.get(&key).map_or_else(String::new, ToString::to_string));
        }
        if !before.passed() {
            unlike.push(
                "the earlier run failed: something expected of it did not hold, or its audit was not sound".to_owned(),
            );
        }
        let refused = |report: &Report| {
            let refused: u64 = report.refused.values().sum();
            refused as f64 / (report.approved + refused).max(1) as f64 * 100.0
        };
        let cost = |report: &Report| report.own_cpu_share.unwrap_or_default() * 100.0;
        let row = |what: &str, unit: &str, of: &dyn Fn(&Report) -> f64| Row {
            what: what.to_owned(),
            unit: unit.to_owned(),
            now: of(now),
            before: of(before),
        };
        let mut rows = vec![row("sales/s", "1/s", &|report| report.achieved_rate)];
        // What one of them has nothing of cannot be compared.
        let both = |what: &str, now: Option<Latency>, before: Option<Latency>, pick: Pick| {
            let (now, before) = (pick(&now?), pick(&before?));
            Some(Row { what: what.to_owned(), unit: "us".to_owned(), now, before })
        };
        rows.extend(FIGURES.into_iter().filter_map(|(what, pick)| both(what, now.latency_us, before.latency_us, pick)));
        rows.extend([
            row("refused", "%", &refused),
            row("no answer", "sales", &|report| report.given_up as f64),
            row("tester", "%", &cost),
            row("machine slow", "%", &|report| report.machine.slow_share * 100.0),
        ]);
        let (mine, its) = (now.undisturbed_latency_us, before.undisturbed_latency_us);
        rows.extend(both("undisturbed p99", mine, its, |latency| latency.p99));
        let (name, started_at) = (before.name.clone(), before.started_at.clone());
        Comparison { name, started_at, measured_s: before.measured_s, unlike, rows }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "against   {} of {}, {:.0} s", self.name, self.started_at, self.measured_s)?;
        for what in &self.unlike {
            writeln!(f, "          NOT ALIKE: {what}")?;
        }
        for Row { what, unit, now, before } in &self.rows {
            let show = |value: f64| match unit.as_str() {
                "us" => readable(value),
                "%" => format!("{value:.2} %"),
                _ => format!("{value:.0}"),
            };
            let ratio = if *before > 0.0 { format!("{:.2} x", now / before) } else { "-".to_owned() };
            writeln!(f, "          {what:<15} {:>10}  before {:>10}  {ratio}", show(*now), show(*before))?;
        }
        Ok(())
    }
}
