//! Ruby's Puma.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::Service;

/// Puma with a Rack application (a `.ru` file), one process of so many threads.
pub fn puma(application: &Path, threads: u32, environment: &[(&str, &str)]) -> Result<Service> {
    Service::start("puma", |port, directory| {
        let mut command = Command::new("puma");
        command
            .args(["--config", "-", "--environment", "production", "--workers", "0"])
            .args(["--threads", &format!("{threads}:{threads}")])
            .args(["--bind", &format!("tcp://127.0.0.1:{port}")])
            .arg(application)
            .current_dir(directory)
            .envs(environment.iter().copied());
        Ok(command)
    })
}
