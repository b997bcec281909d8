//! Servers that are compiled first: Go to a binary of its own, Java in memory by its launcher.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Service;
use crate::layout;

/// What `javac` compiles for, so that any runtime from there on can run it.
const OLDEST_JAVA: &str = "17";

/// Compiles a single-file Go program and starts it; it listens at the port in `PORT`.
pub fn go(source: &Path, environment: &[(&str, &str)]) -> Result<Service> {
    program(&go_program(source)?, environment)
}

/// Compiles a single-file Go program, once until its source changes, and gives the binary.
pub fn go_program(source: &Path) -> Result<PathBuf> {
    let name = source.file_stem().context("the source has no name")?;
    let directory = layout::peers().join("go");
    fs::create_dir_all(&directory)?;
    let binary = directory.join(name);
    if is_current(&binary, source) {
        return Ok(binary);
    }
    let mut go = Command::new(layout::go()?);
    go.args(["build", "-o"])
        .arg(&binary)
        .arg(source)
        // Standard library only: nothing may be fetched, no other toolchain either.
        .envs([("GOPROXY", "off"), ("GOTOOLCHAIN", "local"), ("CGO_ENABLED", "0")])
        .envs([("GOFLAGS", ""), ("GO111MODULE", "off")])
        .env("GOCACHE", directory.join("cache"))
        .env("GOPATH", directory.join("path"));
    compile(&mut go)?;
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

/// A single-file Java program with an environment and a choice of runtime.
pub struct Java<'a> {
    /// The source, named after its public class.
    pub source: &'a Path,
    /// The `java` command; it may lack a compiler.
    pub runtime: &'a Path,
    /// Options of the runtime.
    pub options: &'a [&'a str],
    /// Arguments that follow the port.
    pub arguments: &'a [&'a str],
    /// Environment variables.
    pub environment: &'a [(&'a str, &'a str)],
}

impl Java<'_> {
    /// Compiles it and starts it; it listens at the port given as its first argument.
    pub fn start(&self) -> Result<Service> {
        let classes = java_classes(self.source)?;
        let class = self.source.file_stem().context("the source has no name")?;
        Service::start("java", |port, _| {
            let mut command = Command::new(self.runtime);
            command.args(["-Xmx512m", "-XX:TieredStopAtLevel=1"]).args(self.options);
            command.arg("-cp").arg(classes).arg(class).arg(port.to_string()).args(self.arguments);
            command.env_remove("JAVA_TOOL_OPTIONS").envs(self.environment.iter().copied());
            Ok(command)
        })
    }
}

/// Compiles a single-file Java program, once until its source changes, and gives the directory of
/// its classes.
pub fn java_classes(source: &Path) -> Result<PathBuf> {
    let name = source.file_stem().context("the source has no name")?;
    let directory = layout::peers().join("java").join(name);
    if is_current(&directory.join(name).with_extension("class"), source) {
        return Ok(directory);
    }
    fs::create_dir_all(&directory)?;
    let mut javac = Command::new("javac");
    javac.args(["--release", OLDEST_JAVA, "-d"]).arg(&directory).arg(source);
    compile(&mut javac)?;
    Ok(directory)
}

/// Whether a file was made after its source was changed last.
fn is_current(made: &Path, source: &Path) -> bool {
    let modified = |file: &Path| fs::metadata(file).and_then(|metadata| metadata.modified());
    modified(made).is_ok_and(|made| modified(source).is_ok_and(|source| source <= made))
}

fn compile(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed:\n{errors}");
    Ok(())
}

/// Runs a program that was built before; it listens at the port in `PORT`.
pub fn program(binary: &Path, environment: &[(&str, &str)]) -> Result<Service> {
    let name = binary.file_name().context("the program has no name")?.to_string_lossy();
    Service::start(&name, |port, _| {
        let mut command = Command::new(binary);
        command.env("PORT", port.to_string()).envs(environment.iter().copied());
        Ok(command)
    })
}
