//! Servers that are compiled first: Go to a binary of its own, Java in memory by its launcher.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Service;
use crate::layout;

/// Compiles a single-file Go program and starts it; it listens at the port in `PORT`.
pub fn go(source: &Path, environment: &[(&str, &str)]) -> Result<Service> {
    let program = go_program(source)?;
    Service::start("go service", |port, _| {
        let mut command = Command::new(program);
        command.env("PORT", port.to_string()).envs(environment.iter().copied());
        Ok(command)
    })
}

/// Compiles a single-file Go program, once until its source changes, and gives the binary.
pub fn go_program(source: &Path) -> Result<PathBuf> {
    let name = source.file_stem().context("the source has no name")?;
    let directory = layout::peers().join("go");
    fs::create_dir_all(&directory)?;
    let binary = directory.join(name);
    let built = fs::metadata(&binary).and_then(|metadata| metadata.modified()).ok();
    if built.is_some_and(|built| {
        fs::metadata(source).and_then(|metadata| metadata.modified()).is_ok_and(|it| it <= built)
    }) {
        return Ok(binary);
    }
    let output = Command::new(layout::go()?)
        .args(["build", "-o"])
        .arg(&binary)
        .arg(source)
        // Standard library only: nothing may be fetched, no other toolchain either.
        .envs([("GOPROXY", "off"), ("GOTOOLCHAIN", "local"), ("CGO_ENABLED", "0")])
        .envs([("GOFLAGS", ""), ("GO111MODULE", "off")])
        .env("GOCACHE", directory.join("cache"))
        .env("GOPATH", directory.join("path"))
        .output()
        .context("cannot run `go build`")?;
    ensure!(
        output.status.success(),
        "`go build {}` failed:\n{}",
        source.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(binary)
}

/// Runs a single-file Java program, which listens at the port given as its argument.
pub fn java(source: &Path) -> Result<Service> {
    Service::start("java", |port, _| {
        let mut command = Command::new("java");
        command.args(["-Xmx128m", "-XX:TieredStopAtLevel=1"]).arg(source).arg(port.to_string());
        command.env_remove("JAVA_TOOL_OPTIONS");
        Ok(command)
    })
}
