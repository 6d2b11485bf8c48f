//! Pictures as SVG: curves and heat maps, in tones that read on a light and on a dark page.

use crate::{grouped, text::drawable};
use anyhow::{Result, anyhow};
use plotters::{coord::Shift, prelude::*};
use std::{fmt::Display, iter, ops::Range, path::Path};

const SIZE: (u32, u32) = (760, 420);
/// The height of the panels below the first.
const LOWER: u32 = 300;
/// Text and axes: about as far from white as from a dark page.
const INK: RGBColor = RGBColor(126, 126, 126);
const FLOOR: RGBColor = RGBColor(205, 82, 82);
/// Curves, told apart by people with colour-blindness too (after Okabe and Ito, toned down).
const CURVES: [RGBColor; 5] = [
    RGBColor(33, 131, 200),
    RGBColor(221, 128, 20),
    RGBColor(22, 158, 115),
    RGBColor(178, 105, 160),
    RGBColor(130, 130, 40),
];

/// Curves over a common axis, perhaps with a floor that none of them can cross, and other level lines.
pub struct Plot {
    x_label: String,
    y_label: String,
    lines: Vec<(String, Vec<(f64, f64)>)>,
    outlines: Vec<Vec<(f64, f64)>>,
    levels: Vec<Level>,
    log_x: bool,
    from_zero: bool,
    legend: SeriesLabelPosition,
}

/// A dashed line across the plot.
struct Level {
    label: String,
    y: f64,
    colour: RGBColor,
}

impl Plot {
    pub fn new(x_label: &str, y_label: &str) -> Self {
        Self {
            x_label: x_label.into(),
            y_label: y_label.into(),
            lines: Vec::new(),
            outlines: Vec::new(),
            levels: Vec::new(),
            log_x: false,
            from_zero: false,
            legend: SeriesLabelPosition::UpperRight,
        }
    }

    /// Adds a curve through `points`, in the order given. One without a label is not in the legend.
    pub fn line(&mut self, label: &str, points: Vec<(f64, f64)>) {
        let drawable = |&(x, y): &(f64, f64)| !(x.abs() >= MOST || y.abs() >= MOST);
        self.lines.push((label.into(), points.into_iter().filter(drawable).collect()));
    }

    /// Adds a faint line behind the curves, such as a contour of what they walk on.
    pub fn outline(&mut self, points: Vec<(f64, f64)>) {
        self.outlines.push(points);
    }

    /// Adds a dashed level line that nothing crosses.
    pub fn floor(&mut self, label: &str, y: f64) {
        self.levels.push(Level { label: label.into(), y, colour: FLOOR });
    }

    /// Adds a dashed level line to compare with.
    pub fn level(&mut self, label: &str, y: f64) {
        // The curves' colours from behind, so that they rarely meet.
        let colour = CURVES[CURVES.len() - 1 - self.levels.len() % CURVES.len()];
        self.levels.push(Level { label: label.into(), y, colour });
    }

    /// Lets the y-axis begin at 0.
    pub fn from_zero(&mut self) {
        self.from_zero = true;
    }

    /// Gives each power of ten the same stretch of the x-axis.
    pub fn log_x(&mut self) {
        self.log_x = true;
    }

    /// Moves the legend to the left and makes room for it above, for curves that rise.
    pub fn legend_above(&mut self) {
        self.legend = SeriesLabelPosition::UpperLeft;
    }

    /// Draws the plot into an SVG file. Without points nothing but the axes is drawn.
    pub fn save(&self, path: &Path) -> Result<()> {
        save_svg(path, SIZE, |area| self.draw(area, xs([self])))
    }

