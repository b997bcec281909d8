//! Brings outbound connections of traced processes to the agent, and says where they were meant to
//! go. Knows nothing of what they carry.
//!
//! The decision to redirect falls in the kernel, connection by connection; see
//! [`crate::capture::Redirect`]. This module says which are in scope ([`scope`]), opens a listener
//! in every network namespace that has a target ([`covered`]), tries it all before it relies on it
//! ([`rehearsal`]), and accepts ([`serving`]) on a thread of its own ([`thread`]).
//!
//! Whatever goes wrong, connections go straight: the agent has to say several times a second that
//! it accepts, its listeners must be there, and the programs in the kernel go when the agent goes.

mod attachment;
mod covered;
mod descriptors;
mod namespace;
mod rehearsal;
mod scope;
mod serving;
mod thread;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpSocket;

pub use attachment::{AttachmentError, attachment};
pub use rehearsal::{Rehearsal, RehearsalError};
pub use scope::{Network, PortRange, Scope, ScopeError};
pub use serving::ProxyReport;
pub use thread::{Proxy, StartError, Targets};

use super::{OpenSocket, forwarder};
use crate::capture::{Backend, RedirectError, redirect_alone};
use namespace::Namespace;

/// Opens sockets in the network namespace of the application.
#[derive(Clone, Debug)]
pub struct Upstream(Arc<Namespace>);

impl OpenSocket for Upstream {
    /// Never redirected. Enters the namespace for the moment that takes.
    fn open(&self, destination: SocketAddr) -> io::Result<TcpSocket> {
        let socket = self.0.stream_socket(destination)?;
        Ok(TcpSocket::from_std_stream(socket.into()))
    }
}

/// A place among the connections that the agent serves at once; dropping it makes room.
#[derive(Debug)]
pub struct Permit(Arc<AtomicUsize>);

impl Permit {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(open))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why connections cannot be redirected on this host.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Nothing to attach to.
    #[error(transparent)]
    Attachment(#[from] AttachmentError),
    /// Refused by the kernel.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    /// Attached, and yet not working.
    #[error(transparent)]
    Rehearsal(#[from] RehearsalError),
    /// The default scope is none: a build error.
    #[error(transparent)]
    Scope(#[from] ScopeError),
}

/// Attaches the redirect, tries it on a connection of this process, and detaches it. No other
/// process is a target meanwhile.
pub fn check(backend: Backend) -> Result<Rehearsal, CheckError> {
    let scope = Scope::default().resolve()?;
    let groups = attachment(&[], false)?;
    Ok(Rehearsal::perform(&mut redirect_alone(backend, &scope, &groups)?)?)
}

/// How connections are redirected.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which connections.
    pub scope: Scope,
    /// Time for open connections to end after the agent was told to.
    pub drain: Duration,
    /// Connections served at once; further ones go straight.
    pub max_connections: usize,
    /// What is done with the heads that they carry.
    pub heads: forwarder::Options,
}
