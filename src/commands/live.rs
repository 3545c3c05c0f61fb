//! What a load run shows while it goes on: a screen on a terminal, a line a second elsewhere.

use std::io::IsTerminal;

use frokost_loadtest::Plan;
use frokost_loadtest::report::{Latency, readable};
use frokost_loadtest::run::Progress;
use frokost_loadtest::stats::Stats;

use crate::commands::live_screen::Screen;

pub(crate) enum Live {
    /// Until it is dropped.
    Screen(Box<Screen>),
    /// With so many tills to be connected.
    Lines(usize),
}

impl Live {
    pub(crate) fn new(plan: &Plan, tills: usize, server: String) -> Live {
        if std::io::stderr().is_terminal()
            && let Ok(screen) = Screen::take_over(plan, tills, server)
        {
            return Live::Screen(Box::new(screen));
        }
        Live::Lines(tills)
    }

    pub(crate) fn show(&mut self, progress: &Progress<'_>) {
        match self {
            Live::Screen(screen) => screen.show(progress),
            Live::Lines(tills) => {
                if let Some(line) = line(progress, *tills) {
                    eprintln!("{line}");
                }
            }
        }
    }
}

/// What is worth a line.
fn line(progress: &Progress<'_>, tills: usize) -> Option<String> {
    match progress {
        Progress::Preparing(what) => Some(what.clone()),
        Progress::Connected(count) => (*count == tills).then(|| format!("{count} of {tills} tills connected")),
        Progress::Second { warming_up, elapsed, stats } => {
            let phase = if *warming_up { "warm-up " } else { "" };
            Some(format!("{phase}{:>4.0} s  {}", elapsed.as_secs_f64(), second(stats)))
        }
        Progress::Audit { at, of } => (at == of).then(|| format!("audit: {at} of {of} records")),
    }
}

/// One second's rate, latency, and what was said.
fn second(stats: &Stats) -> String {
    let latency = Latency::of(&stats.latency);
    let mut line = format!(
        "{:>6} sales/s  p50 {}  p99 {}  approved {}",
        stats.answered(),
        readable(latency.p50),
        readable(latency.p99),
        stats.approved
    );
    for (why, count) in &stats.refused {
        line.push_str(&format!("  {why} {count}"));
    }
    if !stats.reads.is_empty() {
        line.push_str(&format!("  looks {}", stats.reads.len()));
    }
    if stats.resent > 0 {
        line.push_str(&format!("  resent {}", stats.resent));
    }
    line
}
