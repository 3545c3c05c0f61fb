//! The screen of a load run on a terminal: how far it is, rate and latency over time, the figures so far, and what was answered.
//! Drawn once a second from what the run tells.
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use frokost_loadtest::Plan;
use frokost_loadtest::latency::{Latency, Pick, readable};
use frokost_loadtest::run::Progress;
use frokost_loadtest::second::Phase as Part;
use frokost_loadtest::stats::Stats;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::Line;
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, LegendPosition, Paragraph, Row, Table};
use ratatui::{Frame, Terminal};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// A legend may take so much of its chart, or is left out.
const LEGEND: (Constraint, Constraint) = (Constraint::Percentage(50), Constraint::Percentage(50));

/// Standard error as something to draw on. A terminal that was closed is no reason to end a run, and the library, told of it, would panic when it
/// gives the cursor back.
struct Glass;

impl Write for Glass {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The terminal, taken over until it is dropped. Ctrl-C stays what it is.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<Glass>>,
    /// As the terminal was before what is typed was no longer shown.
    before: Option<Termios>,
    run: Run,
}

impl Screen {
    /// # Errors
    /// If the terminal cannot be drawn on.
    pub(crate) fn take_over(plan: &Plan, tills: usize, server: String) -> io::Result<Screen> {
        let mut terminal = Terminal::new(CrosstermBackend::new(Glass))?;
        execute!(terminal.backend_mut(), EnterAlternateScreen, Hide)?;
        let before = tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut silent = before.clone();
            silent.local_modes.remove(LocalModes::ECHO);
            // It is for looks only.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &silent);
        }
        let mut screen = Screen { terminal, before, run: Run::new(plan, tills, server) };
        screen.draw();
        Ok(screen)
    }

    pub(crate) fn show(&mut self, progress: &Progress<'_>) {
        if self.run.take(progress) {
            self.draw();
        }
    }

    fn draw(&mut self) {
        // One whose size cannot be asked any more is no reason to end a run either.
        drop(self.terminal.draw(|frame| self.run.draw(frame)));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        drop(execute!(self.terminal.backend_mut(), LeaveAlternateScreen, Show));
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// How far a run is.
enum Phase {
    Preparing(String),
    Connecting(usize),
    Selling { part: Part, elapsed: Duration },
    Auditing { at: u64, of: u64 },
}

/// What is known of a run so far.
struct Run {
    title: String,
    tills: usize,
    whole: Duration,
    phase: Phase,
    /// Sales a second over time, as planned and as answered.
    planned: Vec<(f64, f64)>,
    rate: Vec<(f64, f64)>,
    /// The logarithm of milliseconds over time.
    p50: Vec<(f64, f64)>,
    p99: Vec<(f64, f64)>,
    last: Stats,
    last_rate: f64,
    /// Since it is measured.
    all: Stats,
    measured: Duration,
    /// Sales that were decided in it.
    in_time: u64,
}

/// A time on the chart of latencies: decades, from a microsecond on.
fn decade(micros: f64) -> f64 {
    (micros.max(1.0) / 1e3).log10()
}

fn line<'a>(name: &'static str, colour: Color, points: &'a [(f64, f64)]) -> Dataset<'a> {
    let style = Style::default().fg(colour);
    Dataset::default().name(name).marker(Marker::Braille).graph_type(GraphType::Line).style(style).data(points)
}

impl Run {
    fn new(plan: &Plan, tills: usize, server: String) -> Run {
        let mut planned = Vec::new();
        let mut at = 0.0;
        for stage in plan.shape.with_warm_up(plan.warm_up) {
            planned.push((at, stage.from));
            at += stage.duration.as_secs_f64();
            planned.push((at, stage.to));
        }
        Run {
            title: format!("{}: {tills} tills buy at {server}, seed {}", plan.name, plan.seed),
            tills,
            whole: plan.warm_up + plan.shape.duration(),
            phase: Phase::Preparing("asking which cards there are".to_owned()),
            planned,
            rate: Vec::new(),
            p50: Vec::new(),
            p99: Vec::new(),
            last: Stats::default(),
            last_rate: 0.0,
            all: Stats::default(),
            measured: Duration::ZERO,
            in_time: 0,
        }
    }

    /// Takes in what the run tells; whether there is something new to be seen.
    fn take(&mut self, progress: &Progress<'_>) -> bool {
        match *progress {
            Progress::Preparing(ref what) => {
                self.phase = Phase::Preparing(what.clone());
                true
            }
            Progress::Connected(count) => {
                self.phase = Phase::Connecting(count);
                count % 16 == 0 || count == self.tills
            }
            Progress::Second { phase: part, elapsed, took, stats, planned: _ } => {
                let at = elapsed.as_secs_f64();
                self.last_rate = stats.answered() as f64 / took.as_secs_f64().max(0.001);
                self.rate.push((at, self.last_rate));
                if let Some(latency) = Latency::of(&stats.latency) {
                    self.p50.push((at, decade(latency.p50)));
                    self.p99.push((at, decade(latency.p99)));
                }
                if part != Part::WarmUp {
                    self.all.add(stats);
                }
                if part == Part::Measured {
                    self.measured += took;
                    self.in_time += stats.answered();
                }
                self.last = stats.clone();
                self.phase = Phase::Selling { part, elapsed };
                true
            }
            Progress::Audit { at, of } => {
                self.phase = Phase::Auditing { at: at.0, of: of.0 };
                true
            }
        }
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let parts = [
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Min(8),
            Constraint::Length(10),
            Constraint::Length(1),
        ];
        let [title, progress, charts, figures, hint] = Layout::vertical(parts).areas(frame.area());
        frame.render_widget(Line::from(self.title.as_str()).bold(), title);
        self.draw_progress(frame, progress);
        let [rate, latency] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(charts);
        self.draw_rate(frame, rate);
        self.draw_latency(frame, latency);
        let [table, answers] = Layout::horizontal([Constraint::Length(46), Constraint::Fill(1)]).areas(figures);
        self.draw_figures(frame, table);
        self.draw_answers(frame, answers);
        let text = "Ctrl-C ends it now: what was sold is audited and reported; once more ends it at once";
        frame.render_widget(Line::from(text).dim(), hint);
    }

    fn draw_progress(&self, frame: &mut Frame<'_>, area: Rect) {
        let (done, label) = match &self.phase {
            Phase::Preparing(what) => (0.0, what.clone()),
            Phase::Connecting(count) => {
                (*count as f64 / self.tills.max(1) as f64, format!("{count} of {} tills connected", self.tills))
            }
            Phase::Selling { part, elapsed } => {
                let phase = match part {
                    Part::WarmUp => "warming up",
                    Part::Measured => "measuring",
                    Part::After => "waiting for the last answers",
                };
                let (at, of) = (elapsed.as_secs_f64(), self.whole.as_secs_f64());
                (at / of.max(0.001), format!("{phase}: {at:.0} of {of:.0} s"))
            }
            Phase::Auditing { at, of } => {
                (*at as f64 / (*of).max(1) as f64, format!("audit: {at} of {of} records read"))
            }
        };
        let gauge =
            Gauge::default().ratio(done.clamp(0.0, 1.0)).label(label).gauge_style(Color::Green).use_unicode(true);
        frame.render_widget(gauge, area);
    }

    fn draw_rate(&self, frame: &mut Frame<'_>, area: Rect) {
        let most = self.rate.iter().chain(&self.planned).map(|(_, rate)| *rate).fold(1.0, f64::max) * 1.1;
        let mut lines = Vec::new();
        if !self.planned.is_empty() {
            lines.push(line("planned", Color::DarkGray, &self.planned));
        }
        lines.push(line("answered", Color::Green, &self.rate));
        let chart = Chart::new(lines)
            .block(Block::bordered().title(" sales/s "))
            .legend_position(Some(LegendPosition::BottomRight))
            .hidden_legend_constraints(LEGEND)
            .x_axis(self.time())
            .y_axis(
                Axis::default().bounds([0.0, most]).labels([0.0, most / 2.0, most].map(|rate| format!("{rate:.0}"))),
            );
        frame.render_widget(chart, area);
    }

    fn draw_latency(&self, frame: &mut Frame<'_>, area: Rect) {
        let all = || self.p50.iter().chain(&self.p99).map(|(_, latency)| *latency);
        let least = all().fold(0.0, f64::min).floor();
        let most = all().fold(1.0, f64::max).ceil();
        let labels: Vec<String> = std::iter::successors(Some(least), |at| Some(at + 1.0))
            .take_while(|at| *at <= most)
            .map(|at| readable(10_f64.powf(at) * 1e3).replace(".00", ""))
            .collect();
        let chart = Chart::new(vec![line("p99", Color::Yellow, &self.p99), line("p50", Color::Cyan, &self.p50)])
            .block(Block::bordered().title(" latency "))
            .hidden_legend_constraints(LEGEND)
            .x_axis(self.time())
            .y_axis(Axis::default().bounds([least, most]).labels(labels));
        frame.render_widget(chart, area);
    }

    fn time(&self) -> Axis<'static> {
        let end = self.whole.as_secs_f64().max(1.0);
        Axis::default().bounds([0.0, end]).labels(["0".to_owned(), format!("{end:.0} s")])
    }

    fn draw_figures(&self, frame: &mut Frame<'_>, area: Rect) {
        let (now, all) = (Latency::of(&self.last.latency), Latency::of(&self.all.latency));
        let rate = self.in_time as f64 / self.measured.as_secs_f64().max(0.001);
        let mut rows = vec![Row::new(["sales/s".to_owned(), format!("{:.0}", self.last_rate), format!("{rate:.0}")])];
        let picks: [(&str, Pick); 5] = [
            ("p50", |latency| latency.p50),
            ("p90", |latency| latency.p90),
            ("p99", |latency| latency.p99),
            ("p99.9", |latency| latency.p99_9),
            ("longest", |latency| latency.max),
        ];
        for (name, pick) in picks {
            let [now, all] = [&now, &all].map(|of| of.as_ref().map_or_else(|| "-".to_owned(), |of| readable(pick(of))));
            rows.push(Row::new([name.to_owned(), now, all]));
        }
        if self.all.speed.was_slow() {
            let share = |stats: &Stats| format!("{:.1} %", stats.speed.slow_share() * 100.0);
            rows.push(Row::new(["machine slow".to_owned(), share(&self.last), share(&self.all)]).yellow());
        }
        let table = Table::new(rows, [Constraint::Length(13), Constraint::Length(14), Constraint::Length(14)])
            .header(Row::new(["", "last second", "measured"]).dim())
            .block(Block::bordered());
        frame.render_widget(table, area);
    }

    fn draw_answers(&self, frame: &mut Frame<'_>, area: Rect) {
        let mut lines = vec![Line::from(format!("{:>9} approved", self.all.approved)).green()];
        if let Some(Latency { p50, p99, .. }) = Latency::of(&self.all.reads) {
            let (p50, p99) = (readable(p50), readable(p99));
            lines.push(Line::from(format!("{:>9} looks at accounts, p50 {p50}, p99 {p99}", self.all.reads.len())));
        }
        lines.extend(self.all.refused.iter().map(|(why, count)| Line::from(format!("{count:>9} refused: {why}"))));
        let rare: BTreeMap<&str, u64> = BTreeMap::from([
            ("sent again", self.all.resent),
            ("asked for twice on purpose", self.all.repeated),
            ("connections lost on purpose", self.all.broken),
            ("looks at accounts in vain", self.all.reads_failed + self.all.reads_missed),
            ("NO ANSWER", self.all.given_up),
        ]);
        let rare = rare.into_iter().filter(|(_, count)| *count > 0);
        lines.extend(rare.map(|(what, count)| Line::from(format!("{count:>9} {what}")).yellow()));
        lines.extend(self.all.errors.iter().map(|(error, count)| Line::from(format!("{count:>9} x {error}")).red()));
        frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" answers ")), area);
    }
}

