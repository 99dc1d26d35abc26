//! What is wrong with a configuration: every mistake at once, each with its place.

use std::fmt;
use std::path::PathBuf;

use agentbot_wire::Code;

use crate::error::Error;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file, or the option that named a path.
    pub file: PathBuf,
    /// Its line, counted from 1; `None` when the file as a whole is meant.
    pub line: Option<usize>,
    /// The key with its sections, for example `beat.period`; empty when none is meant.
    pub key: String,
    /// What is wrong and what is allowed.
    pub problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// All mistakes of a configuration, in the order of the file; one per line when displayed. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// One that concerns the file as a whole.
    pub(super) fn of_file(file: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self(vec![Mistake { file: file.into(), line: None, key: String::new(), problem: problem.into() }])
    }

    /// `Err` with all of them, sorted by line, or `Ok` when there is none.
    pub(super) fn check(mut mistakes: Vec<Mistake>) -> Result<(), Self> {
        if mistakes.is_empty() {
            return Ok(());
        }
        mistakes.sort_by_key(|mistake| mistake.line);
        Err(Self(mistakes))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.0.iter()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

impl From<Mistakes> for Error {
    fn from(mistakes: Mistakes) -> Self {
        Self::new(Code::Invalid, mistakes.to_string())
            .hint("share/agentbot/agentbot.toml, config/agentbot.toml in the source, shows every key with its default")
    }
}
