//! Node's own HTTP server.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::Service;
use crate::layout;

/// Runs a script that listens at the port in `PORT`, with the installed packages in reach.
pub fn node(script: &Path) -> Result<Service> {
    node_with(script, &[])
}

/// [`node`] with environment variables of its own.
pub fn node_with(script: &Path, environment: &[(&str, &str)]) -> Result<Service> {
    Service::start("node", |port, _| {
        let mut command = Command::new("node");
        command
            .arg(script)
            .env("PORT", port.to_string())
            .env("NODE_PATH", layout::node_modules())
            .env_remove("NODE_OPTIONS")
            .envs(environment.iter().copied());
        Ok(command)
    })
}
