//! Tries the redirect on a connection of the agent's own before anybody relies on it: that it
//! works from end to end, and that it lets connections go when the agent does not accept.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tracer_ebpf::redirect::AGENT_PRIORITY;

use super::namespace::{Home, Namespace};
use crate::capture::{LoadError, Netns, Redirect};

/// Longest wait for a connection within the host.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same within another namespace, for which all others wait.
const SHORT_PATIENCE: Duration = Duration::from_millis(200);
const POLL: Duration = Duration::from_millis(1);
/// More than come during a trial.
const QUEUE: i32 = 16;

/// Why the redirect cannot be relied on.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// A socket could not be had.
    #[error("cannot make a socket to try the redirect: {0}")]
    Socket(#[source] io::Error),
    /// A map.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The program did not run or decided otherwise.
    #[error(
        "connections are not redirected though the programs are attached ({0}); are the agent's \
         sockets in another cgroup hierarchy?"
    )]
    NotRedirected(io::Error),
    /// It came without its destination.
    #[error(
        "a redirected connection arrived without its destination; are the agent's sockets in \
         another cgroup hierarchy?"
    )]
    NoDestination,
    /// It did not come.
    #[error(
        "a redirected connection did not arrive in time: something drops packets on the \
         loopback interface; look at the firewall's rules for `lo`"
    )]
    Lost,
    /// The application would see the agent.
    #[error("`getpeername` answers {0} on a redirected connection instead of {1}")]
    Peer(SocketAddr, SocketAddr),
    /// The promise to let connections go straight would be broken.
    #[error("connections are redirected even though the agent does not accept them")]
    NotStraight,
    /// The agent would redirect itself.
    #[error(
        "the agent's own connections are redirected, which would never end; run it in the host's \
         process id namespace"
    )]
    Own,
}

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rehearsal {
    /// IPv6 was tried, too: the host may be without.
    pub v6: bool,
}

impl Rehearsal {
    /// Tries it in the agent's own network namespace. Leaves the redirect as it was: paused, and
    /// without a listener.
    pub fn perform(redirect: &mut Redirect) -> Result<Self, RehearsalError> {
        let home = Home::find().map_err(RehearsalError::Socket)?;
        let namespace = home.namespace();
        let v4 = namespace.listen_v4(QUEUE).map_err(RehearsalError::Socket)?;
        let v6 = namespace.listen_v6(QUEUE).ok();
        let result = rehearse(redirect, home.id(), &v4, v6.as_ref());
        redirect.pause();
        redirect.close_namespace(home.id());
        redirect.end_rehearsal();
        if result.is_err() {
            tracing::debug!(outcomes = ?redirect.counters(), "the rehearsal failed");
        }
        result.map(|()| Self { v6: v6.is_some() })
    }
}

fn rehearse(
    redirect: &mut Redirect,
    namespace: Netns,
    v4: &Socket,
    v6: Option<&Socket>,
) -> Result<(), RehearsalError> {
    for listener in [Some(v4), v6].into_iter().flatten() {
        redirect.mark_listener(listener)?;
    }
    redirect.rehearse(None);
    let ports = (port(v4)?, v6.map(port).transpose()?);
    redirect.open_namespace(namespace, Some(ports.0), ports.1)?;
    try_family(redirect, v4, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    if let Some(v6) = v6 {
        try_family(redirect, v6, SocketAddr::from((Ipv6Addr::LOCALHOST, 0)))?;
    }
    Ok(())
}

fn try_family(
    redirect: &mut Redirect,
    listener: &Socket,
    any_port: SocketAddr,
) -> Result<(), RehearsalError> {
    // Bound and not listening: nobody else answers there.
    let reserved = socket(any_port)?;
    reserved.bind(&any_port.into()).map_err(RehearsalError::Socket)?;
    let destination = SocketAddr::new(any_port.ip(), port(&reserved)?);

    redirect.rehearse(Some(destination.port()));
    redirect.beat();
    let client = connect(destination).map_err(RehearsalError::NotRedirected)?;
    let accepted = accept(listener, PATIENCE)?;
    let handed = redirect.destination(&accepted).ok_or(RehearsalError::NoDestination)?;
    let peer = client.peer_addr().map_err(RehearsalError::Socket)?;
    let peer = peer.as_socket().unwrap_or(any_port);
    if handed.destination != destination {
        return Err(RehearsalError::NoDestination);
    }
    if peer != destination {
        return Err(RehearsalError::Peer(peer, destination));
    }

    redirect.pause();
    if connect(destination).is_ok() {
        return Err(RehearsalError::NotStraight);
    }
    redirect.rehearse(None);
    redirect.beat();
    if connect(destination).is_ok() {
        return Err(RehearsalError::Own);
    }
    Ok(())
}

/// Whether connections to a listener arrive, within its namespace.
pub(super) fn arrive(namespace: &Namespace, listener: &Socket) -> Result<(), RehearsalError> {
    let address = listener.local_addr().map_err(RehearsalError::Socket)?;
    let target = address.as_socket().ok_or(RehearsalError::Lost)?;
    let client = namespace.stream_socket(target).map_err(RehearsalError::Socket)?;
    // Not blocking: loopback handshakes are over when the call returns, or soon after.
    let _ = client.connect(&address);
    accept(listener, SHORT_PATIENCE).map(drop)
}

fn socket(address: SocketAddr) -> Result<Socket, RehearsalError> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP));
    let socket = socket.map_err(RehearsalError::Socket)?;
    // So that another agent does not take it.
    socket.set_priority(AGENT_PRIORITY).map_err(RehearsalError::Socket)?;
    Ok(socket)
}

fn connect(destination: SocketAddr) -> io::Result<Socket> {
    let socket = socket(destination).map_err(io::Error::other)?;
    socket.connect_timeout(&destination.into(), PATIENCE)?;
    Ok(socket)
}

fn accept(listener: &Socket, patience: Duration) -> Result<Socket, RehearsalError> {
    let deadline = Instant::now() + patience;
    loop {
        match listener.accept() {
            Ok((accepted, _)) => return Ok(accepted),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(RehearsalError::Socket(error)),
        }
        if Instant::now() >= deadline {
            return Err(RehearsalError::Lost);
        }
        thread::sleep(POLL);
    }
}

fn port(socket: &Socket) -> Result<u16, RehearsalError> {
    let address = socket.local_addr().map_err(RehearsalError::Socket)?;
    Ok(address.as_socket().map_or(0, |address| address.port()))
}
