//! `HAProxy` with a configuration of the test's own.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::Result;

use super::Service;

/// Passes everything to an upstream; runs so many threads, which share connections to it.
pub fn haproxy(upstream: SocketAddr, threads: u32) -> Result<Service> {
    start(upstream, threads, "mode http\n    http-reuse safe")
}

/// Passes bytes to an upstream without reading them, and without copying them where it can.
pub fn haproxy_tcp(upstream: SocketAddr) -> Result<Service> {
    start(upstream, 1, "mode tcp\n    option splice-auto")
}

fn start(upstream: SocketAddr, threads: u32, mode: &str) -> Result<Service> {
    Service::start("haproxy", |port, directory| {
        let configuration = directory.join("haproxy.cfg");
        fs::write(
            &configuration,
            format!(
                "global
    nbthread {threads}
defaults
    {mode}
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    server only {upstream}
"
            ),
        )?;
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(configuration);
        Ok(command)
    })
}
