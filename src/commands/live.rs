//! What a load run shows while it goes on: one line that is written over on a terminal, a line a second elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use frokost_loadtest::report::{Latency, readable};
use frokost_loadtest::run::Progress;
use frokost_loadtest::stats::Stats;
use indicatif::{ProgressBar, ProgressStyle};

pub(crate) struct Live {
    bar: Option<ProgressBar>,
}

impl Live {
    pub(crate) fn new() -> Live {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Live { bar }
    }

    pub(crate) fn show(&self, progress: &Progress<'_>, tills: usize) {
        match progress {
            Progress::Connected(count) if *count == tills || self.bar.is_some() => {
                self.line(&format!("{count} of {tills} tills connected"));
            }
            Progress::Connected(_) => {}
            Progress::Second { warming_up, elapsed, stats } => {
                let phase = if *warming_up { "warm-up " } else { "" };
                self.line(&format!("{phase}{:>4.0} s  {}", elapsed.as_secs_f64(), second(stats)));
            }
            Progress::Audit { at, of } if self.bar.is_some() || at == of => {
                self.line(&format!("audit: {at} of {of} records"));
            }
            Progress::Audit { .. } => {}
        }
    }

    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => eprintln!("{text}"),
        }
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
    if stats.resent > 0 {
        line.push_str(&format!("  resent {}", stats.resent));
    }
    line
}
