//! A control group of a test's own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::wait;

/// A control group of the version 2 hierarchy, removed with this guard.
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Creates one by its path below the mount point.
    pub fn new(name: &str) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts")?;
        let mount = mounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields[2] == "cgroup2").then(|| fields[1].to_owned())
        });
        let directory = PathBuf::from(mount.context("no cgroup2 is mounted")?).join(name);
        fs::create_dir(&directory).with_context(|| directory.display().to_string())?;
        Ok(Self(directory))
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// Moves a process into it; what that starts will be there, too.
    pub fn add(&self, pid: u32) -> Result<()> {
        Ok(fs::write(self.0.join("cgroup.procs"), pid.to_string())?)
    }

    /// Lets its processes run no more, or go on, without a signal to them.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        fs::write(self.0.join("cgroup.freeze"), if frozen { "1" } else { "0" })?;
        Ok(())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A group can be removed once its last process is reaped.
        let _ = wait::until("an empty control group", || Ok(fs::remove_dir(&self.0).ok()));
    }
}
