//! Commands of the agent that trace nothing, and configuration files for it.

use std::fs;
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::layout;

/// Nothing of the surrounding environment may configure the agent that is started.
pub(crate) fn unconfigured(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("OTEL_") || text.starts_with("TRACER_") {
            command.env_remove(name);
        }
    }
}

/// Runs the agent with these variables and no others that could configure it.
pub fn tracer(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
    let mut command = Command::new(layout::agent()?);
    unconfigured(&mut command);
    Ok(command.args(arguments).envs(variables.iter().copied()).output()?)
}

/// What `tracer config show` says.
pub struct Shown(Json);

impl Shown {
    /// Of these arguments and variables.
    pub fn of(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        let arguments = [&["config", "show", "--json"], arguments].concat();
        let output = tracer(&arguments, variables)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(Self(serde_json::from_slice(&output.stdout)?))
    }

    /// The value of a setting.
    pub fn value(&self, name: &str) -> &str {
        self.0["settings"][name]["value"].as_str().unwrap_or("(absent)")
    }

    /// Where it comes from.
    pub fn source(&self, name: &str) -> &str {
        self.0["settings"][name]["source"].as_str().unwrap_or("(absent)")
    }

    /// What the operator is told of.
    pub fn warnings(&self) -> Vec<&str> {
        self.0["warnings"].as_array().into_iter().flatten().filter_map(Json::as_str).collect()
    }
}

/// A file for `--config`.
pub struct ConfigFile {
    directory: TempDir,
    path: String,
}

impl ConfigFile {
    /// One with this text.
    pub fn new(text: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("tracer.yaml");
        fs::write(&path, text)?;
        let path = path.to_string_lossy().into_owned();
        Ok(Self { directory, path })
    }

    /// Where it is.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Replaces its text.
    pub fn write(&self, text: &str) -> Result<()> {
        ensure!(self.directory.path().is_dir());
        Ok(fs::write(&self.path, text)?)
    }
}
