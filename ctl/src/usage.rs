//! Wrong command lines, and help.

use clap::error::ErrorKind;

use crate::exit::{Exit, Failure, USAGE};
use crate::output::{self, Format, Outcome};

/// Says what is wrong with the command line, or gives the help that was asked for.
#[must_use]
pub fn explain(error: &clap::Error) -> Exit {
    let text = error.render().ansi().to_string();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return output::print(Format::Table, &Outcome::ok(serde_json::Value::Null, text));
    }
    output::stderr(&text);
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let document = failure(&error.render().to_string()).to_document();
    output::print(wanted(&words), &Outcome::new(document, String::new(), Exit::Usage))
}

/// The whole help, for a command line without a verb.
#[must_use]
pub fn help(command: &mut clap::Command) -> Exit {
    let text = command.render_help().ansi().to_string();
    output::print(Format::Table, &Outcome::ok(serde_json::Value::Null, text))
}

/// The failure that a rendered usage error tells of.
fn failure(rendered: &str) -> Failure {
    let mut lines = rendered.lines().map(str::trim);
    let message = lines.next().unwrap_or_default();
    let tips: Vec<_> = lines.filter_map(|line| line.strip_prefix("tip: ")).collect();
    let hint = if tips.is_empty() { "see `agentbotctl --help`".to_owned() } else { tips.join("; ") };
    Failure::new(Exit::Usage, USAGE, message.strip_prefix("error: ").unwrap_or(message)).hint(hint)
}

/// The form that a command line asks for which could not be read as a whole.
fn wanted(words: &[String]) -> Format {
    let value = words.iter().enumerate().find_map(|(index, word)| match word.as_str() {
        "-o" | "--output" => words.get(index + 1).map(String::as_str),
        "--" => None,
        word => word.strip_prefix("--output=").or_else(|| {
            word.strip_prefix("-o").filter(|_| !word.starts_with("--")).map(|rest| rest.trim_start_matches('='))
        }),
    });
    match value {
        Some("json") => Format::Json,
        Some("yaml") => Format::Yaml,
        _ => Format::Table,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_found_in_a_broken_command_line() {
        let of = |line: &str| wanted(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        for line in
            ["ctl -o json nope", "ctl nope --output=json", "ctl nope -ojson", "ctl -o=json", "ctl x --output json"]
        {
            assert_eq!(of(line), Format::Json, "{line}");
        }
        assert_eq!(of("ctl -o yaml x"), Format::Yaml);
        for line in ["ctl nope", "ctl -o", "ctl -o xml", "ctl json"] {
            assert_eq!(of(line), Format::Table, "{line}");
        }
    }

    #[test]
    fn the_sentence_and_the_tip_become_message_and_hint() {
        let failure = failure(
            "error: unrecognized subcommand 'strat'\n\n  tip: a similar subcommand exists: 'start'\n\nUsage: x",
        );
        assert_eq!(failure.message, "unrecognized subcommand 'strat'");
        assert_eq!(failure.hint.as_deref(), Some("a similar subcommand exists: 'start'"));
    }
}
