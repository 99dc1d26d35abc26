//! Medians, ratios and the table that is printed.

use std::fmt;
use std::time::Duration;

/// How often each pair is measured.
pub const PAIRS: usize = 7;

/// The middle one.
pub fn median(mut figures: Vec<f64>) -> f64 {
    assert!(!figures.is_empty(), "nothing was measured");
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Both sides of a measurement, taken in turn.
#[derive(Debug, Default)]
pub struct Pairs {
    ours: Vec<f64>,
    yardstick: Vec<f64>,
}

impl Pairs {
    /// One more on each side.
    pub fn add(&mut self, ours: f64, yardstick: f64) {
        self.ours.push(ours);
        self.yardstick.push(yardstick);
    }
}

/// What the first floor asks for.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

impl Target {
    fn met(self, figure: f64) -> bool {
        match self {
            Self::AtMost(most) => figure <= most,
            Self::AtLeast(least) => figure >= least,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "<= {most}"),
            Self::AtLeast(least) => write!(f, ">= {least}"),
        }
    }
}

#[derive(Debug)]
struct Row {
    number: u32,
    what: String,
    ours: String,
    yardstick: String,
    ratio: String,
    target: String,
    met: bool,
}

/// All rows.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// A ratio of medians against a yardstick, where the first floor asks for one or not.
    pub fn ratio(
        &mut self,
        number: u32,
        what: &str,
        unit: &str,
        pairs: Pairs,
        yardstick: &str,
        target: impl Into<Option<Target>>,
    ) {
        let target = target.into();
        let (ours, theirs) = (median(pairs.ours), median(pairs.yardstick));
        let ratio = ours / theirs;
        self.rows.push(Row {
            number,
            what: what.to_owned(),
            ours: format!("{ours:.1} {unit}"),
            yardstick: format!("{theirs:.1} {unit} {yardstick}"),
            ratio: format!("{ratio:.2}"),
            target: target.map(|target| target.to_string()).unwrap_or_default(),
            met: target.is_none_or(|target| target.met(ratio)),
        });
    }

    /// An absolute figure.
    pub fn figure(&mut self, number: u32, what: &str, figure: f64, unit: &str, target: Target) {
        self.rows.push(Row {
            number,
            what: what.to_owned(),
            ours: format!("{figure:.1} {unit}"),
            yardstick: String::new(),
            ratio: String::new(),
            target: format!("{target} {unit}"),
            met: target.met(figure),
        });
    }

    /// A figure that is shown for its size alone.
    pub fn note(&mut self, number: u32, what: &str, text: String) {
        let nothing = String::new();
        let (ratio, target, yardstick) = (nothing.clone(), nothing.clone(), nothing);
        self.rows.push(Row { number, what: what.to_owned(), ours: text, yardstick, ratio, target, met: true });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = |row: &Row| {
            let ok = if row.target.is_empty() {
                ""
            } else if row.met {
                "yes"
            } else {
                "NO"
            };
            [&row.number.to_string(), &row.what, &row.ours, &row.yardstick, &row.ratio, &row.target, ok]
                .map(str::to_owned)
        };
        let head = ["row", "what", "ours", "yardstick", "ratio", "first floor", "ok?"].map(str::to_owned);
        let lines: Vec<[String; 7]> = std::iter::once(head).chain(self.rows.iter().map(cells)).collect();
        for line in &lines {
            for (column, cell) in line.iter().enumerate() {
                let width = lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
                write!(f, "{cell:<width$}  ")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
