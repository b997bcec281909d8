//! Programs from language package registries, below Cargo's target directory.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use tracer_tests::layout;

use crate::shell::{run, step, succeeds};

/// An HTTP client for Node; the last line that runs on Node 18.
const UNDICI: &str = "undici@6.29.1";

/// A Python environment with the packages of a requirements file.
pub(crate) fn ensure_python(requirements: &str) -> Result<()> {
    let environment = layout::peers().join("venv");
    let python = environment.join("bin/python3");
    if !succeeds(Command::new(&python).args(["-m", "pip", "--version"])) {
        step(format!("Creating a Python environment in {}", environment.display()));
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    }
    // What was installed last, to skip the network when nothing changed.
    let stamp = environment.join(requirements.replace('/', "-"));
    let wanted = layout::workspace().join(requirements);
    let content = fs::read_to_string(&wanted).with_context(|| format!("no {requirements}"))?;
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == content) {
        return Ok(());
    }
    step(format!("Installing Python packages of {requirements} (pip)"));
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(wanted))?;
    fs::write(stamp, content)?;
    Ok(())
}

/// Packages for Node services.
pub(crate) fn ensure_node() -> Result<()> {
    let stamp = layout::peers().join("node/installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == UNDICI) {
        return Ok(());
    }
    step(format!("Installing {UNDICI} (npm)"));
    let prefix = layout::peers().join("node");
    fs::create_dir_all(&prefix)?;
    run(Command::new("npm")
        .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
        .arg(&prefix)
        .arg(UNDICI))?;
    fs::write(stamp, UNDICI)?;
    Ok(())
}
