//! One process, and how it becomes known: from the kernel half's word, completed out of `/proc`
//! while it is alive, or out of `/proc` alone.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use super::cgroup::{self, Hierarchy};
use super::clock::{ClockSource, Clocks};
use super::container::Container;
use super::environment::{ServiceVariables, resource_attributes};
use super::process_context::ProcessContext;
use super::procfs::{ProcessDir, Stat};
use super::program::{CONTENTS_NEEDED, Program, Runtime};
use super::resource::Facts;
use super::service_name::Evidence;
use super::{Host, HostFs, ServiceNameSource, StartTicks};
use crate::event::{KernelTime, Pid, ProcessSeen};
use crate::trace::{Resource, ResourceId, Value};

/// A process as spans need it, from one `exec` to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: Pid,
    /// What is said here holds from this time on.
    pub since: KernelTime,
    /// Path of its executable, if it could be read.
    pub executable: Option<PathBuf>,
    /// Who gave the service its name.
    pub name_source: ServiceNameSource,
    /// It seems to have an SDK that reports spans of its own.
    pub instrumented: bool,
    /// What its spans carry.
    pub resource: Arc<Resource>,
}

impl Process {
    /// A process of which nothing is known but its id.
    pub(super) fn unknown(pid: Pid, since: KernelTime, id: ResourceId, host: &Host) -> Self {
        let (service, name_source) = Evidence::default().service_name();
        let resource = Arc::new(Facts::new(pid, service).resource(id, host));
        Self { pid, since, executable: None, name_source, instrumented: false, resource }
    }
}

/// Makes a [`Process`] of what the kernel half and `/proc` tell.
#[derive(Debug)]
pub struct Resolver {
    host: Host,
    fs: HostFs,
    clocks: ClockSource,
    hierarchy: Mutex<Hierarchy>,
    discarded_attributes: AtomicU64,
}

/// What is gathered of one process before it is judged.
#[derive(Debug, Default)]
struct Gathered {
    started: Option<StartTicks>,
    comm: String,
    executable: Option<PathBuf>,
    directory: Option<PathBuf>,
    arguments: Vec<String>,
    variables: ServiceVariables,
    cgroups: String,
    owner: Option<u32>,
    runtime: Option<Runtime>,
    context: Option<ProcessContext>,
}

impl Resolver {
    /// Resolves the processes of one host.
    pub fn new(host: Host, fs: HostFs, clocks: ClockSource) -> Self {
        let hierarchy = Mutex::new(Hierarchy::find(&fs));
        Self { host, fs, clocks, hierarchy, discarded_attributes: AtomicU64::new(0) }
    }

