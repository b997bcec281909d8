//! Root, and how to become it: only for what needs it, by `sudo`, saying why.

use std::env;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context, Result, bail};
use tracer_tests::layout;

use crate::shell;

/// Variables that survive `sudo`, beside `PATH`.
const KEPT: [&str; 6] =
    ["HOME", "RUST_BACKTRACE", "TERM", "TRACER_BIN", "NO_COLOR", "TRACER_DEBIAN_MIRROR"];

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command that will run as root; `why` is told when it cannot.
pub(crate) fn as_root(why: &str, program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root() {
        let mut command = Command::new(program);
        command.env("PATH", shell::search_path());
        return Ok(command);
    }
    if shell::find("sudo").is_none() {
        bail!("{why} needs root, and there is no sudo here: run this command as root");
    }
    let mut command = Command::new("sudo");
    // `sudo` resets the environment; `env` sets again what matters.
    command.args(["--", "env"]);
    command.arg(assignment("PATH", &shell::search_path()));
    command.arg(assignment("CARGO_TARGET_DIR", layout::target().as_os_str()));
    for name in KEPT {
        if let Some(value) = env::var_os(name) {
            command.arg(assignment(name, &value));
        }
    }
    command.arg(program);
    Ok(command)
}

fn assignment(name: &str, value: &OsStr) -> std::ffi::OsString {
    let mut assignment = std::ffi::OsString::from(name);
    assignment.push("=");
    assignment.push(value);
    assignment
}

/// Becomes `command`, as root.
pub(crate) fn replace_self(command: &[String]) -> Result<()> {
    let (program, arguments) = command.split_first().context("no command")?;
    let error = as_root("running end-to-end tests", program)?.args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {program} as root"))
}

/// Runs this same task again as root, with further arguments; gives `false` without doing so when
/// it is root already. `reason` is printed before a password may be asked for.
pub(crate) fn rerun_as_root(reason: &str, further: &[&str]) -> Result<bool> {
    if is_root() {
        return Ok(false);
    }
    shell::step(format!("Continuing as root: {reason}"));
    let mut command = as_root(reason, env::current_exe()?)?;
    shell::run(command.args(env::args_os().skip(1)).args(further))?;
    Ok(true)
}
