//! What a load run shows while it goes on: a screen on a terminal, a line a second elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use frokost_loadtest::Plan;
use frokost_loadtest::latency::{Latency, readable};
use frokost_loadtest::run::Progress;
use frokost_loadtest::second::Phase;
use frokost_loadtest::stats::Stats;

use crate::commands::live_screen::Screen;
use crate::say::complain;

pub(crate) enum Live {
    /// Until it is dropped.
    Screen(Box<Screen>),
    Lines(Lines),
}

pub(crate) struct Lines {
    /// So many are to be connected.
    tills: usize,
    /// When it was last said how far something is.
    said: Instant,
}

impl Live {
    pub(crate) fn new(plan: &Plan, tills: usize, server: String) -> Live {
        if std::io::stderr().is_terminal()
            && let Ok(screen) = Screen::take_over(plan, tills, server)
        {
            return Live::Screen(Box::new(screen));
        }
        Live::lines(tills)
    }

    pub(crate) fn lines(tills: usize) -> Live {
        Live::Lines(Lines { tills, said: Instant::now() })
    }

    pub(crate) fn show(&mut self, progress: &Progress<'_>) {
        match self {
            Live::Screen(screen) => screen.show(progress),
            Live::Lines(lines) => {
                if let Some(line) = lines.take(progress) {
                    complain!("{line}");
                }
            }
        }
    }
}

impl Lines {
    /// What is worth a line.
    fn take(&mut self, progress: &Progress<'_>) -> Option<String> {
        let tills = self.tills;
        match progress {
            Progress::Preparing(what) => Some(what.clone()),
            Progress::Connected(count) => {
                self.now_and_then(*count == tills).then(|| format!("{count} of {tills} tills connected"))
            }
            Progress::Second { phase, elapsed, took, planned, stats } => {
                let phase = match phase {
                    Phase::WarmUp => "warm-up ",
                    Phase::Measured => "",
                    Phase::After => "waiting for the last answers ",
                };
                Some(format!("{phase}{:>4.0} s  {}", elapsed.as_secs_f64(), second(stats, *took, *planned)))
            }
            Progress::Audit { at, of } => {
                self.now_and_then(at == of).then(|| format!("audit: {at} of {of} records read"))
            }
        }
    }

    /// When it is done, and every second until then.
    fn now_and_then(&mut self, done: bool) -> bool {
        let due = done || self.said.elapsed() > Duration::from_secs(1);
        if due {
            self.said = Instant::now();
        }
        due
    }
}

/// One second's rate, beside what was planned, latency, and what was said.
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn second(stats: &Stats, took: Duration, planned: Option<f64>) -> String {
    let mut line = format!("{:>6.0} sales/s", stats.answered() as f64 / took.as_secs_f64().max(0.001));
    if let Some(planned) = planned {
        line.push_str(&format!(" of {planned:.0}"));
    }
    match Latency::of(&stats.latency) {
        None => line.push_str("  no answers"),
        Some(Latency { p50, p99, .. }) => {
            let (p50, p99) = (readable(p50), readable(p99));
            line.push_str(&format!("  p50 {p50}  p99 {p99}  approved {}", stats.approved));
        }
    }
    for (why, count) in &stats.refused {
        line.push_str(&format!("  {why} {count}"));
    }
    if stats.speed.was_slow() {
        line.push_str(&format!("  machine slow {:.1} %", stats.speed.slow_share() * 100.0));
    }
    if !stats.reads.is_empty() {
        line.push_str(&format!("  looks {}", stats.reads.len()));
    }
    let errors = stats.errors.values().sum();
    let rare = [
        ("looks in vain", stats.reads_failed),
        ("resent", stats.resent),
        ("GIVEN UP", stats.given_up),
        ("errors", errors),
    ];
    for (what, count) in rare.into_iter().filter(|(_, count)| *count > 0) {
        line.push_str(&format!("  {what} {count}"));
    }
    if let Some((error, _)) = stats.errors.iter().max_by_key(|(_, count)| **count) {
        line.push_str(&format!(" ({error})"));
    }
    line
}

#[cfg(test)]
mod tests {
    use frokost_engine::Lsn;
    use frokost_loadtest::machine::Speed;

    use super::*;

    fn second(stats: &Stats) -> Progress<'_> {
        let (elapsed, took) = (Duration::from_secs(3), Duration::from_secs(1));
        Progress::Second { phase: Phase::Measured, elapsed, took, planned: Some(200.0), stats }
    }

    #[test]
    fn a_line_says_what_was_planned_and_what_is_wrong() {
        let mut lines = Lines { tills: 2, said: Instant::now() };
        let mut stats = Stats::default();
        assert_eq!(lines.take(&second(&Stats::default())).unwrap(), "   3 s       0 sales/s of 200  no answers");
        stats.speed = Speed { looked: Duration::from_secs(1), slow: Duration::from_millis(92), ..Speed::default() };
        assert!(lines.take(&second(&stats)).unwrap().ends_with("no answers  machine slow 9.2 %"));
        stats.speed = Speed::default();
        stats.abandoned(Duration::from_secs(2));
        stats.errors.insert("no answer".to_owned(), 4);
        let line = lines.take(&second(&stats)).unwrap();
        assert!(line.ends_with("approved 0  GIVEN UP 1  errors 4 (no answer)"), "{line}");
    }

    #[test]
    fn how_far_it_is_is_said_now_and_then_and_at_the_end() {
        let mut lines = Lines { tills: 2, said: Instant::now() };
        assert_eq!(lines.take(&Progress::Connected(1)), None);
        assert_eq!(lines.take(&Progress::Connected(2)).unwrap(), "2 of 2 tills connected");
        let audit = |at| Progress::Audit { at: Lsn(at), of: Lsn(9) };
        assert_eq!(lines.take(&audit(3)), None);
        lines.said -= Duration::from_secs(2);
        assert_eq!(lines.take(&audit(4)).unwrap(), "audit: 4 of 9 records read");
        assert_eq!(lines.take(&audit(9)).unwrap(), "audit: 9 of 9 records read");
    }
}
