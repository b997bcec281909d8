//! What the host's file system tells of itself and of its processes.
//!
//! Every read is bounded and every failure is an absence: a process may end between two reads.
//! Only this file knows the formats under `/proc/PID`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::StartTicks;
use crate::event::Pid;

/// Most bytes read of one small file: `stat`, `status`, `cgroup`, `os-release`, ….
const MAX_FILE: u64 = 256 * 1024;
/// Most bytes read of an argument or environment block; the kernel's own default limit on both.
const MAX_BLOCK: u64 = 2 * 1024 * 1024;
/// Most bytes read of a list of mappings.
const MAX_MAPPINGS: u64 = 64 * 1024 * 1024;
/// Most mappings of one name.
const MAX_NAMESAKES: usize = 16;
/// Most descriptors looked at in one process.
const MAX_DESCRIPTORS: usize = 65_536;

/// The host's file system: `/`, or where it is mounted for the agent, or a test's directory.
#[derive(Clone, Debug)]
pub struct HostFs {
    root: PathBuf,
}

impl Default for HostFs {
    fn default() -> Self {
        Self::new("/")
    }
}

impl HostFs {
    /// The host whose root directory is `root`; `root/proc` is its process file system.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The start of a file given by its absolute path on the host.
    pub(super) fn read(&self, path: &str) -> Option<String> {
        let bytes = read_start(&self.path(path), MAX_FILE)?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Where an absolute path of the host is found.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// All processes, in no order.
    pub(super) fn pids(&self) -> impl Iterator<Item = Pid> + use<> {
        fs::read_dir(self.path("/proc")).into_iter().flatten().filter_map(|entry| {
            // Only plain decimal names are processes.
            entry.ok()?.file_name().to_str()?.parse().ok().map(Pid)
        })
    }

    /// One process, which need not exist.
    pub(super) fn process(&self, pid: Pid) -> ProcessDir {
        ProcessDir(self.path(&format!("/proc/{}", pid.0)))
    }
}

/// `/proc/PID`.
#[derive(Debug)]
pub(super) struct ProcessDir(PathBuf);

/// The fields of `/proc/PID/stat` that are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) comm: String,
    pub(super) parent: Pid,
    pub(super) started: StartTicks,
}

impl ProcessDir {
    /// Name, parent and start; `None` once the process is gone.
    pub(super) fn stat(&self) -> Option<Stat> {
        let text = self.text("stat")?;
        // The name may hold blanks and parentheses: it ends at the last one.
        let (_, rest) = text.split_once('(')?;
        let (comm, rest) = rest.rsplit_once(')')?;
        // Field 3 comes first here: parent is field 4, start field 22.
        let mut fields = rest.split_ascii_whitespace();
        let parent = fields.nth(1)?.parse().ok().map(Pid)?;
        let started = fields.nth(17)?.parse().ok().map(StartTicks)?;
        Some(Stat { comm: comm.to_owned(), parent, started })
    }

    /// The executable's path, as the process itself sees it.
    pub(super) fn executable(&self) -> Option<PathBuf> {
        let target = self.link("exe")?.into_os_string().into_vec();
        // An upgraded program keeps running from a file that has no name any more.
        let path = target.strip_suffix(b" (deleted)").unwrap_or(&target).to_vec();
        Some(PathBuf::from(OsString::from_vec(path)))
    }

    /// First bytes of the executable file itself, whatever its name is now.
    pub(super) fn executable_start(&self, limit: u64) -> Option<Vec<u8>> {
        read_start(&self.0.join("exe"), limit)
    }

    /// The working directory.
    pub(super) fn working_directory(&self) -> Option<PathBuf> {
        self.link("cwd")
    }

    /// NUL-separated arguments; empty for kernel threads.
    pub(super) fn arguments(&self) -> Option<Vec<u8>> {
        read_start(&self.0.join("cmdline"), MAX_BLOCK)
    }

    /// NUL-separated environment.
    pub(super) fn environment(&self) -> Option<Vec<u8>> {
        read_start(&self.0.join("environ"), MAX_BLOCK)
    }

    /// Contents of `cgroup`, one hierarchy a line.
    pub(super) fn cgroups(&self) -> Option<String> {
        self.text("cgroup")
    }

