//! Command lines of one-letter options and words.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

/// A command line that was understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    letters: Vec<char>,
    /// What is not an option.
    pub words: Vec<OsString>,
}

/// Why a command line is not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// `--help` was asked for.
    Help,
    /// The tool has no such option.
    Option(String),
    /// The tool takes no words.
    Word(OsString),
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Help => write!(f, "help"),
            Self::Option(option) => write!(f, "there is no option {option:?}"),
            Self::Word(word) => write!(f, "no argument is expected, got {word:?}"),
        }
    }
}

impl Args {
    /// Reads a command line; `letters` are the options that exist. After `--` everything is a word, and so is `-`.
    ///
    /// # Errors
    /// When help is asked for or an option does not exist.
    pub fn parse(args: &[OsString], letters: &str) -> Result<Self, Rejected> {
        let mut parsed = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_bytes() {
                b"--" => {
                    parsed.words.extend(args.cloned());
                    break;
                }
                b"--help" => return Err(Rejected::Help),
                [b'-', b'-', ..] => return Err(Rejected::Option(arg.to_string_lossy().into_owned())),
                [b'-', cluster @ ..] if !cluster.is_empty() => {
                    for letter in String::from_utf8_lossy(cluster).chars() {
                        if !letters.contains(letter) {
                            return Err(Rejected::Option(format!("-{letter}")));
                        }
                        parsed.letters.push(letter);
                    }
                }
                _ => parsed.words.push(arg.clone()),
            }
        }
        Ok(parsed)
    }

    /// Whether the option was given.
    #[must_use]
    pub fn has(&self, letter: char) -> bool {
        self.letters.contains(&letter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn parse(line: &[&str]) -> Result<Args, Rejected> {
        Args::parse(&line.iter().map(OsString::from).collect::<Vec<_>>(), "la")
    }

    #[test]
    fn letters_stand_alone_or_together_before_or_after_words() {
        for line in [&["-l", "-a", "x"][..], &["-la", "x"], &["x", "-al"]] {
            let args = parse(line).unwrap();
            assert!(args.has('l') && args.has('a') && args.words == ["x"], "{line:?}");
        }
    }

    #[test]
    fn after_two_dashes_everything_is_a_word() {
        assert_eq!(parse(&["--", "-l", "--help"]).unwrap().words, ["-l", "--help"]);
    }

    #[test]
    fn one_dash_is_a_word() {
        assert_eq!(parse(&["-"]).unwrap().words, ["-"]);
    }

    #[test]
    fn an_unknown_option_is_named() {
        assert_eq!(parse(&["-lz"]), Err(Rejected::Option("-z".to_owned())));
        assert_eq!(parse(&["--colour"]), Err(Rejected::Option("--colour".to_owned())));
    }

    #[test]
    fn help_wins_over_words() {
        assert_eq!(parse(&["x", "--help"]), Err(Rejected::Help));
    }

    #[test]
    fn a_word_need_not_be_utf_8() {
        let word = OsString::from_vec(vec![b'a', 0xff]);
        assert_eq!(Args::parse(std::slice::from_ref(&word), "").unwrap().words, [word]);
    }
}
