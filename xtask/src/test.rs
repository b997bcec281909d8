//! `cargo xtask test`: all tests, end-to-end ones as root.

use anyhow::{Context, Result};
use std::process::Command;

use crate::privilege;
use crate::setup::{self, Part};
use crate::shell::{build_agent, cargo, note, output, run, step};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Passed to the test programs: a filter, `--nocapture`, …
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    test_arguments: Vec<String>,
}

pub(crate) fn run_all(arguments: &Arguments) -> Result<()> {
    setup::ensure(&[Part::Build, Part::Test])?;
    // End-to-end tests run the agent as users do: the release build.
    build_agent()?;

    step("Unit and integration tests");
    run(cargo()
        .args(["test", "--workspace", "--exclude", "tracer-tests", "--no-fail-fast", "--"])
        .args(&arguments.test_arguments))?;

    step("End-to-end tests");
    let mut end_to_end = cargo();
    // One at a time: they share the machine's probes, and timing-sensitive peers share two cores.
    end_to_end.args([
        "test",
        "--package",
        "tracer-tests",
        "--no-fail-fast",
        "--",
        "--test-threads=1",
    ]);
    end_to_end.args(&arguments.test_arguments);
    if !privilege::is_root() {
        note("needs root to load eBPF programs and to make network namespaces: using sudo");
        let (variable, runner) = root_runner()?;
        end_to_end.env(variable, runner);
    }
    run(&mut end_to_end)
}

/// Makes Cargo, which itself stays unprivileged, run test programs as root.
fn root_runner() -> Result<(String, String)> {
    // Asks for the password now and fails early where there is none to give.
    run(&mut privilege::as_root("running end-to-end tests", "true")?)?;
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not tell its host")?.to_uppercase().replace('-', "_");
    let this = std::env::current_exe()?;
    Ok((format!("CARGO_TARGET_{host}_RUNNER"), format!("{} as-root", this.display())))
}
