//! The documented exit codes are those that the program ends with.

use std::collections::BTreeMap;

use agentbot_wire::{ApiError, Code};

use crate::chat::Act;
use crate::run::ctl;
use crate::twin::{Twin, error};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATIONS.md");

/// The rows of a table of two or more columns, from its head to its end.
fn rows(document: &str, head: &str) -> Vec<(String, String)> {
    let table = document.split_once(head).unwrap_or_else(|| panic!("no table {head:?}")).1;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cell = |row: &str, index| row.split('|').nth(index).unwrap().trim().to_owned();
    rows.map(|row| (cell(row, 1), cell(row, 2))).collect()
}

/// Codes in a cell: words in backticks that the wire knows.
fn codes(cell: &str) -> impl Iterator<Item = Code> {
    // What follows a semicolon explains.
    let listed = cell.split(';').next().unwrap();
    listed.split('`').skip(1).step_by(2).flat_map(str::split_whitespace).filter_map(Code::from_word)
}

#[test]
fn each_code_of_the_daemon_leads_to_the_exit_code_of_the_table() {
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let mut table = BTreeMap::new();
    for (exit, meaning) in rows(&document, "| `agentbotctl` | meaning |") {
        for code in codes(&meaning) {
            let twice = table.insert(code.as_str(), exit.parse::<i32>().unwrap());
            assert!(twice.is_none(), "{code} is there twice");
        }
    }
    let twin = Twin::with(&["helper"]);
    for code in Code::ALL {
        twin.state().refusal = Some(error(500, *code, "no", "so"));
        let run = ctl(&twin.socket(), &["show", "helper", "--timeout", "500ms"]);
        assert_eq!(table.get(code.as_str()).copied(), run.code, "{code}: {run:?}");
    }
}

#[test]
fn each_code_has_a_row_that_says_what_to_do() {
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let rows = rows(&document, "| code | what happened | what to do |");
    let mut said: Vec<_> = rows.iter().map(|(code, _)| code.trim_matches('`')).collect();
    let mut all: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    said.sort_unstable();
    all.sort_unstable();
    assert_eq!(said, all);
}

#[test]
fn a_turn_without_an_answer_has_failed_whatever_its_code() {
    let twin = Twin::with(&["helper"]);
    for code in [Code::TimedOut, Code::Unsupported, Code::Interrupted, Code::TooLarge] {
        let error = ApiError { code, message: "no answer".to_owned(), hint: None };
        twin.state().chats.scripts.push_back(vec![Act::Fail(error)]);
        let run = ctl(&twin.socket(), &["chat", "helper", "hi", "-o", "json"]).exits(1);
        let last = run.stdout.lines().last().unwrap();
        assert!(last.contains(&format!("\"code\":\"{code}\"")), "{run:?}");
    }
}