    /// All points of curves and outlines.
    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        let lines = self.lines.iter().map(|(_, points)| points);
        lines.chain(&self.outlines).flatten().map(|point| self.placed(point))
    }

    /// Where a point stands on the axes.
    fn placed(&self, &(x, y): &(f64, f64)) -> (f64, f64) {
        (if self.log_x { x.log10() } else { x }, y)
    }

    /// The smallest range that shows all curves and levels.
    fn ys(&self) -> Range<f64> {
        let points = self.points().map(|point| point.1);
        let levels = self.levels.iter().map(|level| level.y);
        let zero = self.from_zero.then_some(0.0);
        let ys = range(points.chain(levels).chain(zero), 0.06);
        let start = if self.from_zero { 0.0 } else { ys.start };
        let above = matches!(self.legend, SeriesLabelPosition::UpperLeft);
        start..if above { ys.end + 0.35 * (ys.end - start) } else { ys.end }
    }

    /// What is written at a place of the x-axis. Half a power of ten is about 3.
    fn x_mark(&self, x: f64) -> String {
        if self.log_x { format!("{:.0e}", 10f64.powf(x)) } else { grouped(x.round() as i64) }
    }

    fn draw(&self, area: &Area, xs: Range<f64>) -> Result<()> {
        let ys = self.ys();
        let height = ys.end - ys.start;
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .margin_right(28)
            .x_label_area_size(44)
            .y_label_area_size(60)
            .build_cartesian_2d(xs.clone(), ys)
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .x_desc(&self.x_label)
            .y_desc(&self.y_label)
            .x_labels(if self.log_x { 5 } else { (area.dim_in_pixel().0 as usize / 65).min(11) })
            .x_label_formatter(&|x| self.x_mark(*x))
            .y_label_formatter(&|y| tick(*y, height))
            .label_style(text(14))
            .axis_desc_style(text(15))
            .axis_style(INK)
            .bold_line_style(INK.mix(0.25))
            .light_line_style(TRANSPARENT)
            .draw()
            .map_err(drawing)?;
        for points in &self.outlines {
            let points = points.iter().map(|point| self.placed(point));
            chart.draw_series(LineSeries::new(points, INK.mix(0.5))).map_err(drawing)?;
        }
        for (i, (label, points)) in self.lines.iter().enumerate() {
            let points: Vec<(f64, f64)> = points.iter().map(|point| self.placed(point)).collect();
            let style = CURVES[i % CURVES.len()].stroke_width(2);
            // A curve through one point is a dot.
            let dots = points.iter().filter(|_| points.len() == 1);
            chart
                .draw_series(dots.map(|dot| Circle::new(*dot, 3, style.color.filled())))
                .map_err(drawing)?;
            let curve = LineSeries::new(points, style);
            let curve = chart.draw_series(curve).map_err(drawing)?;
            if !label.is_empty() {
                curve
                    .label(drawable(label))
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
            }
        }
        for Level { label, y, colour } in &self.levels {
            let ends = [(xs.start, *y), (xs.end, *y)];
            let style = colour.stroke_width(2);
            chart
                .draw_series(DashedLineSeries::new(ends, 8, 5, style))
                .map_err(drawing)?
                .label(drawable(label))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
        }
        chart
            .configure_series_labels()
            .position(self.legend.clone())
            .label_font(text(15))
            .draw()
            .map_err(drawing)
    }
}

/// Draws several plots into one SVG file: the first in full width, the others side by side below it, all over
/// the same stretch of the x-axis.
pub fn save_panels(path: &Path, first: &Plot, others: &[Plot]) -> Result<()> {
    let (width, height) = SIZE;
    save_svg(path, (width, height + LOWER), |area| {
        let (upper, lower) = area.split_vertically(height);
        let xs = xs(iter::once(first).chain(others));
        first.draw(&upper, xs.clone())?;
        let areas = lower.split_evenly((1, others.len()));
        others.iter().zip(areas).try_for_each(|(plot, area)| plot.draw(&area, xs.clone()))
    })
}

/// The smallest range that shows all curves of all plots.
fn xs<'a>(plots: impl IntoIterator<Item = &'a Plot>) -> Range<f64> {
    range(plots.into_iter().flat_map(Plot::points).map(|point| point.0), 0.0)
}

/// A number at an axis that spans `height`, with as many digits as tell its marks apart.
fn tick(y: f64, height: f64) -> String {
    match height {
        10_000.0.. => format!("{}k", grouped((y / 1e3).round() as i64)),
        100.0.. => grouped(y.round() as i64),
        1.0.. => format!("{y:.1}"),
        _ => format!("{y:.2}"),
    }
}

/// A square of shares, and what stands along both sides: `shares[row][column]` is in 0..=1. A row may be
/// shorter than the square.
pub struct HeatMap {
    pub title: String,
    pub labels: Vec<String>,
    pub shares: Vec<Vec<f64>>,
}

/// Draws heat maps side by side, `columns` in a row: the darker a cell, the larger the share.
pub fn heat_maps(path: &Path, maps: &[HeatMap], columns: usize) -> Result<()> {
    let rows = maps.len().div_ceil(columns);
    let cells = maps.iter().map(|map| map.labels.len()).max().unwrap_or(0) as u32;
    let side = 14 * cells + 56;
    save_svg(path, (side * columns as u32, side * rows as u32), |area| {
        for (map, area) in maps.iter().zip(area.split_evenly((rows, columns))) {
            map.draw(&area)?;
        }
        Ok(())
    })
}

impl HeatMap {
    fn draw(&self, area: &Area) -> Result<()> {
        let (cell, left, top) = (14, 34, 44);
        area.draw(&Text::new(drawable(&self.title), (left, 4), text(15))).map_err(drawing)?;
        for (i, label) in self.labels.iter().enumerate() {
            let at = i as i32 * cell;
            let here = Text::new(drawable(label), (left - 16, top + at), text(12));
            let there = Text::new(drawable(label), (left + at + 3, top - 16), text(12));
            area.draw(&here).map_err(drawing)?;
            area.draw(&there).map_err(drawing)?;
            for (j, share) in self.shares[i].iter().enumerate() {
                let corner = (left + j as i32 * cell, top + at);
                let far = (corner.0 + cell - 1, corner.1 + cell - 1);
                // A faint square even where the share is 0 shows what the map is of.
                let colour = CURVES[0].mix(0.06 + 0.94 * share);
                area.draw(&Rectangle::new([corner, far], colour.filled())).map_err(drawing)?;
            }
        }
        Ok(())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn save_svg(path: &Path, size: (u32, u32), draw: impl FnOnce(&Area) -> Result<()>) -> Result<()> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        draw(&area)?;
        area.present().map_err(drawing)?;
    }
    files::write_atomically(path, |file| Ok(file.write_all(svg.as_bytes())?))
}

