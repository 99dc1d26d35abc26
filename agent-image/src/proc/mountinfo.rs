//! `/proc/<pid>/mountinfo`.

use serde::Serialize;

use super::unescape;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// Where it is seen.
    pub target: String,
    /// Kind of file system.
    pub fstype: String,
    /// The device or name that was mounted.
    pub source: String,
    /// The directory of the file system that is seen; `/` unless it is a bind mount.
    pub root: String,
    /// Nothing can be written: the mount or the file system forbids it.
    pub read_only: bool,
    /// Programs cannot be run from it.
    pub noexec: bool,
    /// Setuid bits have no effect.
    pub nosuid: bool,
    /// Device files have no effect.
    pub nodev: bool,
    /// How mounts spread from and to it: `private`, `shared:<n>`, `master:<n>`.
    pub propagation: String,
    /// The file system's own options.
    pub options: String,
}

impl Mount {
    /// Whether `path` is the target or lies below it.
    #[must_use]
    pub fn holds(&self, path: &str) -> bool {
        let target = self.target.trim_end_matches('/');
        path.strip_prefix(target).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Reads the whole table; lines of an unknown shape are left out.
#[must_use]
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

/// The mount that decides about `path`: of the deepest ones the last, which lies on top.
#[must_use]
pub fn covering<'a>(mounts: &'a [Mount], path: &str) -> Option<&'a Mount> {
    mounts.iter().filter(|mount| mount.holds(path)).max_by_key(|mount| mount.target.trim_end_matches('/').len())
}

fn parse_line(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, target, flags) = (mount.next()?, mount.next()?, mount.next()?);
    let spread: Vec<&str> = mount.collect();
    let mut file_system = file_system.splitn(3, ' ');
    let (fstype, source, options) = (file_system.next()?, file_system.next()?, file_system.next()?);
    let has = |flag: &str| flags.split(',').any(|set| set == flag);
    Some(Mount {
        target: unescape(target),
        fstype: unescape(fstype),
        source: unescape(source),
        root: unescape(root),
        read_only: has("ro") || options.split(',').any(|set| set == "ro"),
        noexec: has("noexec"),
        nosuid: has("nosuid"),
        nodev: has("nodev"),
        propagation: if spread.is_empty() { "private".to_owned() } else { spread.join(",") },
        options: options.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Recorded in containers of Docker Engine, on cgroup v1 and on cgroup v2.
    const V1: &str = "\
531 430 0:51 / / ro,relatime - overlay overlay rw,lowerdir=/l/A:/l/B,upperdir=/o/diff,workdir=/o/work
532 531 0:54 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
536 535 0:30 /agentbot/4f0c /sys/fs/cgroup/pids ro,nosuid,nodev,noexec,relatime master:13 - cgroup cgroup rw,pids
540 531 0:58 / /tmp rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,size=65536k
541 531 8:1 /state/slots/s1/work/1 /workspace rw,relatime - ext4 /dev/sda1 rw
542 531 8:1 /state/slots/s\\040one/run /run/agentbot ro,relatime - ext4 /dev/sda1 rw
543 532 0:54 /sys /proc/sys ro,nosuid,nodev,noexec,relatime - proc proc rw
";
    const V2: &str = "\
712 698 0:31 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate,memory_recursiveprot
713 652 254:1 /e/hosts /etc/hosts rw,relatime shared:7 master:1 - ext4 /dev/vda1 rw,discard
";

    fn at<'a>(mounts: &'a [Mount], target: &str) -> &'a Mount {
        mounts.iter().find(|mount| mount.target == target).unwrap()
    }

    #[test]
    fn flags_of_the_mount_are_read() {
        let mounts = parse(V1);
        let tmp = at(&mounts, "/tmp");
        assert_eq!((tmp.noexec, tmp.nosuid, tmp.nodev, tmp.read_only), (true, true, true, false));
        assert_eq!(tmp.options, "rw,size=65536k");
    }

    #[test]
    fn a_bind_mount_names_the_directory_it_shows() {
        assert_eq!(at(&parse(V1), "/workspace").root, "/state/slots/s1/work/1");
    }

    #[test]
    fn blanks_in_paths_are_unescaped() {
        assert_eq!(at(&parse(V1), "/run/agentbot").root, "/state/slots/s one/run");
    }

    #[test]
    fn a_read_only_mount_of_a_writable_file_system_is_read_only() {
        let mounts = parse(V1);
        assert!(at(&mounts, "/").read_only && at(&mounts, "/proc/sys").read_only);
        assert!(!at(&mounts, "/proc").read_only);
    }

    #[test]
    fn propagation_is_private_unless_said() {
        assert_eq!(at(&parse(V1), "/workspace").propagation, "private");
        assert_eq!(at(&parse(V1), "/sys/fs/cgroup/pids").propagation, "master:13");
        assert_eq!(at(&parse(V2), "/etc/hosts").propagation, "shared:7,master:1");
    }

    #[test]
    fn the_unified_cgroup_file_system_is_read() {
        assert_eq!(at(&parse(V2), "/sys/fs/cgroup").fstype, "cgroup2");
    }

    #[test]
    fn the_deepest_mount_covers_a_path() {
        let mounts = parse(V1);
        assert_eq!(covering(&mounts, "/workspace/notes").unwrap().target, "/workspace");
        assert_eq!(covering(&mounts, "/workspaces").unwrap().target, "/");
        assert_eq!(covering(&mounts, "/").unwrap().target, "/");
    }

    #[test]
    fn of_two_mounts_on_one_place_the_later_covers() {
        let mounts = parse("1 0 0:1 / /a ro - tmpfs first rw\n2 1 0:2 / /a rw - tmpfs second rw\n");
        assert_eq!(covering(&mounts, "/a").unwrap().source, "second");
    }

    #[test]
    fn lines_of_another_shape_are_left_out() {
        assert_eq!(parse("nonsense\n\n1 2 - \n"), []);
    }
}
