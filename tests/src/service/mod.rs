//! Real servers, each started as anybody would start it, on a free loopback port.

mod apache;
mod compiled;
mod envoy;
mod haproxy;
mod nginx;
mod node;
mod php;
mod python;
mod ruby;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::Result;
use tempfile::TempDir;

use crate::http::{self, Response};
use crate::port;
use crate::process::Process;

pub use apache::{Mpm, apache_php, apache_proxy};
pub use compiled::{Java, go, go_program, java, java_classes, program};
pub use envoy::envoy;
pub use haproxy::{haproxy, haproxy_tcp};
pub use nginx::Nginx;
pub use node::{node, node_with};
pub use php::{FastCgi, PhpFpm, Reuse};
pub use python::{Gunicorn, python, python_inside, uvicorn, uvicorn_with};
pub use ruby::puma;

/// A running server; dropping it stops it and removes its files.
pub struct Service {
    process: Process,
    address: SocketAddr,
    directory: Arc<TempDir>,
}

impl Service {
    /// Starts any other server: `command` gets the port that was chosen for it.
    pub fn start(name: &str, command: impl FnOnce(u16, &Path) -> Result<Command>) -> Result<Self> {
        let directory = Arc::new(tempfile::Builder::new().prefix("tracer-service-").tempdir()?);
        let port = port::free()?;
        let command = command(port, directory.path())?;
        Self::start_at(name, &command, port::loopback(port), directory)
    }

    /// Starts a server that will listen at `address`.
    pub fn start_at(
        name: &str,
        command: &Command,
        address: SocketAddr,
        directory: Arc<TempDir>,
    ) -> Result<Self> {
        let mut process = Process::start(name, command, &directory.path().join("log"))?;
        process.wait_until(&format!("{name} to listen at {address}"), |_| {
            Ok(port::is_open(address).then_some(()))
        })?;
        Ok(Self { process, address, directory })
    }

    /// Process id of the server, or of its supervisor when it has workers.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Port it listens at.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// URL of a path on it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Its own directory: configuration, log, sockets.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// `GET path`, from this process.
    pub fn get(&self, path: &str) -> Result<Response> {
        http::get(self.address, path, &[])
    }

    /// Ends it now, with the given signal, and waits until it is gone.
    pub fn kill(mut self, signal: rustix::process::Signal) -> Result<()> {
        self.process.signal(signal)?;
        self.process.wait(crate::wait::PATIENCE)?;
        Ok(())
    }
}
