//! The plainest traffic there is: curl asks an nginx for a file.

use anyhow::Result;

use crate::agent::{AgentOptions, Backend};
use crate::launcher::Launcher;
use crate::service::{Nginx, Service};

/// A server, and where its clients come from.
pub struct Traffic {
    /// Has one file, `/hello`.
    pub nginx: Service,
    /// Starts the clients.
    pub launcher: Launcher,
}

impl Traffic {
    /// Starts the server; nobody asks yet.
    pub fn start() -> Result<Self> {
        let nginx = Nginx::new("")?.file("hello", b"hello\n")?.start()?;
        Ok(Self { nginx, launcher: Launcher::start()? })
    }

    /// An agent that traces both ends: two spans of each request.
    pub fn both_ends(&self, backend: Backend) -> AgentOptions {
        AgentOptions::new(backend).pid(self.nginx.pid()).pid(self.launcher.pid())
    }

    /// An agent that traces the clients alone: one span of each request.
    pub fn clients(&self) -> AgentOptions {
        AgentOptions::new(Backend::Auto).pid(self.launcher.pid())
    }

    /// Asks for these paths, each by a curl of its own.
    pub fn ask(&mut self, paths: &[&str]) -> Result<()> {
        paths.iter().try_for_each(|path| self.launcher.curl([self.nginx.url(path)]).map(drop))
    }

    /// Asks so many times for the file.
    pub fn hello(&mut self, requests: usize) -> Result<()> {
        (0..requests).try_for_each(|_| self.ask(&["/hello"]))
    }
}
