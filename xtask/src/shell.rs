//! Running programs, with errors that name the whole command.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tracer_tests::layout;

/// Announces a step.
pub(crate) fn step(what: impl AsRef<str>) {
    eprintln!("==> {}", what.as_ref());
}

/// Adds a remark to the step.
pub(crate) fn note(what: impl AsRef<str>) {
    eprintln!("    {}", what.as_ref());
}

/// Runs a command to its end, its output going where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed, {status}");
    Ok(())
}

/// Runs a command to its end and gives its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed, {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a command runs and succeeds, silently.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Where a program lies, looking also where servers are installed.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|directory| directory.join(program)).find(|file| {
        file.metadata()
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    })
}

/// `cargo`, in the workspace, able to find what `cargo install` installs.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    cargo.current_dir(layout::workspace()).env("PATH", search_path());
    cargo
}

/// `PATH` with Cargo's own directory for installed programs.
pub(crate) fn search_path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let Some(bin) = home.map(|home| home.join("bin")) else { return path };
    let mut directories: Vec<PathBuf> = env::split_paths(&path).collect();
    if !directories.contains(&bin) {
        directories.push(bin);
    }
    env::join_paths(directories).unwrap_or(path)
}

/// Builds the agent for use: one file with the eBPF object inside. Does nothing when `TRACER_BIN`
/// names one that was built before.
pub(crate) fn build_agent() -> Result<()> {
    if let Some(agent) = env::var_os("TRACER_BIN") {
        note(format!("using the agent {}", agent.display()));
        return Ok(());
    }
    step("Building the agent (release)");
    run(cargo().args(["build", "--release", "--package", "tracer"]))
}

/// A program with arguments, in one expression.
pub(crate) fn command<I, S>(program: &str, arguments: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    command.args(arguments);
    command
}