fn text(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).with_color(INK).into_text_style(&(0, 0))
}

/// The smallest range over all finite values, widened by `margin` of itself at both ends.
fn range(values: impl Iterator<Item = f64>, margin: f64) -> Range<f64> {
    let values = values.filter(|value| value.abs() < MOST);
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return 0.0..1.0;
    }
    let pad = if high > low { (high - low) * margin } else { 0.5 };
    low - pad..high + pad
}

/// Numbers from here on are not drawn: a picture over all of them would be infinitely high, and 64 bits have no marks
/// for them.
const MOST: f64 = 1e18;

fn drawing(error: impl Display) -> anyhow::Error {
    anyhow!("cannot draw the plot: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(save: impl FnOnce(&Path) -> Result<()>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plot.svg");
        save(&path).unwrap();
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_loss_beyond_all_bounds_is_left_out() {
        let mut plot = Plot::new("step", "loss");
        plot.line("val", vec![(0.0, 1.0), (1.0, 1e308), (2.0, -1e308), (3.0, 2.0)]);
        assert!(plot.ys().start > 0.0 && plot.ys().end < 3.0);
        assert!(drawn(|path| plot.save(path)).contains("loss"));
    }

    #[test]
    fn a_level_is_shown_however_far_it_lies_from_the_curves() {
        let mut plot = Plot::new("step", "loss");
        plot.line("only", vec![(0.0, 2.0), (9.0, 3.0)]);
        plot.level("theirs", 7.0);
        plot.floor("floor", 1.0);
        assert!(plot.ys().start < 1.0 && plot.ys().end > 7.0);
        plot.from_zero();
        assert_eq!(plot.ys().start, 0.0);
        let top = plot.ys().end;
        plot.legend_above();
        assert!(plot.ys().end > 1.3 * top, "there is room for the legend");
        let svg = drawn(|path| plot.save(path));
        assert!(["only", "theirs", "floor"].iter().all(|label| svg.contains(label)), "{svg}");
    }

    #[test]
    fn panels_are_one_picture_and_a_lone_point_is_a_dot() {
        let plot = |label: &str, points: &[(f64, f64)]| {
            let mut plot = Plot::new("step", label);
            plot.line("", points.to_vec());
            plot
        };
        let first = plot("above", &[(0.0, 1.0), (1.0, 2.0)]);
        let others = [plot("left", &[(1.0, 0.25)]), plot("right", &[])];
        assert_eq!(xs(iter::once(&first).chain(&others)), 0.0..1.0);
        let svg = drawn(|path| save_panels(path, &first, &others));
        assert!(svg.contains(r#"width="760" height="720""#), "{svg}");
        assert!(["above", "left", "right"].iter().all(|label| svg.contains(label)), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 1, "{svg}");
    }

    #[test]
    fn an_outline_and_an_axis_of_powers_have_room() {
        let mut plot = Plot::new("learning rate", "loss");
        plot.log_x();
        plot.line("", vec![(1e-3, 2.0), (1e-2, 1.0)]);
        plot.outline(vec![(1e-4, 5.0), (1e-3, 5.0)]);
        assert_eq!(xs([&plot]), -4.0..-2.0);
        assert!(plot.ys().end > 5.0);
        let svg = drawn(|path| plot.save(path));
        assert!(["1e-4", "1e-3", "1e-2"].iter().all(|mark| svg.contains(mark)), "{svg}");
    }

    #[test]
    fn a_heat_map_has_a_square_for_each_share_that_it_is_given() {
        let labels = ["a", "b"].map(String::from).to_vec();
        let map = HeatMap { title: "a".into(), labels, shares: vec![vec![1.0], vec![0.5, 0.5]] };
        let svg = drawn(|path| heat_maps(path, &[map], 1));
        assert_eq!(svg.matches("<rect").count(), 3, "{svg}");
    }

    #[test]
    fn marks_have_as_many_digits_as_tell_them_apart() {
        assert_eq!(tick(0.25, 0.5), "0.25");
        assert_eq!(tick(2.5, 3.0), "2.5");
        assert_eq!(tick(4_500.0, 5_000.0), "4,500");
        assert_eq!(tick(140_000.0, 150_000.0), "140k");
    }

    #[test]
    fn what_a_text_holds_leaves_the_picture_xml() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.svg");
        let labels = ["\x0c", "<", "\u{ffff}"].map(String::from).to_vec();
        let map = HeatMap { title: "a\0b & c".into(), labels, shares: vec![vec![0.5; 3]; 3] };
        heat_maps(&path, &[map], 1).unwrap();
        let svg = std::fs::read_to_string(path).unwrap();
        let allowed = |c: char| c >= ' ' && c != '\u{ffff}' || "\n\r\t".contains(c);
        assert!(svg.chars().all(allowed) && svg.contains('␌') && svg.contains("a␀b &amp; c"));
    }
}