    /// Resolves the processes of this machine.
    pub fn system() -> Self {
        let fs = HostFs::default();
        Self::new(Host::read(&fs), fs, ClockSource::System)
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its file system.
    pub fn fs(&self) -> &HostFs {
        &self.fs
    }

    /// How often an `OTEL_RESOURCE_ATTRIBUTES` was discarded because it cannot be decoded.
    pub fn discarded_attributes(&self) -> u64 {
        self.discarded_attributes.load(Ordering::Relaxed)
    }

    /// A process that the kernel half has just seen, which may be gone already.
    pub fn seen(&self, seen: &ProcessSeen<'_>, id: ResourceId) -> Process {
        let clocks = self.clocks();
        let directory = self.fs.process(seen.pid);
        let same = |stat: &Stat| clocks.agree(seen.started, stat.started);
        let mut gathered = gather(&directory, same).unwrap_or_default();
        gathered.started.get_or_insert(clocks.ticks(seen.started));
        seen.comm.clone_into(&mut gathered.comm);
        // The kernel half looked first, before the program could have changed either; but it may
        // have had to cut them.
        let whole = seen.arguments.last() == Some(&0);
        if whole || gathered.arguments.is_empty() {
            gathered.arguments = arguments(seen.arguments);
        }
        gathered.variables = ServiceVariables::parse(seen.environment).or(gathered.variables);
        if gathered.cgroups.is_empty()
            && let Some(path) = self.hierarchy().path_of(seen.cgroup)
        {
            gathered.cgroups = format!("0::{path}");
        }
        self.judge(seen.pid, seen.time, gathered, id, clocks)
    }

    /// A process that was there before the agent; `None` if it is gone, or if the one that now has
    /// its id was forked after `at`.
    pub fn running(&self, pid: Pid, at: KernelTime, id: ResourceId) -> Option<Process> {
        let clocks = self.clocks();
        let existed = |stat: &Stat| clocks.monotonic(stat.started) <= at;
        let gathered = gather(&self.fs.process(pid), existed)?;
        let since = gathered.started.map_or(at, |started| clocks.monotonic(started));
        Some(self.judge(pid, since, gathered, id, clocks))
    }

    /// What a running process' SDK publishes of its resource.
    pub(super) fn process_context(&self, pid: Pid) -> Option<ProcessContext> {
        ProcessContext::read(&self.fs.process(pid))
    }

    /// The control groups.
    pub(super) fn hierarchy(&self) -> MutexGuard<'_, Hierarchy> {
        // A panic elsewhere cannot leave its cache wrong, only incomplete.
        self.hierarchy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The clocks, now.
    pub(super) fn clocks(&self) -> Clocks {
        self.clocks.read()
    }

    fn judge(
        &self,
        pid: Pid,
        since: KernelTime,
        gathered: Gathered,
        id: ResourceId,
        clocks: Clocks,
    ) -> Process {
        let stated = gathered.variables.resource_attributes.as_deref().map(resource_attributes);
        let stated = stated.unwrap_or_else(|| Ok(Vec::new())).unwrap_or_else(|error| {
            // Once loudly: short-lived processes with one faulty environment may come in thousands.
            if self.discarded_attributes.fetch_add(1, Ordering::Relaxed) == 0 {
                warn!(pid = pid.0, %error, "resource attributes of a traced process are unusable");
            } else {
                debug!(pid = pid.0, %error, "resource attributes of a traced process are unusable");
            }
            Vec::new()
        });
        let hostname = gathered.variables.hostname.as_deref();
        let container = Container::find(&self.fs, &self.host, &gathered.cgroups, hostname);
        let program = Program {
            executable: gathered.executable.as_deref(),
            arguments: &gathered.arguments,
            comm: &gathered.comm,
            directory: gathered.directory.as_deref(),
        };
        let context = gathered.context.as_ref();
        let (service, name_source) = Evidence {
            process_context: context.and_then(|context| context.text("service.name")),
            otel_service_name: gathered.variables.service_name.as_deref(),
            resource_attributes: &stated,
            container: container.as_ref(),
            unit: cgroup::systemd_service(&gathered.cgroups).as_deref(),
            program: program.name().as_ref(),
        }
        .service_name();
        let published = context.map(ProcessContext::attributes).unwrap_or_default().to_vec();
        let stated = stated.into_iter().map(|(key, value)| (key, Value::Text(value.into())));
        let stated = published.into_iter().chain(stated).collect();
        let facts = Facts {
            started: gathered.started,
            created: gathered.started.map(|started| clocks.unix_nanos(started)),
            executable: gathered.executable.as_deref(),
            executable_name: gathered
                .executable
                .as_deref()
                .and_then(|path| path.file_name()?.to_str()),
            command: gathered.arguments.first().map(String::as_str),
            owner: gathered.owner,
            runtime: program.runtime().or(gathered.runtime),
            container: container.as_ref(),
            stated,
            ..Facts::new(pid, service)
        };
        let resource = Arc::new(facts.resource(id, &self.host));
        let instrumented = context.is_some()
            || gathered.variables.sets_up_sdk
            || gathered.arguments.iter().any(|argument| is_sdk_agent(argument));
        Process { pid, since, executable: gathered.executable, name_source, instrumented, resource }
    }
}

/// Reads `/proc/PID`, if it is and stays the directory of the right process.
fn gather(directory: &ProcessDir, right: impl Fn(&Stat) -> bool) -> Option<Gathered> {
    let stat = directory.stat().filter(right)?;
    let environment = directory.environment().unwrap_or_default();
    let contents = directory.executable_start(CONTENTS_NEEDED).unwrap_or_default();
    let gathered = Gathered {
        started: Some(stat.started),
        comm: stat.comm,
        executable: directory.executable(),
        directory: directory.working_directory(),
        arguments: arguments(&directory.arguments().unwrap_or_default()),
        variables: ServiceVariables::parse(&environment),
        cgroups: directory.cgroups().unwrap_or_default(),
        owner: directory.owner(),
        runtime: Runtime::of_contents(&contents),
        context: ProcessContext::read(directory),
    };
    // The id may have passed to another process between two reads.
    (directory.stat()?.started == stat.started).then_some(gathered)
}

/// Whether an argument loads OpenTelemetry's agent into a Java program.
fn is_sdk_agent(argument: &str) -> bool {
    argument.starts_with("-javaagent:") && argument.contains("opentelemetry")
}

/// Splits a block of arguments. Rewritten titles are padded with NULs, which are no arguments.
fn arguments(block: &[u8]) -> Vec<String> {
    let end = block.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    if end == 0 {
        return Vec::new();
    }
    let argument = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    block[..end].split(|&byte| byte == 0).map(argument).collect()
}

#[cfg(test)]
mod tests;
