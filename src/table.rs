/// What theory predicts beside what the program measured, one line a promise.
///
/// ```text
///                              predicted   measured
/// parameters, V²                   2,209      2,209   ok
/// loss at init, ln V + ½          4.3501     4.3388   ok (± 0.05)
/// ```
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

struct Row {
    name: String,
    predicted: String,
    measured: String,
    holds: bool,
    note: String,
}

impl Table {
    pub fn new() -> Self {
        Self::default()
    }

    /// Two counts that must be the same.
    pub fn equal(&mut self, name: &str, predicted: i64, measured: i64) {
        self.push(name, grouped(predicted), grouped(measured), predicted == measured, "")
    }

    /// Two numbers that may differ by `tolerance`.
    pub fn near(&mut self, name: &str, predicted: f64, measured: f64, tolerance: f64) {
        let holds = (predicted - measured).abs() <= tolerance;
        let note = format!(" (± {tolerance})");
        self.push(name, format!("{predicted:.4}"), format!("{measured:.4}"), holds, &note)
    }

    /// A number that must stay below a limit.
    pub fn below(&mut self, name: &str, limit: f64, measured: f64) {
        let holds = measured < limit;
        self.push(name, format!("< {}", short(limit)), short(measured), holds, "")
    }

    /// A number that must stay above a limit.
    pub fn above(&mut self, name: &str, limit: f64, measured: f64) {
        let holds = measured > limit;
        self.push(name, format!("> {}", short(limit)), short(measured), holds, "")
    }

    /// A number that theory gives and nothing here measures, or the other way round.
    pub fn push(
        &mut self,
        name: &str,
        predicted: String,
        measured: String,
        holds: bool,
        note: &str,
    ) {
        let (name, note) = (name.into(), note.into());
        self.rows.push(Row { name, predicted, measured, holds, note });
    }

    /// Prints the table. A line ends in `ok`, or in `NO` where the promise does not hold.
    pub fn print(&self) {
        let width = |column: fn(&Row) -> &str, title: &str| {
            let widest = self.rows.iter().map(|row| column(row).chars().count()).max();
            widest.unwrap_or(0).max(title.len())
        };
        let name = width(|row| &row.name, "");
        let predicted = width(|row| &row.predicted, "predicted");
        let measured = width(|row| &row.measured, "measured");
        println!("{:name$}   {:>predicted$}   {:>measured$}", "", "predicted", "measured");
        for row in &self.rows {
            println!(
                "{:name$}   {:>predicted$}   {:>measured$}   {}{}",
                row.name,
                row.predicted,
                row.measured,
                if row.holds { "ok" } else { "NO" },
                row.note
            );
        }
    }
}

/// Four decimals, or an exponent where they would show nothing.
fn short(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 { format!("{value:.1e}") } else { format!("{value:.4}") }
}

/// A count with its thousands apart: `124,439,808`.
pub fn grouped(count: i64) -> String {
    let digits = count.unsigned_abs().to_string();
    let mut out = String::from(if count < 0 { "-" } else { "" });
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_kept_apart() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(-1_000), "-1,000");
        assert_eq!(grouped(124_439_808), "124,439,808");
    }

    #[test]
    fn a_promise_that_does_not_hold_is_marked() {
        let mut table = Table::new();
        table.equal("same", 1, 2);
        table.near("near", 1.0, 1.2, 0.1);
        table.below("below", 1.0, 1.0);
        table.above("above", 1.0, 1.0);
        table.near("nothing at all", 1.0, f64::NAN, 0.1);
        assert!(table.rows.iter().all(|row| !row.holds));
    }
}