    /// Real user id.
    pub(super) fn owner(&self) -> Option<u32> {
        let status = self.text("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    }

    /// Inode of the network namespace.
    pub(super) fn network_namespace(&self) -> Option<u32> {
        inode_in_brackets(self.link("ns/net")?.as_os_str().as_bytes(), b"net:[")
            .and_then(|inode| u32::try_from(inode).ok())
    }

    /// One of the tables under `net/` (`tcp`, `tcp6`, `unix`) of its network namespace.
    pub(super) fn network_table(&self, name: &str) -> Option<File> {
        File::open(self.0.join("net").join(name)).ok()
    }

    /// Inodes of the sockets it holds open.
    pub(super) fn socket_inodes(&self) -> impl Iterator<Item = u64> + use<> {
        let descriptors = fs::read_dir(self.0.join("fd")).into_iter().flatten();
        descriptors.take(MAX_DESCRIPTORS).filter_map(|entry| {
            let target = fs::read_link(entry.ok()?.path()).ok()?;
            inode_in_brackets(target.as_os_str().as_bytes(), b"socket:[")
        })
    }

    /// Where the mappings with such a name begin.
    pub(super) fn mappings(&self, named: impl Fn(&str) -> bool) -> Vec<u64> {
        let Ok(file) = File::open(self.0.join("maps")) else { return Vec::new() };
        let lines = BufReader::new(file.take(MAX_MAPPINGS)).split(b'\n').map_while(Result::ok);
        // `begin-end permissions offset device inode  name`; few lines are of interest.
        let begin = |line: Vec<u8>| {
            let name = line.splitn(6, |byte| *byte == b' ').nth(5)?.trim_ascii_start();
            let name = std::str::from_utf8(name).ok().filter(|name| named(name));
            let end = line.iter().position(|byte| *byte == b'-').filter(|_| name.is_some())?;
            u64::from_str_radix(std::str::from_utf8(&line[..end]).ok()?, 16).ok()
        };
        lines.filter_map(begin).take(MAX_NAMESAKES).collect()
    }

    /// So many bytes of its memory; `None` unless all of them can be read.
    pub(super) fn memory(&self, address: u64, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        File::open(self.0.join("mem")).ok()?.read_exact_at(&mut bytes, address).ok()?;
        Some(bytes)
    }

    /// Whether it exists but hides its descriptors from the agent.
    pub(super) fn is_hidden(&self) -> bool {
        let descriptors = fs::read_dir(self.0.join("fd"));
        descriptors.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }

    fn text(&self, name: &str) -> Option<String> {
        let bytes = read_start(&self.0.join(name), MAX_FILE)?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn link(&self, name: &str) -> Option<PathBuf> {
        fs::read_link(self.0.join(name)).ok()
    }
}

fn inode_in_brackets(link: &[u8], kind: &[u8]) -> Option<u64> {
    let inode = link.strip_prefix(kind)?.strip_suffix(b"]")?;
    std::str::from_utf8(inode).ok()?.parse().ok()
}

fn read_start(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::testing::FakeHost;

    #[test]
    fn reads_this_very_process() {
        let own = HostFs::default().process(Pid(std::process::id()));
        let stat = own.stat().expect("we exist");
        assert!(stat.started > StartTicks(0));
        assert!(own.executable().is_some_and(|path| path.is_absolute()));
        assert!(own.network_namespace().is_some());
        assert_eq!(own.owner(), Some(rustix::process::getuid().as_raw()));
        assert!(HostFs::default().pids().any(|pid| pid.0 == std::process::id()));
    }

    #[test]
    fn a_name_may_look_like_the_end_of_the_name() {
        let host = FakeHost::new();
        host.process(7).stat("a) R 1 (b", 3, 99);
        let stat = host.fs().process(Pid(7)).stat();
        let expected = Stat { comm: "a) R 1 (b".into(), parent: Pid(3), started: StartTicks(99) };
        assert_eq!(stat, Some(expected));
    }

    #[test]
    fn a_replaced_executable_keeps_its_name() {
        let host = FakeHost::new();
        host.process(7).executable("/usr/sbin/nginx (deleted)");
        let executable = host.fs().process(Pid(7)).executable();
        assert_eq!(executable, Some(PathBuf::from("/usr/sbin/nginx")));
    }

    #[test]
    fn a_process_that_is_gone_has_nothing() {
        let gone = FakeHost::new().fs().process(Pid(7));
        assert_eq!(gone.stat(), None);
        assert_eq!(gone.executable(), None);
        assert_eq!(gone.socket_inodes().count(), 0);
    }
}
