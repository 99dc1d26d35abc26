use std::fs;
use std::os::unix::fs::symlink;

use nix::unistd::mkfifo;
use tempfile::TempDir;

use super::*;

struct Scene {
    _home: TempDir,
    workspace: std::path::PathBuf,
}

/// A workspace beside a secret.
fn scene() -> Scene {
    let home = tempfile::tempdir().unwrap();
    let workspace = home.path().join("workspace");
    fs::create_dir(&workspace).unwrap();
    fs::write(home.path().join("secret"), "s3cret").unwrap();
    Scene { workspace, _home: home }
}

impl Scene {
    fn used(&self, action: &str, path: &str, content: Option<&str>) -> Used {
        work(&self.workspace, json!({"action": action, "path": path, "content": content}))
    }

    fn says(&self, action: &str, path: &str, content: Option<&str>) -> String {
        let used = self.used(action, path, content);
        assert!(used.ok, "{action} {path}: {}", used.content);
        used.content
    }

    fn fails(&self, action: &str, path: &str) -> String {
        let used = self.used(action, path, Some("x"));
        assert!(!used.ok, "{action} {path:?}: {}", used.content);
        assert!(!used.content.contains("s3cret"), "{action} {path:?}");
        used.content
    }
}

#[test]
fn a_file_is_written_read_longer_and_gone() {
    let scene = scene();
    scene.says("write", "notes/a.txt", Some("one"));
    scene.says("write", "/workspace/notes/a.txt", Some("two"));
    scene.says("append", "notes/a.txt", Some(" three"));
    assert_eq!(scene.says("read", "notes/a.txt", None), "two three");
    assert_eq!(scene.says("list", "notes", None), "a.txt (9 bytes)\n");
    assert_eq!(scene.says("list", "", None), "notes/\n");
    assert!(scene.fails("delete", "notes").contains("not empty"));
    scene.says("delete", "notes/a.txt", None);
    scene.says("delete", "notes", None);
    assert_eq!(scene.says("list", ".", None), r#"{"entries":[]}"#);
}

#[test]
fn nothing_outside_is_reached_whatever_the_path() {
    let scene = scene();
    let (secret, inside) = (scene.workspace.with_file_name("secret"), &scene.workspace);
    symlink(&secret, inside.join("link")).unwrap();
    symlink("..", inside.join("up")).unwrap();
    symlink("/", inside.join("root")).unwrap();
    symlink("loop", inside.join("loop")).unwrap();
    symlink(inside.join("nowhere"), inside.join("dangling")).unwrap();
    fs::create_dir(inside.join("real")).unwrap();
    symlink(&secret, inside.join("real/link")).unwrap();
    let deep = "../".repeat(300);
    let climbing = format!("{deep}etc/passwd");
    let long = "a".repeat(256);
    let corpus = [
        "../secret",
        "./../secret",
        "real/../../secret",
        "real/../secret",
        "..",
        "../",
        "/etc/passwd",
        "//etc/passwd",
        "/workspace/../secret",
        "/proc/self/root/etc/passwd",
        "/",
        "link",
        "./link",
        "real/link",
        "up/secret",
        "up/workspace/link",
        "root/etc/passwd",
        "loop",
        "loop/x",
        "dangling",
        "secret\0",
        "\0",
        "..\0/secret",
        "a\nb",
        &climbing,
        &deep,
        &long,
        ".agentbot",
        ".agentbot/turns",
        "real/.agentbot",
        ".agentbot/../link",
    ];
    for path in corpus {
        for action in ["read", "write", "append"] {
            scene.fails(action, path);
        }
    }
    for path in ["..", "up", "root", "root/etc", "link", "/", ".agentbot", "loop"] {
        scene.fails("list", path);
    }
    for path in ["../secret", "up/secret", "/etc/passwd", ".agentbot", ""] {
        scene.fails("delete", path);
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "s3cret");
    // Harmless names that only look like it.
    for path in ["..a", "...", "%2e%2e", "~", "a\\..\\b", "-rf"] {
        scene.says("write", path, Some("x"));
    }
}

#[test]
fn a_link_is_listed_and_deleted_but_never_followed() {
    let scene = scene();
    let secret = scene.workspace.with_file_name("secret");
    symlink(&secret, scene.workspace.join("link")).unwrap();
    assert_eq!(scene.says("list", "", None), "link (link)\n");
    assert!(scene.fails("read", "link").contains("link"));
    scene.says("delete", "link", None);
    assert!(secret.exists());
}

#[test]
fn the_agents_own_place_is_hidden() {
    let scene = scene();
    fs::create_dir_all(scene.workspace.join(".agentbot/turns")).unwrap();
    assert_eq!(scene.says("list", "", None), r#"{"entries":[]}"#);
}

#[test]
fn a_long_file_is_cut_and_says_so() {
    let scene = scene();
    fs::write(scene.workspace.join("at"), "a".repeat(MAX_READ)).unwrap();
    assert_eq!(scene.says("read", "at", None).len(), MAX_READ);
    // The limit is in the middle of a character.
    fs::write(scene.workspace.join("over"), format!("a{}", "é".repeat(MAX_READ))).unwrap();
    let text = scene.says("read", "over", None);
    assert!(
        text.ends_with(&format!("(cut: {} of {} bytes are shown)", MAX_READ - 1, 2 * MAX_READ + 1)),
        "{}",
        text.len()
    );
}

#[test]
fn what_is_written_has_a_limit() {
    let scene = scene();
    for action in ["write", "append"] {
        assert!(scene.used(action, "a", Some(&"a".repeat(MAX_WRITE))).ok);
        assert!(!scene.used(action, "a", Some(&"a".repeat(MAX_WRITE + 1))).ok);
        assert!(!scene.used(action, "a", None).ok, "{action} without content");
    }
    let file = File::create(scene.workspace.join("big")).unwrap();
    file.set_len(MAX_FILE - 1).unwrap();
    assert!(scene.used("append", "big", Some("a")).ok);
    assert!(!scene.used("append", "big", Some("a")).ok);
}

#[test]
fn a_long_directory_is_cut_and_says_so() {
    let scene = scene();
    for number in 0..MAX_LIST + 3 {
        fs::write(scene.workspace.join(format!("{number:04}")), "").unwrap();
    }
    let text = scene.says("list", "", None);
    assert_eq!(text.lines().count(), MAX_LIST + 1);
    assert!(text.ends_with("(3 more)\n"));
}

#[test]
fn what_is_no_text_is_refused_kindly_and_nothing_waits() {
    let scene = scene();
    fs::write(scene.workspace.join("nul"), "a\0b").unwrap();
    fs::write(scene.workspace.join("bytes"), [0xff, 0xfe]).unwrap();
    mkfifo(&scene.workspace.join("pipe"), Mode::S_IRWXU).unwrap();
    fs::create_dir(scene.workspace.join("directory")).unwrap();
    for name in ["nul", "bytes"] {
        assert!(scene.fails("read", name).contains("binary"));
    }
    for action in ["read", "write", "append"] {
        scene.fails(action, "pipe");
        scene.fails(action, "directory");
        scene.fails(action, "");
        scene.fails(action, "nul/below");
    }
    assert!(scene.fails("read", "absent").contains("no such file"));
    assert!(scene.fails("steal", "a").contains("no action `steal`"));
}

#[test]
fn a_failed_write_leaves_the_old_file_and_no_rest() {
    let scene = scene();
    scene.says("write", "a", Some("old"));
    fs::create_dir(scene.workspace.join("b")).unwrap();
    scene.fails("write", "b");
    assert_eq!(scene.says("read", "a", None), "old");
    assert_eq!(fs::read_dir(&scene.workspace).unwrap().count(), 3);
    assert_eq!(fs::read_dir(scene.workspace.join(HIDDEN)).unwrap().count(), 0);
}

#[test]
fn a_write_that_is_killed_in_the_middle_leaves_nothing_where_the_model_looks() {
    let scene = scene();
    scene.says("write", "notes/a", Some("old"));
    // What a write does before it renames.
    Unborn::make(&scene.workspace, "new").unwrap();
    assert_eq!(scene.says("read", "notes/a", None), "old");
    scene.says("delete", "notes/a", None);
    assert_eq!(scene.says("list", "notes", None), r#"{"entries":[]}"#);
    scene.says("delete", "notes", None);
}

#[test]
fn what_stands_in_the_agents_own_place_is_not_followed() {
    let scene = scene();
    symlink("..", scene.workspace.join(HIDDEN)).unwrap();
    assert!(scene.fails("write", "a").contains("link"));
    assert_eq!(fs::read_dir(scene.workspace.parent().unwrap()).unwrap().count(), 2);
}

#[test]
fn a_missing_workspace_is_an_error() {
    let used = work(Path::new("/proc/none"), json!({"action": "list"}));
    assert!(!used.ok && used.content.contains("no such file"), "{used:?}");
}