#[cfg(test)]
mod tests {
    use frokost_engine::{Amount, Lsn, Outcome, Receipt, Rejection};
    use frokost_loadtest::machine::Speed;
    use frokost_loadtest::{Shape, Stage};
    use ratatui::backend::TestBackend;

    use super::*;

    fn plan() -> Plan {
        let stage = |seconds, from, to| Stage { duration: Duration::from_secs(seconds), from, to };
        let shape = Shape::Open { stages: vec![stage(10, 0.0, 200.0), stage(20, 200.0, 200.0)] };
        Plan { warm_up: Duration::from_secs(5), seed: 7, ..Plan::new("a-run", shape) }
    }

    fn seen(run: &Run, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| run.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    fn second(sales: u64) -> Stats {
        let mut stats = Stats::default();
        let yes = Outcome::Approved(Receipt { lsn: Lsn(1), balance: Amount::ZERO });
        for micros in 1..=sales {
            stats.decided(&yes, Duration::from_micros(micros * 10), Duration::from_micros(micros), false);
        }
        stats.decided(
            &Outcome::Rejected(Rejection::CardBlocked),
            Duration::from_millis(1),
            Duration::from_millis(1),
            false,
        );
        stats
    }

    #[test]
    fn it_shows_where_the_run_is_and_what_came_of_it() {
        let mut run = Run::new(&plan(), 64, "127.0.0.1:4433".to_owned());
        assert!(seen(&run, 100, 30).contains("asking which cards there are"));
        assert!(!run.take(&Progress::Connected(3)) && run.take(&Progress::Connected(64)));
        assert!(seen(&run, 100, 30).contains("64 of 64 tills connected"));
        for n in 1..=12 {
            let (elapsed, took, mut stats) = (Duration::from_secs(n), Duration::from_secs(1), second(199));
            stats.speed =
                Speed { looked: took, slow: if n == 12 { took / 4 } else { Duration::ZERO }, ..Speed::default() };
            run.take(&Progress::Second {
                phase: if n <= 5 { Part::WarmUp } else { Part::Measured },
                elapsed,
                took,
                planned: Some(200.0),
                stats: &stats,
            });
        }
        let screen = seen(&run, 100, 30);
        for part in [
            "a-run: 64 tills buy at 127.0.0.1:4433, seed 7",
            "measuring: 12 of 35 s",
            "planned",
            "answered",
            // Seven measured seconds of 199 and one refusal.
            "1393 approved",
            "7 refused: card_blocked",
            "sales/s       200",
            "longest       1.99 ms",
            "machine slow  25.0 %         3.6 %",
            "Ctrl-C",
        ] {
            assert!(screen.contains(part), "'{part}' is not in\n{screen}");
        }
        run.take(&Progress::Audit { at: Lsn(500), of: Lsn(1_000) });
        assert!(seen(&run, 100, 30).contains("audit: 500 of 1000 records read"));
    }

    #[test]
    fn a_small_terminal_and_nothing_measured_are_no_trouble() {
        let mut run = Run::new(&plan(), 1, String::new());
        let (elapsed, stats) = (Duration::ZERO, Stats::default());
        run.take(&Progress::Second { phase: Part::Measured, elapsed, took: elapsed, planned: None, stats: &stats });
        for (width, height) in [(80, 24), (40, 10), (3, 2), (1, 1)] {
            seen(&run, width, height);
        }
    }
}
