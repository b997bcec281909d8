//! Control groups: where a process stands in the version 2 hierarchy, and what its place tells of
//! container and service manager.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::HostFs;

/// Most directories visited in one search of the hierarchy.
const MAX_GROUPS: usize = 65_536;
/// Most ids remembered, found or not.
const MAX_REMEMBERED: usize = 4_096;

/// Units that start programs of other people: their name says nothing about the program.
const HOSTING_UNITS: &[&str] = &[
    "anacron",
    "atd",
    "containerd",
    "cron",
    "crond",
    "docker",
    "init",
    "podman",
    "ssh",
    "sshd",
    "supervisor",
    "supervisord",
];

/// A directory of the version 2 hierarchy, as the path below its mount point, beginning with `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CgroupPath(PathBuf);

/// Why a `--cgroup` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// `/proc/mounts` has no `cgroup2`.
    #[error(
        "--cgroup needs the cgroup version 2 hierarchy, and none is mounted; mount it with \
         `mount -t cgroup2 none /sys/fs/cgroup/unified`"
    )]
    NotMounted,
    /// There is no such directory.
    #[error(
        "no cgroup `{given}` below {}; `systemd-cgls` or `cat /proc/PID/cgroup` (the line that \
         begins with `0::`) shows the path of a process", mount.display()
    )]
    NotFound {
        /// What the user wrote.
        given: String,
        /// Where it was looked for.
        mount: PathBuf,
    },
}

impl CgroupPath {
    /// Whether `self` is `ancestor` or lies below it.
    pub fn is_within(&self, ancestor: &Self) -> bool {
        self.0.starts_with(&ancestor.0)
    }

    /// From the contents of `/proc/PID/cgroup`. `None` when the process stands outside of what the
    /// agent's cgroup namespace shows.
    pub(super) fn parse(cgroups: &str) -> Option<Self> {
        let path = Path::new(cgroups.lines().find_map(|line| line.strip_prefix("0::"))?);
        let outside = path.components().any(|part| part == Component::ParentDir);
        (path.is_absolute() && !outside).then(|| Self(path.to_owned()))
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// The version 2 hierarchy as mounted on the host.
#[derive(Debug)]
pub(super) struct Hierarchy {
    /// Mount point, in the agent's view of the file system.
    mount: Option<Mount>,
    paths: HashMap<u64, CgroupPath>,
    missing: HashSet<u64>,
}

#[derive(Debug)]
struct Mount {
    /// As the host names it.
    named: PathBuf,
    /// As the agent reaches it.
    reached: PathBuf,
}

impl Hierarchy {
    /// Finds the mount point in `/proc/mounts`.
    pub(super) fn find(fs: &HostFs) -> Self {
        let mounts = fs.read("/proc/mounts").unwrap_or_default();
        let mount = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ');
            let (point, kind) = (fields.nth(1)?, fields.next()?);
            (kind == "cgroup2")
                .then(|| Mount { named: PathBuf::from(point), reached: fs.path(point) })
        });
        Self { mount, paths: HashMap::new(), missing: HashSet::new() }
    }

    /// Understands what a user wrote: a path below the mount point, or one that includes it, or
    /// one below `/sys/fs/cgroup` wherever the hierarchy is really mounted.
    pub(super) fn resolve(&self, given: &str) -> Result<CgroupPath, CgroupError> {
        let mount = self.mount.as_ref().ok_or(CgroupError::NotMounted)?;
        let written = Path::new(given);
        let relative = written
            .strip_prefix(&mount.named)
            .or_else(|_| written.strip_prefix("/sys/fs/cgroup"))
            .or_else(|_| written.strip_prefix("/"))
            .unwrap_or(written);
        let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
        if plain && mount.reached.join(relative).is_dir() {
            Ok(CgroupPath(Path::new("/").join(relative)))
        } else {
            Err(CgroupError::NotFound { given: given.to_owned(), mount: mount.named.clone() })
        }
    }

    /// Where the agent reaches a group's directory.
    pub(super) fn directory(&self, path: &CgroupPath) -> Option<PathBuf> {
        let mount = self.mount.as_ref()?;
        Some(mount.reached.join(path.0.strip_prefix("/").unwrap_or(&path.0)))
    }

    /// The path of the group with this id (the inode of its directory), as long as it exists.
    pub(super) fn path_of(&mut self, id: u64) -> Option<CgroupPath> {
        if id == 0 || self.missing.contains(&id) {
            return None;
        }
        if !self.paths.contains_key(&id) {
            self.search(id);
        }
        self.paths.get(&id).cloned()
    }

