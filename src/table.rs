use crate::record::{self, Kind};

/// What theory predicts beside what the program measured, one line a promise.
///
/// ```text
///                            predicted  measured
/// parameters, V²                 2,209     2,209  ok
/// loss at init, ln V + ½        4.3501    4.3388  ok (± 0.05)
/// ```
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

/// A row of a [`Table`].
pub struct Row {
    name: String,
    predicted: String,
    measured: String,
    holds: bool,
    note: String,
    excuse: Option<&'static str>,
    kind: Kind,
}

impl Row {
    /// Why this run need not keep the promise, if there is a reason: [`Flags::excuse`] and
    /// [`Flags::other_text`] know some. The row then says so where it would say `NO`.
    ///
    /// [`Flags::excuse`]: crate::Flags::excuse
    /// [`Flags::other_text`]: crate::Flags::other_text
    pub fn unless(&mut self, excuse: Option<&'static str>) {
        self.excuse = excuse;
    }

    /// Says that what is measured is another on each machine, as the memory is that a kernel takes.
    pub fn of_the_machine(&mut self) -> &mut Self {
        self.kind = Kind::Masked;
        self
    }

    fn verdict(&self) -> &'static str {
        match self.excuse {
            _ if self.holds => "ok",
            Some(_) => "--",
            None => "NO",
        }
    }

    fn remark(&self) -> String {
        match self.excuse {
            Some(excuse) if !self.holds => format!(" ({excuse})"),
            _ => self.note.clone(),
        }
    }

    /// A row is three values, named by the words before a colon or a sign: `loss_at_init`, what was measured,
    /// `loss_at_init.predicted` and `loss_at_init.verdict`.
    fn record(&self) {
        let name = self.name.split([':', '<', '>']).next().unwrap_or_default().trim();
        let predicted = self.predicted.trim_start_matches(['<', '>', ' ']);
        record::value(self.kind, name, self.measured.clone());
        let of_theory = if self.kind == Kind::Exact { Kind::Exact } else { Kind::Measured };
        record::value(of_theory, &format!("{name}.predicted"), predicted.into());
        record::exact(&format!("{name}.verdict"), self.verdict());
    }
}

impl Table {
    pub fn new() -> Self {
        Self::default()
    }

    /// Two counts that must be the same.
    pub fn equal(&mut self, name: &str, predicted: i64, measured: i64) -> &mut Row {
        let row = self.push(name, grouped(predicted), grouped(measured), predicted == measured, "");
        row.kind = Kind::Exact;
        row
    }

    /// Two numbers that may differ by `tolerance`.
    pub fn near(&mut self, name: &str, predicted: f64, measured: f64, tolerance: f64) -> &mut Row {
        let holds = (predicted - measured).abs() <= tolerance;
        let note = if tolerance < 1e-4 {
            format!(" (± {tolerance:e})")
        } else {
            format!(" (± {tolerance})")
        };
        self.push(name, fixed(predicted), fixed(measured), holds, &note)
    }

    /// A number that must stay below a limit.
    pub fn below(&mut self, name: &str, limit: f64, measured: f64) -> &mut Row {
        let holds = measured < limit;
        self.push(name, format!("< {}", short(limit)), short(measured), holds, "")
    }

    /// A number that must stay above a limit.
    pub fn above(&mut self, name: &str, limit: f64, measured: f64) -> &mut Row {
        let holds = measured > limit;
        self.push(name, format!("> {}", short(limit)), short(measured), holds, "")
    }

    fn push(
        &mut self,
        name: &str,
        predicted: String,
        measured: String,
        holds: bool,
        note: &str,
    ) -> &mut Row {
        let (name, note) = (name.into(), note.into());
        let (excuse, kind) = (None, Kind::Measured);
        self.rows.push(Row { name, predicted, measured, holds, note, excuse, kind });
        self.rows.last_mut().expect("one was pushed")
    }

    /// Prints the table. A line ends in `ok`, in `NO` where the promise does not hold, or in `--` and a
    /// reason where it cannot be expected to.
    pub fn print(&self) {
        self.rows.iter().for_each(Row::record);
        print!("{}", self.text());
    }

    fn text(&self) -> String {
        let width = |column: fn(&Row) -> &str, title: &str| {
            let widest = self.rows.iter().map(|row| column(row).chars().count()).max();
            widest.unwrap_or(0).max(title.len())
        };
        let name = width(|row| &row.name, "");
        let predicted = width(|row| &row.predicted, "predicted");
        let measured = width(|row| &row.measured, "measured");
        let mut text =
            format!("{:name$}  {:>predicted$}  {:>measured$}\n", "", "predicted", "measured");
        for row in &self.rows {
            text += &format!(
                "{:name$}  {:>predicted$}  {:>measured$}  {}{}\n",
                row.name,
                row.predicted,
                row.measured,
                row.verdict(),
                row.remark()
            );
        }
        text
    }
}

/// Four decimals, or an exponent where they would show nothing.
fn short(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 { format!("{value:.1e}") } else { fixed(value) }
}

/// Four decimals; a zero has no sign.
fn fixed(value: f64) -> String {
    let text = format!("{value:.4}");
    if text == "-0.0000" { "0.0000".into() } else { text }
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
        assert_eq!(table.text().matches("  NO").count(), 5, "{}", table.text());
    }

    #[test]
    fn a_row_that_need_not_hold_says_why_and_the_others_say_no() {
        let mut table = Table::new();
        table.below("excused", 1.0, 2.0).unless(Some("too few steps"));
        table.near("without a reason", 1.0, 2.0, 0.1).unless(None);
        table.near("holds all the same", 1.0, 1.0, 0.1).unless(Some("too few steps"));
        let text = table.text();
        let verdicts: Vec<_> =
            text.lines().skip(1).map(|line| line.rsplit("  ").next().unwrap()).collect();
        assert_eq!(verdicts, ["-- (too few steps)", "NO (± 0.1)", "ok (± 0.1)"]);
    }

    #[test]
    fn nothing_has_no_sign_and_a_small_tolerance_an_exponent() {
        let mut table = Table::new();
        table.below("one letter", -0.0, 0.0);
        table.near("exactly", 4.0, 4.0, 1e-5);
        table.near("nearly", 0.0, -1e-6, 1e-4);
        let text = table.text();
        assert!(text.contains("< 0.0000    0.0000  NO") && text.contains("ok (± 1e-5)"), "{text}");
        assert!(!text.contains("-0.0000"), "{text}");
    }
}
