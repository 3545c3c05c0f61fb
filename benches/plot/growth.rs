//! Pictures of how a figure grows with a number: lines over a logarithmic axis, as SVG. Drawn where `PICTURES` names a folder.

use std::path::PathBuf;

use plotters::prelude::*;

/// A line: what it is, and its points.
pub(crate) type Line<'a> = (&'a str, Vec<(f64, f64)>);

const COLOURS: [RGBColor; 3] = [RGBColor(20, 87, 63), RGBColor(196, 98, 16), RGBColor(68, 97, 123)];

/// Draws `name`.svg, if pictures are wanted.
pub(crate) fn draw(name: &str, across: &str, up: &str, lines: &[Line<'_>]) {
    let Some(folder) = std::env::var_os("PICTURES") else { return };
    let file = PathBuf::from(folder).join(name).with_extension("svg");
    let points = || lines.iter().flat_map(|(_, points)| points);
    let (from, to) = points().fold((f64::MAX, 1.0_f64), |(least, most), (x, _)| (least.min(*x), most.max(*x)));
    let most = points().map(|(_, y)| *y).fold(0.0, f64::max) * 1.1;
    let area = SVGBackend::new(&file, (720, 320)).into_drawing_area();
    area.fill(&WHITE).unwrap();
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(76)
        .build_cartesian_2d((from * 0.9..to * 1.1).log_scale(), 0.0..most)
        .unwrap();
    let number = |value: &f64| format!("{value:.0}");
    chart.configure_mesh().x_desc(across).y_desc(up).x_label_formatter(&number).draw().unwrap();
    for ((what, points), colour) in lines.iter().zip(COLOURS) {
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)).point_size(3))
            .unwrap()
            .label(*what)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.2)).draw().unwrap();
    area.present().unwrap();
    eprintln!("drawn: {}", file.display());
}
