//! A loss curve in plain characters, for a terminal.

const WIDTH: usize = 64;
const HEIGHT: usize = 12;

/// Curves of `(step, loss)` points, each in its own letter; where two meet, the later one is seen. Nothing where there
/// are fewer than two points.
///
/// ```
/// let falling = vec![(0.0, 4.0), (50.0, 2.0), (100.0, 1.0)];
/// let text = nanogpt::curve::text(&[('v', falling)]);
/// assert!(text.lines().next().unwrap().starts_with("  4.00 |v"));
/// ```
pub fn text(curves: &[(char, Vec<(f64, f64)>)]) -> String {
    let finite = |(x, y): &&(f64, f64)| x.is_finite() && y.is_finite();
    let points = || curves.iter().flat_map(|(_, points)| points).filter(finite);
    let range = |of: fn(&(f64, f64)) -> f64| {
        let all = points().map(of);
        all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)))
    };
    let (xs, ys) = (range(|point| point.0), range(|point| point.1));
    if xs.0 >= xs.1 {
        return String::new();
    }
    let mut rows = vec![vec![' '; WIDTH]; HEIGHT];
    for (letter, points) in curves {
        for (column, y) in columns(points, xs) {
            let row = cell((ys.1 - y) / (ys.1 - ys.0).max(1e-9), HEIGHT);
            rows[row][column] = *letter;
        }
    }
    framed(rows, curves, xs.1, ys)
}

/// The height of a curve in each column that it crosses, straight from point to point.
fn columns(points: &[(f64, f64)], (low, high): (f64, f64)) -> Vec<(usize, f64)> {
    let points: Vec<_> = points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    let mut heights = Vec::new();
    for column in 0..WIDTH {
        let x = low + (high - low) * column as f64 / (WIDTH - 1) as f64;
        let after = points.iter().position(|point| point.0 >= x);
        match after {
            Some(0) if points[0].0 == x => heights.push((column, points[0].1)),
            Some(i) if i > 0 => {
                let (&(x0, y0), &(x1, y1)) = (points[i - 1], points[i]);
                heights.push((column, y0 + (y1 - y0) * (x - x0) / (x1 - x0)));
            }
            _ => {}
        }
    }
    heights
}

/// The cell of a share of the whole, from 0 to 1.
fn cell(share: f64, cells: usize) -> usize {
    ((share * (cells - 1) as f64).round() as usize).min(cells - 1)
}

fn framed(
    rows: Vec<Vec<char>>,
    curves: &[(char, Vec<(f64, f64)>)],
    last: f64,
    (low, high): (f64, f64),
) -> String {
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let y = high - (high - low) * i as f64 / (HEIGHT - 1) as f64;
        let line: String = row.iter().collect();
        text += &format!("{y:>6.2} |{}\n", line.trim_end());
    }
    let end = format!("step {last}");
    let names: Vec<String> = curves.iter().filter_map(|(letter, _)| name(*letter)).collect();
    text += &format!("       +{}\n", "-".repeat(WIDTH));
    text + &format!("        {:<gap$}{end}\n", names.join(", "), gap = WIDTH - end.len())
}

fn name(letter: char) -> Option<String> {
    let name = match letter {
        't' => "train",
        'v' => "val",
        _ => return None,
    };
    Some(format!("{letter}: {name}"))
}