    /// Walks the hierarchy, remembering what it passes.
    fn search(&mut self, id: u64) {
        if self.paths.len() >= MAX_REMEMBERED {
            self.paths.clear();
        }
        if self.missing.len() >= MAX_REMEMBERED {
            self.missing.clear();
        }
        let Some(mount) = &self.mount else { return };
        let mut pending = vec![mount.reached.clone()];
        for _ in 0..MAX_GROUPS {
            let Some(directory) = pending.pop() else { break };
            let Ok(inode) = fs::metadata(&directory).map(|metadata| metadata.ino()) else {
                continue;
            };
            let below = directory.strip_prefix(&mount.reached).unwrap_or(Path::new(""));
            if inode == id || self.paths.len() < MAX_REMEMBERED {
                self.paths.insert(inode, CgroupPath(Path::new("/").join(below)));
            }
            if inode == id {
                return;
            }
            let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
            pending.extend(
                entries
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|entry| entry.path()),
            );
        }
        self.missing.insert(id);
    }
}

/// The container a process runs in, from the contents of `/proc/PID/cgroup` (any hierarchy): the
/// last path component that carries a 64-digit hexadecimal id, as Docker, containerd, CRI-O and
/// Podman write it.
pub(super) fn container_id(cgroups: &str) -> Option<String> {
    paths(cgroups).find_map(|path| path.rsplit('/').find_map(id_in_component))
}

/// Whether the path is that of a Kubernetes pod.
pub(super) fn is_kubernetes_pod(cgroups: &str) -> bool {
    paths(cgroups).any(|path| path.split('/').any(|part| part.starts_with("kubepods")))
}

/// The systemd service a process belongs to, without `.service`; `None` for user sessions, for
/// units with made-up names and for those that merely host other people's programs.
pub(super) fn systemd_service(cgroups: &str) -> Option<String> {
    let unified = cgroups.lines().find_map(|line| line.strip_prefix("0::"));
    let named = cgroups.lines().find_map(|line| Some(line.split_once("name=systemd:")?.1));
    [unified, named].into_iter().flatten().find_map(|path| {
        // The innermost unit; a scope (a login session, a container) hides the service around it.
        let unit = path
            .split('/')
            .rev()
            .find(|part| [".service", ".scope"].iter().any(|kind| part.ends_with(kind)))?;
        service_name(unit.strip_suffix(".service")?)
    })
}

/// `nginx`, `app@2` → `app` (numbered copies of one service), `shop@web` as it is.
fn service_name(unit: &str) -> Option<String> {
    let unit = unescape(unit);
    let (prefix, instance) = unit.split_once('@').map_or((&*unit, None), |(p, i)| (p, Some(i)));
    let transient = prefix
        .strip_prefix("run-")
        .is_some_and(|rest| rest.bytes().any(|byte| byte.is_ascii_digit()));
    let session = instance.is_some() && matches!(prefix, "user" | "user-runtime-dir" | "getty");
    if prefix.is_empty() || transient || session || HOSTING_UNITS.contains(&prefix) {
        return None;
    }
    let numbered = instance.is_none_or(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    Some(if numbered { prefix.to_owned() } else { unit })
}

/// Undoes systemd's `\xNN` escapes, of which `\x2d` for `-` is the usual one.
fn unescape(unit: &str) -> String {
    let mut plain = String::with_capacity(unit.len());
    let mut rest = unit;
    while let Some(at) = rest.find("\\x") {
        plain.push_str(&rest[..at]);
        let code = rest.get(at + 2..at + 4).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let Some(byte) = code.filter(u8::is_ascii_graphic) {
            plain.push(char::from(byte));
            rest = &rest[at + 4..];
        } else {
            plain.push_str("\\x");
            rest = &rest[at + 2..];
        }
    }
    plain + rest
}

fn paths(cgroups: &str) -> impl Iterator<Item = &str> {
    cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2))
}

