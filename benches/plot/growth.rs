//! Pictures of how a figure grows with a number: lines over a logarithmic axis, as SVG. Drawn where `PICTURES` names a folder.

use std::path::PathBuf;

use plotters::prelude::*;

/// A line: what it is, and its points.
pub(crate) type Line<'a> = (&'a str, Vec<(f64, f64)>);

const COLOURS: [RGBColor; 4] =
    [RGBColor(20, 87, 63), RGBColor(196, 98, 16), RGBColor(68, 97, 123), RGBColor(139, 44, 98)];

/// Draws `name`.svg, if pictures are wanted.
pub(crate) fn draw(name: &str, across: &str, up: &str, lines: &[Line<'_>]) {
    assert!(lines.len() <= COLOURS.len(), "a line without a colour would not be drawn");
    let Some(folder) = std::env::var_os("PICTURES") else { return };
    let file = PathBuf::from(folder).join(name).with_extension("svg");
    let points = || lines.iter().flat_map(|(_, points)| points);
    let (from, to) = points().fold((f64::MAX, 1.0_f64), |(least, most), (x, _)| (least.min(*x), most.max(*x)));
    let most = points().map(|(_, y)| *y).fold(0.0, f64::max) * 1.1;
    let area = SVGBackend::new(&file, (720, 320)).into_drawing_area();
    area.fill(&WHITE).unwrap();
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        // The last number stands half behind the axis.
        .margin_right(36)
        .x_label_area_size(36)
        .y_label_area_size(76)
        .build_cartesian_2d((from * 0.9..to * 1.1).log_scale(), 0.0..most)
        .unwrap();
    // Seconds have a decimal, sales have none.
    let figure = |value: &f64| if most < 10.0 { format!("{value:.1}") } else { thousands(*value) };
    let number = |value: &f64| thousands(*value);
    chart
        .configure_mesh()
        .x_desc(across)
        .y_desc(up)
        .x_label_formatter(&number)
        .y_label_formatter(&figure)
        .draw()
        .unwrap();
    for ((what, points), colour) in lines.iter().zip(COLOURS) {
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)).point_size(3))
            .unwrap()
            .label(*what)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    // Where the lines are not: they rise or they fall.
    let ends = lines.iter().filter_map(|(_, points)| Some((points.first()?.1, points.last()?.1)));
    let (first, last) = ends.fold((0.0_f64, 0.0_f64), |(first, last), (a, b)| (first.max(a), last.max(b)));
    let rising = first < last;
    chart
        .configure_series_labels()
        .position(if rising { SeriesLabelPosition::UpperLeft } else { SeriesLabelPosition::UpperRight })
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .draw()
        .unwrap();
    area.present().unwrap();
    eprintln!("drawn: {}", file.display());
}

/// 12,300
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}
