//! Python servers: gunicorn and uvicorn, with the applications under `tests/services`.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::Result;

use super::Service;
use crate::layout;
use crate::namespace::Namespace;
use crate::port;
use crate::process::Process;

/// A gunicorn to be started; by default one sync worker, the Flask application
/// `tests/services/flask_app.py`, on TCP.
#[derive(Clone)]
pub struct Gunicorn {
    source: PathBuf,
    workers: u32,
    threads: u32,
    wrapper: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Default for Gunicorn {
    fn default() -> Self {
        Self {
            source: layout::service_source("flask_app.py"),
            workers: 1,
            threads: 1,
            wrapper: Vec::new(),
            environment: Vec::new(),
        }
    }
}

impl Gunicorn {
    /// Another application: a Python file whose WSGI callable is named `app`.
    #[must_use]
    pub fn source(mut self, source: &Path) -> Self {
        source.clone_into(&mut self.source);
        self
    }

    /// Worker processes.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// Threads a worker; more than one selects gunicorn's threaded worker, which keeps
    /// connections alive.
    #[must_use]
    pub fn threads(mut self, threads: u32) -> Self {
        self.threads = threads;
        self
    }

    /// Starts gunicorn through another program of the environment, such as
    /// `opentelemetry-instrument`.
    #[must_use]
    pub fn wrapped_by(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it on a free TCP port.
    pub fn start(self) -> Result<Service> {
        Service::start("gunicorn", |port, _| self.command(&format!("127.0.0.1:{port}")))
    }

    /// Starts it on a Unix socket, and gives the process with the path of the socket.
    pub fn start_on_unix_socket(self, directory: &Path) -> Result<(Process, PathBuf)> {
        let socket = directory.join("gunicorn.sock");
        let command = self.command(&format!("unix:{}", socket.display()))?;
        let mut process = Process::start("gunicorn", &command, &directory.join("gunicorn.log"))?;
        process.wait_until("gunicorn's socket", |process| {
            // The socket file stands before workers accept; their boot message comes after.
            let booted = process.log().contains("Booting worker");
            Ok((booted && fs::exists(&socket)?).then_some(()))
        })?;
        Ok((process, socket))
    }

    fn command(&self, bind: &str) -> Result<Command> {
        let gunicorn = layout::python_program("gunicorn")?;
        let mut command = match self.wrapper.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(layout::python_program(program)?);
                command.args(arguments).arg(gunicorn);
                command
            }
            None => Command::new(gunicorn),
        };
        command
            .args(["--bind", bind, "--workers", &self.workers.to_string()])
            .args(["--threads", &self.threads.to_string(), "--no-control-socket"])
            .arg("--chdir")
            .arg(self.source.parent().unwrap_or(Path::new(".")))
            .arg(format!("{}:app", module(&self.source)))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }
}

/// uvicorn with the ASGI application `tests/services/asgi_app.py`.
pub fn uvicorn() -> Result<Service> {
    uvicorn_with(&layout::service_source("asgi_app.py"), &[], &[])
}

/// uvicorn with another application: a Python file whose ASGI callable is named `app`.
pub fn uvicorn_with(
    source: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Result<Service> {
    Service::start("uvicorn", |port, _| {
        let mut command = Command::new(layout::python_program("uvicorn")?);
        command
            .args(["--host", "127.0.0.1", "--port", &port.to_string(), "--no-access-log"])
            .args(arguments)
            .arg("--app-dir")
            .arg(source.parent().unwrap_or(Path::new(".")))
            .arg(format!("{}:app", module(source)))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(environment.iter().copied());
        Ok(command)
    })
}

/// A Python program that listens at the port in `PORT`.
pub fn python(source: &Path, environment: &[(&str, &str)]) -> Result<Service> {
    Service::start(&module(source), |port, _| {
        let mut command = Command::new(layout::python_program("python3")?);
        command.arg(source).env("PORT", port.to_string()).env("PYTHONDONTWRITEBYTECODE", "1");
        command.envs(environment.iter().copied());
        Ok(command)
    })
}

/// A script that listens at `$HOST:$PORT`, inside a network namespace that can be reached there.
pub fn python_inside(source: &Path, namespace: &Namespace, host: IpAddr) -> Result<Service> {
    let directory = Arc::new(tempfile::Builder::new().prefix("tracer-service-").tempdir()?);
    let address = SocketAddr::new(host, port::free()?);
    let mut command = namespace.command(layout::python_program("python3")?);
    command.arg(source).env("HOST", host.to_string()).env("PORT", address.port().to_string());
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    Service::start_at(&module(source), &command, address, directory)
}

/// Name by which Python imports a file.
fn module(source: &Path) -> String {
    source.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
