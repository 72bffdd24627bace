//! Line charts as SVG, coloured by the page's own style sheet so that they follow its light or dark theme.
use std::fmt::Write;

use super::html::escape;

/// A value with an optional interval.
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) interval: Option<(f64, f64)>,
    /// Shown when the pointer rests on it.
    pub(super) tip: String,
}

/// One line.
pub(super) struct Series {
    /// Index into the page's colours.
    pub(super) colour: usize,
    pub(super) dashed: bool,
    pub(super) points: Vec<Point>,
}

/// A chart: axes, ticks and lines.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) x_label: &'a str,
    pub(super) y_label: &'a str,
    pub(super) x_ticks: Vec<(f64, String)>,
    pub(super) y_ticks: Vec<(f64, String)>,
    pub(super) series: Vec<Series>,
}

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 42.0;
/// Number of colours in the style sheet.
pub(super) const COLOURS: usize = 10;

impl Chart<'_> {
    /// Draws the chart.
    pub(super) fn svg(&self) -> String {
        let range = |ticks: &[(f64, String)]| {
            let low = ticks.iter().map(|t| t.0).fold(f64::INFINITY, f64::min);
            let high = ticks.iter().map(|t| t.0).fold(f64::NEG_INFINITY, f64::max);
            if high > low { (low, high) } else { (low - 0.5, low + 0.5) }
        };
        let ((x0, x1), (y0, y1)) = (range(&self.x_ticks), range(&self.y_ticks));
        let px = |x: f64| LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
        let py = |y: f64| HEIGHT - BOTTOM - (y.clamp(y0, y1) - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM);
        let mut out = format!(
            "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\
             <text class=\"title\" x=\"{LEFT}\" y=\"16\">{}</text>",
            escape(self.title),
            escape(self.title)
        );
        for (y, label) in &self.y_ticks {
            let at = py(*y);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 3.5,
                escape(label)
            );
        }
        for (x, label) in &self.x_ticks {
            let _ = write!(
                out,
                "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                px(*x),
                HEIGHT - BOTTOM + 16.0,
                escape(label)
            );
        }
        let _ = write!(
            out,
            "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text class=\"label\" transform=\"translate(12 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 8.0,
            escape(self.x_label),
            (TOP + HEIGHT - BOTTOM) / 2.0,
            escape(self.y_label)
        );
        for series in &self.series {
            lines(&mut out, series, &px, &py);
        }
        out.push_str("</svg>");
        out
    }
}

fn lines(out: &mut String, series: &Series, px: &dyn Fn(f64) -> f64, py: &dyn Fn(f64) -> f64) {
    let points = &series.points;
    if points.is_empty() {
        return;
    }
    let colour = series.colour % COLOURS;
    if points.len() > 1 && points.iter().all(|p| p.interval.is_some()) {
        let edge = |p: &Point, high: bool| {
            let (lo, hi) = p.interval.unwrap_or((p.y, p.y));
            format!("{:.1},{:.1}", px(p.x), py(if high { hi } else { lo }))
        };
        let outline: Vec<String> =
            points.iter().map(|p| edge(p, true)).chain(points.iter().rev().map(|p| edge(p, false))).collect();
        let _ = write!(out, "<polygon class=\"band f{colour}\" points=\"{}\"/>", outline.join(" "));
    }
    let path: Vec<String> = points.iter().map(|p| format!("{:.1},{:.1}", px(p.x), py(p.y))).collect();
    let dashed = if series.dashed { " dashed" } else { "" };
    let _ = write!(out, "<polyline class=\"line s{colour}{dashed}\" points=\"{}\"/>", path.join(" "));
    // Long training curves stay lines; few points get marks that explain themselves.
    let marked = points.len() <= 16;
    for point in points {
        let radius = if marked { 2.6 } else { 1.2 };
        let _ = write!(
            out,
            "<circle class=\"f{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius}\"><title>{}</title></circle>",
            px(point.x),
            py(point.y),
            escape(&point.tip)
        );
    }
}

/// Ticks from 0 to 100 %, every 20.
pub(super) fn percent_ticks() -> Vec<(f64, String)> {
    (0..=5).map(|i| (f64::from(i) * 0.2, (i * 20).to_string())).collect()
}

/// About five round ticks that cover `0..=high`.
pub(super) fn round_ticks(high: f64) -> Vec<(f64, String)> {
    let high = if high.is_finite() && high > 0.0 { high } else { 1.0 };
    let rough = high / 4.0;
    let magnitude = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * magnitude).find(|s| *s >= rough).unwrap_or(rough);
    let digits = if step < 1.0 { (-step.log10().floor()) as usize } else { 0 };
    let count = (high / step).ceil() as u32;
    (0..=count).map(|i| (f64::from(i) * step, format!("{:.digits$}", f64::from(i) * step))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover() {
        let labels = |high| round_ticks(high).into_iter().map(|t| t.1).collect::<Vec<_>>();
        assert_eq!(labels(2.3), ["0", "1", "2", "3"]);
        assert_eq!(labels(0.7), ["0.0", "0.2", "0.4", "0.6", "0.8"]);
        assert_eq!(labels(f64::NAN).first().map(String::as_str), Some("0.0"));
    }

    #[test]
    fn a_chart_escapes_what_it_shows() {
        let point = |x| Point { x, y: 0.5, interval: Some((0.4, 0.6)), tip: "a < b".into() };
        let chart = Chart {
            title: "t & u",
            x_label: "eps",
            y_label: "%",
            x_ticks: vec![(0.0, "0".into()), (1.0, "1/255".into())],
            y_ticks: percent_ticks(),
            series: vec![Series { colour: 3, dashed: false, points: vec![point(0.0), point(1.0)] }],
        };
        let svg = chart.svg();
        assert!(svg.contains("t &amp; u") && svg.contains("a &lt; b") && svg.contains("class=\"band f3\""));
        assert_eq!(svg.matches("<circle").count(), 2);
    }
}
