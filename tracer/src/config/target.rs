//! Options on which processes are traced.

use std::str::FromStr;

use clap::Args;
use clap::builder::FalseyValueParser;

use crate::event::Pid;
use crate::target::Selectors;

/// Which processes are traced: those that any of these selects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Targets (a process is traced if any of these selects it)")]
pub struct TargetOptions {
    /// The process that serves this TCP port, with all requests it gets and makes; may be repeated
    #[arg(long = "port", env = "TRACER_PORTS", value_delimiter = ',', value_name = "PORT")]
    pub ports: Vec<Port>,
    /// This process and everything descended from it; may be repeated
    #[arg(long = "pid", env = "TRACER_PIDS", value_delimiter = ',', value_name = "PID")]
    pub pids: Vec<ProcessId>,
    /// Processes whose executable has this file name or, if the glob contains a `/`, this path:
    /// 'nginx*', '/opt/**/bin/app'. A script's executable is its interpreter; may be repeated
    #[arg(long = "exe", env = "TRACER_EXE", value_name = "GLOB")]
    pub executables: Vec<GlobList>,
    /// Processes of this cgroup (version 2) and those below it, such as
    /// system.slice/nginx.service; may be repeated
    #[arg(long = "cgroup", env = "TRACER_CGROUPS", value_delimiter = ',', value_name = "PATH")]
    pub cgroups: Vec<String>,
    /// Every process that serves or calls HTTP; the default if nothing else is given
    #[arg(long, env = "TRACER_ALL", value_parser = FalseyValueParser::new())]
    pub all: bool,
}

impl TargetOptions {
    /// As the target module takes them.
    pub fn selectors(&self) -> Selectors {
        Selectors {
            ports: self.ports.iter().map(|port| port.0).collect(),
            pids: self.pids.iter().map(|pid| Pid(pid.0)).collect(),
            executables: self.executables.iter().flat_map(|list| list.0.clone()).collect(),
            cgroups: self.cgroups.clone(),
            all: self.all,
        }
    }
}

/// Why a target was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetOptionError {
    /// Not a TCP port.
    #[error("`{0}` is not a TCP port; give a number from 1 to 65535")]
    Port(String),
    /// Not a process id.
    #[error("`{0}` is not a process id; `pgrep -f NAME` finds those of a program")]
    Pid(String),
    /// Nothing at all.
    #[error("the glob is empty")]
    EmptyGlob,
}

/// A TCP port, not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Port(u16);

impl FromStr for Port {
    type Err = TargetOptionError;

    fn from_str(text: &str) -> Result<Self, TargetOptionError> {
        let port = text.trim().parse().ok().filter(|&port| port != 0);
        port.map(Self).ok_or_else(|| TargetOptionError::Port(text.to_owned()))
    }
}

/// A process id, not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessId(u32);

impl FromStr for ProcessId {
    type Err = TargetOptionError;

    fn from_str(text: &str) -> Result<Self, TargetOptionError> {
        let pid = text.trim().parse().ok().filter(|&pid| pid != 0 && i32::try_from(pid).is_ok());
        pid.map(Self).ok_or_else(|| TargetOptionError::Pid(text.to_owned()))
    }
}

/// Globs separated by commas, other than those between braces: `{node,nginx},curl` are two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlobList(Vec<String>);

impl GlobList {
    /// Each of them.
    pub fn globs(&self) -> &[String] {
        &self.0
    }
}

impl FromStr for GlobList {
    type Err = TargetOptionError;

    fn from_str(text: &str) -> Result<Self, TargetOptionError> {
        let mut depth = 0_u32;
        let between = |c: char| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        };
        let globs: Vec<String> = text.split(between).map(|glob| glob.trim().to_owned()).collect();
        if globs.iter().any(String::is_empty) {
            return Err(TargetOptionError::EmptyGlob);
        }
        Ok(Self(globs))
    }
}
