//! The report as one page that needs nothing else: the figures, rate and latency over time, and how the latencies are spread.

use std::fmt::Write as _;

use plotters::coord::ranged1d::Ranged;
use plotters::prelude::*;

use crate::latency::{FIGURES, Latency, Pick, readable};
use crate::report::{Report, Verdict};
use crate::second::Second;

type Drawing = Result<(), Box<dyn std::error::Error>>;

const GREEN: RGBColor = RGBColor(20, 87, 63);
const ORANGE: RGBColor = RGBColor(196, 98, 16);
const RED: RGBColor = RGBColor(155, 28, 28);
const SIZE: (u32, u32) = (900, 300);

impl Report {
    /// The page.
    ///
    /// # Errors
    /// If a picture cannot be drawn.
    pub fn html(&self, before: Option<&Report>) -> Result<String, String> {
        let drawn = |error: Box<dyn std::error::Error>| error.to_string();
        let (mut rate, mut time, mut spread) = (String::new(), String::new(), String::new());
        self.draw_rate(&mut rate).map_err(drawn)?;
        self.draw_time(&mut time).map_err(drawn)?;
        self.draw_spread(&mut spread, before).map_err(drawn)?;
        let mut page = String::new();
        let name = escaped(&self.name);
        let verdict =
            if self.passed() { "everything that was expected held" } else { "NOT everything that was expected held" };
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{name}</title>\
             <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n\
             <h1>{name}: {verdict}</h1>\n{}{}\n\
             <h2>Sales a second</h2>\n{rate}\n<h2>Latency over time</h2>\n{time}\n\
             <h2>How latencies are spread</h2>\n{spread}\n<h2>All of it</h2>\n<pre>{}</pre>\n</body></html>\n",
            self.verdicts(),
            self.table(before),
            escaped(&self.to_string())
        );
        Ok(page)
    }

    /// What was expected, and what came of it.
    fn verdicts(&self) -> String {
        let mut list = String::new();
        for (what, Verdict { held, measured, .. }) in &self.expectations {
            let said = if *held { "held" } else { "<strong>NOT HELD</strong>" };
            let _ = writeln!(list, "<li>{}: {said} ({})</li>", escaped(what), escaped(measured));
        }
        if !self.audit.sound() {
            list.push_str("<li>the audit is <strong>NOT SOUND</strong>, see below</li>\n");
        }
        if list.is_empty() { list } else { format!("<ul>\n{list}</ul>\n") }
    }

    fn table(&self, before: Option<&Report>) -> String {
        let mut rows = String::new();
        let mut row = |what: &str, latency: Option<Latency>| {
            let Some(latency) = latency else { return };
            let _ = write!(rows, "<tr><th scope=\"row\">{what}</th>");
            for (_, pick) in FIGURES {
                let _ = write!(rows, "<td>{}</td>", readable(pick(&latency)));
            }
            rows.push_str("</tr>\n");
        };
        row("latency", self.latency_us);
        row("from when it was sent", self.raw_latency_us);
        if self.machine.slow_speed.is_some() {
            row("not disturbed by the machine", self.undisturbed_latency_us);
        }
        if !self.refused.is_empty() {
            row("approved", self.approved_latency_us);
            row("refused", self.refused_latency_us);
        }
        row("given up without an answer", self.unanswered_latency_us);
        row("looks at accounts", self.reads_latency_us);
        if let Some(before) = before {
            row("before", before.latency_us);
        }
        let planned = self.planned_rate.map_or_else(String::new, |rate| format!(" of {rate:.0} planned"));
        let names: String = FIGURES.iter().map(|(name, _)| format!("<th scope=\"col\">{name}</th>")).collect();
        format!(
            "<p>{} tills at {}, {}, {} model, {:.0} s: {:.0} sales/s{planned}.</p>\n<table><thead><tr><th></th>{names}</tr></thead><tbody>\n{rows}</tbody></table>",
            self.tills,
            escaped(&self.server),
            escaped(&self.started_at),
            self.model,
            self.measured_s,
            self.achieved_rate
        )
    }

    fn end(&self) -> f64 {
        self.seconds.last().map_or(1.0, |second| second.at_s.max(1.0))
    }

    fn draw_rate(&self, into: &mut String) -> Drawing {
        let planned = || self.seconds.iter().filter_map(|second| Some((second.at_s, second.planned_rate?)));
        let most = self.seconds.iter().map(|second| second.rate).chain(planned().map(|(_, rate)| rate));
        let most = most.fold(1.0, f64::max) * 1.1;
        let area = SVGBackend::with_string(into, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(70)
            .build_cartesian_2d(0.0..self.end(), 0.0..most)?;
        let whole = |value: &f64| format!("{value:.0}");
        let mut mesh = chart.configure_mesh();
        mesh.x_desc("seconds; shaded: warm-up").y_desc("sales/s").light_line_style(TRANSPARENT);
        mesh.x_label_formatter(&whole).y_label_formatter(&whole).draw()?;
        let warm = self.seconds.iter().filter(|second| second.warming_up).map(|second| second.at_s).fold(0.0, f64::max);
        chart.draw_series([Rectangle::new([(0.0, 0.0), (warm, most)], BLACK.mix(0.06).filled())])?;
        let answered: Vec<(f64, f64)> = self.seconds.iter().map(|second| (second.at_s, second.rate)).collect();
        let lines = [("planned", ORANGE, vec![planned().collect()]), ("answered", GREEN, vec![answered])];
        draw_lines(&mut chart, lines, SeriesLabelPosition::LowerRight)?;
        area.present()?;
        Ok(())
    }

    fn draw_time(&self, into: &mut String) -> Drawing {
        let millis = |value: f64| (value / 1e3).max(0.01);
        let longest = self.seconds.iter().filter_map(|second| second.latency_us).map(|latency| millis(latency.max));
        let most = longest.fold(1.0, f64::max) * 1.5;
        let area = SVGBackend::with_string(into, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(70)
            .build_cartesian_2d(0.0..self.end(), (0.05..most).log_scale())?;
        let whole = |value: &f64| format!("{value:.0}");
        let mut mesh = chart.configure_mesh();
        let slow = self.seconds.iter().any(|second| second.machine_slow > 0.0);
        mesh.x_desc(if slow {
            "seconds; shaded: the share of each in which the machine itself was slow, all of it to the top"
        } else {
            "seconds"
        });
        mesh.y_desc("ms").light_line_style(TRANSPARENT).x_label_formatter(&whole).draw()?;
        // From the bottom up, the more of a second was slow the higher: which latencies are the machine's is seen at a glance.
        let begins = std::iter::once(0.0).chain(self.seconds.iter().map(|second| second.at_s));
        chart.draw_series(begins.zip(&self.seconds).filter(|(_, second)| second.machine_slow > 0.0).map(
            |(begin, second)| {
                let top = 0.05 * (most / 0.05).powf(second.machine_slow.min(1.0));
                Rectangle::new([(begin, 0.05), (second.at_s, top)], BLACK.mix(0.15).filled())
            },
        ))?;
        let picks = [
            ("p50", GREEN, (|latency| latency.p50) as Pick),
            ("p99", ORANGE, |latency| latency.p99),
            ("longest", RED, |latency| latency.max),
        ];
        // Where nothing was answered there is a gap: a line across it would look like something measured.
        let stretches = || self.seconds.split(|second| second.latency_us.is_none());
        let lines = picks.map(|(name, colour, pick)| {
            let points = |stretch: &[Second]| {
                let answered = stretch.iter().filter_map(|second| Some((second.at_s, second.latency_us?)));
                answered.map(|(at, latency)| (at, millis(pick(&latency)))).collect()
            };
            (name, colour, stretches().map(points).collect())
        });
        draw_lines(&mut chart, lines, SeriesLabelPosition::LowerLeft)?;
        area.present()?;
        Ok(())
    }

    /// How many of a hundred sales took longer than so long: both axes by tens.
    fn draw_spread(&self, into: &mut String, before: Option<&Report>) -> Drawing {
        let runs: Vec<(&'static str, RGBColor, &Report)> =
            before.map(|before| ("before", ORANGE, before)).into_iter().chain([("this run", GREEN, self)]).collect();
        let longest = runs.iter().filter_map(|(_, _, run)| run.latency_us).map(|latency| latency.max / 1e3);
        let most = longest.fold(1.0, f64::max) * 1.5;
        let area = SVGBackend::with_string(into, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(70)
            .build_cartesian_2d((0.05..most).log_scale(), (0.001..100.0_f64).log_scale())?;
        chart.configure_mesh().x_desc("ms").y_desc("% took longer").light_line_style(TRANSPARENT).draw()?;
        let lines = runs.into_iter().map(|(name, colour, run)| (name, colour, vec![run.longer_than()]));
        draw_lines(&mut chart, lines, SeriesLabelPosition::LowerLeft)?;
        area.present()?;
        Ok(())
    }

    /// Milliseconds, and the percentage that took longer.
    #[expect(clippy::cast_precision_loss, reason = "2^52 sales are not measured")]
    fn longer_than(&self) -> Vec<(f64, f64)> {
        let all: u64 = self.histogram_us.iter().map(|(_, count)| count).sum();
        let mut left = all;
        let mut points = Vec::new();
        for (micros, count) in &self.histogram_us {
            left -= count;
            let share = left as f64 / all.max(1) as f64 * 100.0;
            if share >= 0.001 {
                points.push(((micros / 1e3).max(0.05), share));
            }
        }
        points
    }
}

/// Draws lines with their names, and the names where the lines mostly are not. One without points is left out.
fn draw_lines<'a, X, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    lines: impl IntoIterator<Item = (&'static str, RGBColor, Vec<Vec<(f64, f64)>>)>,
    names_at: SeriesLabelPosition,
) -> Drawing
where
    X: Ranged<ValueType = f64> + 'a,
    Y: Ranged<ValueType = f64> + 'a,
{
    for (name, colour, stretches) in lines {
        let mut name = Some(name);
        for points in stretches.into_iter().filter(|points| !points.is_empty()) {
            // One alone would be no line.
            let dot = u32::from(points.len() == 1) * 2;
            let drawn = chart.draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(dot))?;
            if let Some(name) = name.take() {
                drawn.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
            }
        }
    }
    let mut names = chart.configure_series_labels();
    names.position(names_at).background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.2)).draw()?;
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1d2320}\
svg{max-width:100%;height:auto}table{border-collapse:collapse}th,td{padding:.3rem .5rem;text-align:right;border-bottom:1px solid #d5d9d3}td{white-space:nowrap}\
strong{color:#9b1c1c}pre{background:#f4f5f2;padding:1rem;white-space:pre-wrap}h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use frokost_engine::{Amount, Lsn, Outcome, Receipt};

    use crate::audit::Audit;
    use crate::plan::{Plan, Shape};
    use crate::report::Report;
    use crate::second::{Phase, Second};
    use crate::stats::Stats;

    #[test]
    fn the_page_has_its_pictures_in_it_and_fetches_nothing() {
        let mut stats = Stats::default();
        let yes = Outcome::Approved(Receipt { lsn: Lsn(1), balance: Amount::ZERO });
        for micros in 1..2_000 {
            stats.decided(&yes, Duration::from_micros(micros), Duration::from_micros(micros), false);
        }
        let plan = Plan::new("a <run>", Shape::steady(100.0, Duration::from_secs(2)));
        let mut report = Report::new(&plan, &stats, stats.answered(), Duration::from_secs(2), Audit::default());
        report.seconds = (1..3)
            .map(|n| {
                Second::of(
                    &stats,
                    Duration::from_secs(n),
                    Duration::from_secs(1),
                    Some(1_990.0),
                    if n == 1 { Phase::WarmUp } else { Phase::Measured },
                )
            })
            .collect();
        let before = report.clone();
        assert!(!before.html(None).unwrap().contains("the machine itself was slow"));
        report.seconds[1].machine_slow = 0.4;
        report.judge(&stats, &[], Some(&before));
        let page = report.html(Some(&before)).unwrap();
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(page.contains("the machine itself was slow, all of it"));
        assert!(page.contains("a &lt;run&gt;") && page.contains("1.00 x") && page.contains("planned"));
        let fetched = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!fetched.contains("http") && !fetched.contains("src="), "it fetches something");
        // A line across a second without answers would be none that was measured: each of the three is two then.
        let lines = |report: &Report| report.html(None).unwrap().matches("<polyline").count();
        let mut dead = report.clone();
        dead.seconds = vec![report.seconds[0]; 5];
        let whole = lines(&dead);
        dead.seconds[2] =
            Second::of(&Stats::default(), Duration::from_secs(3), Duration::from_secs(1), None, Phase::Measured);
        assert_eq!(lines(&dead), whole + 3);
        // Who is held against a run that failed is told.
        let mut failed = before.clone();
        failed.audit.findings.push("x".to_owned());
        report.judge(&stats, &[], Some(&failed));
        assert!(report.to_string().contains("NOT ALIKE: the earlier run failed"), "{report}");
        report.judge(&stats, &[], Some(&before));
        assert!(!report.to_string().contains("the earlier run failed"), "{report}");
        // Nothing measured is no reason to fall.
        let empty = Report::new(&plan, &Stats::default(), 0, Duration::from_secs(1), Audit::default());
        assert!(empty.html(None).is_ok() && empty.to_string().contains("latency   there were none"), "{empty}");
        assert!(serde_json::to_string(&empty).unwrap().contains(r#""latency_us":null"#));
        // And what was written is read again.
        let text = serde_json::to_string(&report).unwrap();
        let again = Report::read(&text).unwrap();
        assert!(
            (again.latency_us.unwrap().p99 - report.latency_us.unwrap().p99).abs() < 0.001
                && again.histogram_us.len() > 1_000
        );
        let older = text.replacen("\"schema\":6", "\"schema\":5", 1);
        assert!(Report::read(&older).unwrap_err().to_string().starts_with("it is of schema 5, and this program"));
        assert!(Report::read("{}").unwrap_err().to_string().contains("is no report"));
    }
}
