//! What reaches the terminal, the pipe and the file.

use std::process::Stdio;

use crate::run::{Run, command, ctl};
use crate::twin::Twin;

#[test]
fn colours_are_for_terminals_and_for_who_asks() {
    let twin = Twin::with(&["helper"]);
    let run = |variables: &[(&str, &str)]| {
        let output = command(&twin.socket()).envs(variables.iter().copied()).arg("list").output().unwrap();
        Run::from(output).exits(0).stdout
    };
    assert!(!run(&[]).contains('\x1b'));
    assert!(run(&[("CLICOLOR_FORCE", "1")]).contains("mrunning\x1b["));
    assert!(!run(&[("NO_COLOR", "1")]).contains('\x1b'));
    let forced_off = command(&twin.socket()).env("NO_COLOR", "1").env("CLICOLOR", "1").arg("show").arg("nope").output();
    assert!(!Run::from(forced_off.unwrap()).exits(4).stderr.contains('\x1b'));
}

#[test]
fn nothing_from_the_daemon_commands_the_terminal() {
    let twin = Twin::with(&["helper"]);
    {
        let mut state = twin.state();
        state.agents[0].model = "evil\x1b]0;owned\x07\x1b[2J\u{9b}31m\u{202e}model".to_owned();
        state.agents[0].reason = Some("bad\x1b[31m reason\r".to_owned());
        state.agents[0].health.last_crash = Some("line one\n\x1b[8mline two".to_owned());
        state.agents[0].health.last_lines = Some("last\x1b]0;owned\x07\rwords".to_owned());
    }
    for words in [&["list"][..], &["show", "helper"], &["list", "-o", "json"], &["show", "helper", "-o", "yaml"]] {
        let run = command(&twin.socket()).env("NO_COLOR", "1").args(words).output().unwrap();
        let text = Run::from(run).exits(0).stdout;
        assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{words:?}: {text:?}");
    }
    let whole = ctl(&twin.socket(), &["list", "-o", "json"]).json();
    assert!(whole["agents"][0]["model"].as_str().unwrap().contains('\x1b'), "a program gets what the daemon said");
}

#[test]
fn yaml_is_the_same_document() {
    let twin = Twin::with(&["helper"]);
    let yaml = ctl(&twin.socket(), &["list", "-o", "yaml"]).exits(0).stdout;
    let json = ctl(&twin.socket(), &["list", "-o", "json"]).exits(0).json();
    assert!(yaml.starts_with("agents:\n"), "{yaml}");
    assert_eq!(serde_yaml_ng::from_str::<serde_json::Value>(&yaml).unwrap(), json);
    let failure = ctl(&twin.socket(), &["show", "nope", "-o", "yaml"]).exits(4).stdout;
    assert_eq!(serde_yaml_ng::from_str::<serde_json::Value>(&failure).unwrap()["ok"], false);
}

#[test]
fn a_reader_that_goes_away_is_no_error_and_a_full_disk_is() {
    let names: Vec<_> = (0..3000).map(|number| format!("agent-{number}")).collect();
    let twin = Twin::with(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut child = command(&twin.socket()).args(["list", "-o", "json"]).spawn().unwrap();
    drop(child.stdout.take());
    let run = Run::from(child.wait_with_output().unwrap()).exits(0);
    assert_eq!(run.stderr, "");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command(&twin.socket()).arg("list").stdout(Stdio::from(full)).output().unwrap();
    assert!(Run::from(output).exits(1).stderr.contains("could not be written"));
}
