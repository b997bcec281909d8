//! A host made of files in a temporary directory, for the unit tests of [`super`].

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{ClockSource, Clocks, Host, HostFs, Resolver};
use crate::event::ClockOffset;

/// Clocks of a machine that booted at a round time and never slept.
pub(super) const CLOCKS: Clocks =
    Clocks { wall: ClockOffset(1_795_255_200_000_000_000), suspended: 0, ticks_per_second: 100 };

/// A root directory to be filled by the test.
pub(super) struct FakeHost(TempDir);

/// One process of a [`FakeHost`].
pub(super) struct FakeProcess(PathBuf);

impl FakeHost {
    pub(super) fn new() -> Self {
        let host = Self(tempfile::tempdir().expect("a temporary directory"));
        host.file("/proc/sys/kernel/hostname", "web-1\n");
        host.file("/proc/sys/kernel/osrelease", "6.18.0\n");
        host.file("/proc/sys/kernel/random/boot_id", "0f0e0d0c-0b0a-4908-8706-050403020100\n");
        host.file("/etc/machine-id", "00112233445566778899aabbccddeeff\n");
        host.file("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/:/bin/false\n");
        host.file("/etc/os-release", "PRETTY_NAME=\"Debian 12\"\nID=debian\nVERSION_ID=\"12\"\n");
        host.file("/proc/mounts", "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n");
        host
    }

    pub(super) fn root(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn fs(&self) -> HostFs {
        HostFs::new(self.root())
    }

    pub(super) fn resolver(&self) -> Resolver {
        let fs = self.fs();
        Resolver::new(Host::read(&fs), fs, ClockSource::Fixed(CLOCKS))
    }

    pub(super) fn file(&self, path: &str, contents: &str) {
        write(&self.root().join(path.trim_start_matches('/')), contents);
    }

    pub(super) fn directory(&self, path: &str) -> PathBuf {
        let path = self.root().join(path.trim_start_matches('/'));
        fs::create_dir_all(&path).expect("a directory");
        path
    }

    pub(super) fn process(&self, pid: u32) -> FakeProcess {
        FakeProcess(self.directory(&format!("/proc/{pid}")))
    }
}

impl FakeProcess {
    pub(super) fn stat(&self, comm: &str, parent: u32, started: u64) -> &Self {
        let zeros = "0 ".repeat(17);
        self.file("stat", &format!("1 ({comm}) S {parent} {zeros}{started} 0 0\n"))
    }

    pub(super) fn executable(&self, path: &str) -> &Self {
        self.link("exe", path)
    }

    pub(super) fn arguments(&self, arguments: &[&str]) -> &Self {
        self.file("cmdline", &block(arguments))
    }

    pub(super) fn environment(&self, variables: &[&str]) -> &Self {
        self.file("environ", &block(variables))
    }

    pub(super) fn network(&self, namespace: u32, tcp: &str, unix: &str) -> &Self {
        self.link("ns/net", &format!("net:[{namespace}]"));
        self.file("net/tcp", &format!("  sl  local_address rem_address   st\n{tcp}"));
        self.file("net/unix", &format!("Num       RefCount Protocol Flags\n{unix}"))
    }

    pub(super) fn socket(&self, descriptor: u32, inode: u64) -> &Self {
        self.link(&format!("fd/{descriptor}"), &format!("socket:[{inode}]"))
    }

    pub(super) fn file(&self, name: &str, contents: &str) -> &Self {
        write(&self.0.join(name), contents);
        self
    }

    /// Some of its memory.
    pub(super) fn memory(&self, parts: &[(u64, &[u8])]) -> &Self {
        let file = fs::File::create(self.0.join("mem")).expect("a file");
        for (address, bytes) in parts {
            file.write_all_at(bytes, *address).expect("a sparse file");
        }
        self
    }

    pub(super) fn link(&self, name: &str, target: &str) -> &Self {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("inside the process")).expect("a directory");
        symlink(target, path).expect("a link");
        self
    }
}

/// NUL-terminated strings, as the kernel shows arguments and environment.
pub(super) fn block(strings: &[&str]) -> String {
    strings.iter().flat_map(|string| [string, "\0"]).collect()
}

/// One line of `/proc/net/tcp`: `state` 0A listens, 01 is established.
pub(super) fn tcp_line(local_port: u16, state: &str, inode: u64) -> String {
    let rest = "00000000:00000000 00:00000000 00000000 0 0";
    format!("   0: 0100007F:{local_port:04X} 00000000:0000 {state} {rest} {inode} 1\n")
}

fn write(path: &Path, contents: &str) {
    fs::create_dir_all(path.parent().expect("below the root")).expect("a directory");
    fs::write(path, contents).expect("a file");
}