/// `<id>`, `docker-<id>.scope`, `cri-containerd-<id>.scope`, `crio-<id>`, `libpod-<id>.scope`,
/// `system.slice:containerd:<id>`.
fn id_in_component(component: &str) -> Option<String> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let id = name.rsplit(['-', ':']).next().unwrap_or(name);
    let hexadecimal = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    hexadecimal.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::testing::FakeHost;

    const ID: &str = "8c6f3f5b7a0d4e1c9b2a6d5e4f3c2b1a0f9e8d7c6b5a49382716051423324150";

    #[test]
    fn container_ids_of_all_runtimes() {
        for path in [
            format!("0::/system.slice/docker-{ID}.scope"),
            format!("12:cpu:/docker/{ID}\n0::/\n"),
            format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"),
            format!("0::/kubepods/besteffort/pod12/{ID}"),
            format!("0::/machine.slice/libpod-{ID}.scope/container"),
            format!("0::/kubepods.slice/crio-{ID}.scope"),
            format!("0::/system.slice:containerd:{ID}"),
        ] {
            assert_eq!(container_id(&path).as_deref(), Some(ID), "{path}");
        }
        assert_eq!(container_id("0::/system.slice/nginx.service"), None);
        assert_eq!(container_id("0::/docker/not-an-id"), None);
        assert!(is_kubernetes_pod("0::/kubepods.slice/kubepods-pod1.slice/x"));
        assert!(!is_kubernetes_pod("0::/docker/x"));
    }

    #[test]
    fn services_by_unit() {
        let service = |path: &str| systemd_service(&format!("0::{path}\n"));
        assert_eq!(service("/system.slice/nginx.service").as_deref(), Some("nginx"));
        assert_eq!(service("/system.slice/system-app.slice/app@2.service").as_deref(), Some("app"));
        assert_eq!(service("/system.slice/shop@web.service").as_deref(), Some("shop@web"));
        assert_eq!(service("/system.slice/my\\x2dshop.service").as_deref(), Some("my-shop"));
        let user = "/user.slice/user-1000.slice/user@1000.service";
        assert_eq!(service(&format!("{user}/app.slice/notes.service")).as_deref(), Some("notes"));
        assert_eq!(service(user), None);
        assert_eq!(service(&format!("{user}/app.slice/run-u12.service")), None);
        assert_eq!(service(&format!("{user}/tmux-spawn-1.scope")), None);
        assert_eq!(service("/user.slice/user-0.slice/session-3.scope"), None);
        assert_eq!(service("/system.slice/cron.service"), None);
        assert_eq!(service("/"), None);
        let hybrid = "5:memory:/x\n1:name=systemd:/system.slice/nginx.service\n0::/\n";
        assert_eq!(systemd_service(hybrid).as_deref(), Some("nginx"));
    }

    #[test]
    fn escapes_that_are_none_stay() {
        assert_eq!(unescape("a\\x2db\\x"), "a-b\\x");
        assert_eq!(unescape("a\\xzz"), "a\\xzz");
        assert_eq!(unescape("\\x00\u{e9}"), "\\x00\u{e9}");
    }

    #[test]
    fn users_may_write_a_group_in_three_ways() {
        let host = FakeHost::new();
        host.directory("/sys/fs/cgroup/unified/system.slice/nginx.service");
        let hierarchy = Hierarchy::find(&host.fs());
        for given in [
            "system.slice/nginx.service",
            "/system.slice/nginx.service/",
            "/sys/fs/cgroup/system.slice/nginx.service",
            "/sys/fs/cgroup/unified/system.slice/nginx.service",
        ] {
            let path = hierarchy.resolve(given).expect(given);
            assert_eq!(path.to_string(), "/system.slice/nginx.service", "{given}");
        }
        let error = hierarchy.resolve("nginx").expect_err("no such group").to_string();
        assert!(error.contains("`nginx` below /sys/fs/cgroup/unified"), "{error}");
        assert!(hierarchy.resolve("../..").is_err());
    }

    #[test]
    fn without_a_mount_the_message_says_how_to_mount() {
        let host = FakeHost::new();
        host.file("/proc/mounts", "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n");
        let error = Hierarchy::find(&host.fs()).resolve("x").expect_err("not mounted");
        assert!(error.to_string().contains("mount -t cgroup2"));
    }

    #[test]
    fn a_group_is_found_by_its_id_even_if_made_later() {
        let host = FakeHost::new();
        host.directory("/sys/fs/cgroup/unified/a/b");
        let mut hierarchy = Hierarchy::find(&host.fs());
        assert_eq!(hierarchy.path_of(u64::MAX), None);
        assert_eq!(hierarchy.path_of(0), None);
        let late = host.directory("/sys/fs/cgroup/unified/a/late");
        let id = fs::metadata(late).expect("just made").ino();
        assert_eq!(hierarchy.path_of(id), Some(CgroupPath(PathBuf::from("/a/late"))));
    }

    #[test]
    fn within_goes_by_whole_components() {
        let path = |text: &str| CgroupPath::parse(&format!("0::{text}")).expect("absolute");
        assert!(path("/a/b/c").is_within(&path("/a/b")));
        assert!(path("/a/b").is_within(&path("/a/b")));
        assert!(!path("/a/bc").is_within(&path("/a/b")));
        assert_eq!(CgroupPath::parse("0::/../x"), None);
    }
}
