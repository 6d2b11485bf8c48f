//! Pictures as SVG: curves and attention maps, in tones that read on a light and on a dark page.

use crate::{grouped, text::drawable};
use anyhow::{Result, anyhow};
use plotters::{coord::Shift, prelude::*};
use std::{fmt::Display, ops::Range, path::Path};

const SIZE: (u32, u32) = (760, 420);
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

/// Curves over a common axis, perhaps with a floor that none of them can cross.
pub struct Plot {
    x_label: String,
    y_label: String,
    lines: Vec<(String, Vec<(f64, f64)>)>,
    floor: Option<(String, f64)>,
}

impl Plot {
    pub fn new(x_label: &str, y_label: &str) -> Self {
        Self { x_label: x_label.into(), y_label: y_label.into(), lines: Vec::new(), floor: None }
    }

    /// Adds a curve through `points`, in the order given.
    pub fn line(&mut self, label: &str, points: Vec<(f64, f64)>) {
        self.lines.push((label.into(), points));
    }

    /// Adds a dashed level line.
    pub fn floor(&mut self, label: &str, y: f64) {
        self.floor = Some((label.into(), y));
    }

    /// Draws the plot into an SVG file. Without points nothing but the axes is drawn.
    pub fn save(&self, path: &Path) -> Result<()> {
        save_svg(path, SIZE, |area| self.draw(area))
    }

    fn draw(&self, area: &Area) -> Result<()> {
        let xs = range(self.lines.iter().flat_map(|(_, points)| points).map(|point| point.0), 0.0);
        let floor = self.floor.iter().map(|(_, y)| *y);
        let ys = self.lines.iter().flat_map(|(_, points)| points).map(|point| point.1).chain(floor);
        let ys = range(ys, 0.06);
        let decimals = if ys.end - ys.start < 1.0 { 2 } else { 1 };
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
            .x_label_formatter(&|x| grouped(x.round() as i64))
            .y_label_formatter(&|y| format!("{y:.decimals$}"))
            .label_style(text(14))
            .axis_desc_style(text(15))
            .axis_style(INK)
            .bold_line_style(INK.mix(0.25))
            .light_line_style(TRANSPARENT)
            .draw()
            .map_err(drawing)?;
        for (i, (label, points)) in self.lines.iter().enumerate() {
            let style = CURVES[i % CURVES.len()].stroke_width(2);
            chart
                .draw_series(LineSeries::new(points.iter().copied(), style))
                .map_err(drawing)?
                .label(drawable(label))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
        }
        if let Some((label, y)) = &self.floor {
            let ends = [(xs.start, *y), (xs.end, *y)];
            let style = FLOOR.stroke_width(2);
            chart
                .draw_series(DashedLineSeries::new(ends, 8, 5, style))
                .map_err(drawing)?
                .label(drawable(label))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .label_font(text(15))
            .draw()
            .map_err(drawing)
    }
}

/// One square of attention: `weights[row][column]` in 0..=1, and the text along both sides.
pub struct AttentionMap {
    pub title: String,
    pub tokens: Vec<String>,
    pub weights: Vec<Vec<f64>>,
}

/// Draws attention maps side by side, `columns` in a row: the darker a cell, the more the row's
/// token looks at the column's.
pub fn attention_maps(path: &Path, maps: &[AttentionMap], columns: usize) -> Result<()> {
    let rows = maps.len().div_ceil(columns);
    let cells = maps.iter().map(|map| map.tokens.len()).max().unwrap_or(0) as u32;
    let side = 14 * cells + 56;
    save_svg(path, (side * columns as u32, side * rows as u32), |area| {
        for (map, area) in maps.iter().zip(area.split_evenly((rows, columns))) {
            map.draw(&area)?;
        }
        Ok(())
    })
}

impl AttentionMap {
    fn draw(&self, area: &Area) -> Result<()> {
        let (cell, left, top) = (14, 34, 44);
        area.draw(&Text::new(drawable(&self.title), (left, 4), text(15))).map_err(drawing)?;
        for (i, token) in self.tokens.iter().enumerate() {
            let at = i as i32 * cell;
            let here = Text::new(drawable(token), (left - 16, top + at), text(12));
            let there = Text::new(drawable(token), (left + at + 3, top - 16), text(12));
            area.draw(&here).map_err(drawing)?;
            area.draw(&there).map_err(drawing)?;
            for (j, weight) in self.weights[i].iter().enumerate().take(i + 1) {
                let corner = (left + j as i32 * cell, top + at);
                let far = (corner.0 + cell - 1, corner.1 + cell - 1);
                // A faint square even where the weight is 0 shows the triangle that may be seen.
                let colour = CURVES[0].mix(0.06 + 0.94 * weight);
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
    let values = values.filter(|value| value.is_finite());
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return 0.0..1.0;
    }
    let pad = if high > low { (high - low) * margin } else { 0.5 };
    low - pad..high + pad
}

fn drawing(error: impl Display) -> anyhow::Error {
    anyhow!("cannot draw the plot: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_text_holds_leaves_the_picture_xml() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.svg");
        let tokens = ["\x0c", "<", "\u{ffff}"].map(String::from).to_vec();
        let map = AttentionMap { title: "a\0b & c".into(), tokens, weights: vec![vec![0.5; 3]; 3] };
        attention_maps(&path, &[map], 1).unwrap();
        let svg = std::fs::read_to_string(path).unwrap();
        let allowed = |c: char| c >= ' ' && c != '\u{ffff}' || "\n\r\t".contains(c);
        assert!(svg.chars().all(allowed) && svg.contains('␌') && svg.contains("a␀b &amp; c"));
    }
}
