//! The tools as users run them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const AGENT: &str = env!("CARGO_BIN_EXE_agentbot-agent");

fn run(args: &[&str]) -> Output {
    Command::new(AGENT).args(args).stdin(Stdio::null()).output().unwrap()
}

fn shown(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn every_tool_explains_itself() {
    for tool in ["ls", "cat", "ps", "df", "env", "probe", "install", "version"] {
        assert!(shown(&run(&[tool, "--help"])).starts_with("Usage: "), "{tool}");
    }
    assert!(shown(&run(&["--help"])).contains("probe"));
    assert!(shown(&run(&["version"])).starts_with("agentbot-agent "));
}

#[test]
fn a_wrong_command_line_is_told_on_standard_error_with_code_two() {
    for line in [&["nonsense"][..], &["ls", "-z"], &["ps", "word"], &["env", "true"], &["cat", "--colour"]] {
        let output = run(line);
        assert_eq!(output.status.code(), Some(2), "{line:?}");
        assert!(output.stdout.is_empty() && String::from_utf8_lossy(&output.stderr).contains("--help"), "{line:?}");
    }
}

#[test]
fn the_name_of_a_link_is_the_tool() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("ls");
    symlink(AGENT, &link).unwrap();
    let output = Command::new(&link).arg(directory.path()).output().unwrap();
    assert_eq!(shown(&output), "ls\n");
}

#[test]
fn ls_lists_and_hides_names_with_a_dot() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["b", "a", ".hidden"] {
        fs::write(directory.path().join(name), "12345").unwrap();
    }
    let path = text(directory.path());
    assert_eq!(shown(&run(&["ls", path])), "a\nb\n");
    assert_eq!(shown(&run(&["ls", "-a", path])), ".\n..\n.hidden\na\nb\n");
    assert_eq!(shown(&run(&["ls", "-A", path])), ".hidden\na\nb\n");
    assert_eq!(shown(&run(&["ls", "-d", path])), format!("{path}\n"));
}

#[test]
fn ls_with_details_shows_mode_size_and_where_links_lead() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "12345").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("file", directory.path().join("link")).unwrap();
    let listing = shown(&run(&["ls", "-l", text(directory.path())]));
    let lines: Vec<Vec<&str>> = listing.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((lines[0][0], lines[0][4], lines[0][7]), ("-rw-r-----", "5", "file"));
    assert_eq!((lines[1][0], &lines[1][7..]), ("lrwxrwxrwx", &["link", "->", "file"][..]));
}

#[test]
fn ls_shows_what_it_can_and_fails_for_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("here"), "").unwrap();
    let output = run(&["ls", text(directory.path()), "/absent/path"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stdout).contains("here"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/absent/path: No such file"));
}

#[test]
fn cat_joins_files_and_goes_on_after_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    fs::write(&one, [0, 159, 146, 150]).unwrap();
    fs::write(&two, "two").unwrap();
    let output = run(&["cat", text(&one), "/absent", text(&two)]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, [&[0, 159, 146, 150][..], b"two"].concat());
    assert!(String::from_utf8_lossy(&output.stderr).contains("cat: /absent: No such file"));
}

#[test]
fn cat_of_a_large_file_is_whole() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(file.path(), &content).unwrap();
    assert!(run(&["cat", text(file.path())]).stdout == content);
}

#[test]
fn a_reader_that_leaves_ends_the_tool_quietly() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), vec![b'x'; 4_000_000]).unwrap();
    let mut child = Command::new(AGENT)
        .args(["cat", text(file.path())])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(141), &b""[..]));
}

#[test]
fn ps_lists_itself_with_its_parent() {
    let listing = shown(&run(&["ps"]));
    let own = listing.lines().find(|line| line.ends_with("agentbot-agent ps")).unwrap();
    assert_eq!(own.split_whitespace().nth(1).unwrap(), std::process::id().to_string());
}

#[test]
fn df_of_a_path_is_the_mount_that_holds_it() {
    let listing = shown(&run(&["df", "/proc/self"]));
    assert!(listing.lines().nth(1).unwrap().ends_with(" /proc"), "{listing}");
    assert_eq!(run(&["df", "/absent"]).status.code(), Some(1));
    assert!(shown(&run(&["df"])).lines().count() >= 2);
}

#[test]
fn env_shows_the_environment_and_nothing_else() {
    let output = Command::new(AGENT).arg("env").env_clear().env("A", "1").env("B", "x=y").output().unwrap();
    assert_eq!(shown(&output), "A=1\nB=x=y\n");
}

/// What those who read the probe rely on.
const FACTS: [&str; 39] = [
    "attempts",
    "capabilities",
    "cgroup",
    "cgroup_membership",
    "connects",
    "descriptors",
    "devices",
    "environment",
    "gid",
    "gid_map",
    "groups",
    "hostname",
    "interfaces",
    "limits",
    "lsm_label",
    "masked_paths",
    "mounts",
    "namespaces",
    "no_new_privileges",
    "oom_score_adj",
    "pid",
    "pid1_command",
    "processes",
    "read_only_paths",
    "root_write",
    "routes",
    "run",
    "run_directory",
    "seccomp",
    "shm",
    "socket",
    "sockets",
    "tmp",
    "uid",
    "uid_map",
    "version",
    "working_directory",
    "workspace",
    "zombies",
];

#[test]
fn the_probe_prints_one_object_of_facts_and_leaves_nothing_behind() {
    let output = Command::new(AGENT).arg("probe").env_clear().env("CANARY", "seen").output().unwrap();
    let facts: Value = serde_json::from_str(&shown(&output)).unwrap();
    let facts = facts.as_object().unwrap();
    let names: Vec<&str> = facts.keys().map(String::as_str).collect();
    assert_eq!(names, FACTS);
    assert_eq!(facts["environment"]["CANARY"], "seen");
    assert!(facts["namespaces"]["net"].as_str().unwrap().starts_with("net:["));
    assert!(facts["capabilities"]["effective"].is_string());
    assert!(facts["attempts"].as_object().unwrap().len() >= 18);
    let left: Vec<_> = ["/", "/tmp", "/workspace"]
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.file_name()))
        .filter(|name| name.to_string_lossy().starts_with(".agentbot-probe"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
