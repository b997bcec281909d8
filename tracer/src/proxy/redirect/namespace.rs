//! Network namespaces: sockets made inside them from outside.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};
use tracer_ebpf::redirect::AGENT_PRIORITY;

use crate::capture::Netns;
use crate::event::Pid;
use crate::proxy::LOCAL_BUFFER;

/// A network namespace, kept alive by this value.
#[derive(Debug)]
pub(super) struct Namespace {
    id: Netns,
    /// `None` for the agent's own.
    inside: Option<Inside>,
}

#[derive(Debug)]
struct Inside {
    there: File,
    /// The agent's own, to come back to.
    home: Arc<File>,
}

/// The agent's own namespace, from which others are entered.
#[derive(Debug)]
pub(super) struct Home {
    file: Arc<File>,
    id: Netns,
}

impl Home {
    pub(super) fn find() -> io::Result<Self> {
        let file = File::open("/proc/thread-self/ns/net")?;
        let id = id_of(&file)?;
        Ok(Self { file: Arc::new(file), id })
    }

    pub(super) fn id(&self) -> Netns {
        self.id
    }

    /// The agent's own namespace.
    pub(super) fn namespace(&self) -> Namespace {
        Namespace { id: self.id, inside: None }
    }

    /// That of a process.
    pub(super) fn namespace_of(&self, pid: Pid) -> io::Result<Namespace> {
        let there = File::open(format!("/proc/{}/ns/net", pid.0))?;
        let id = id_of(&there)?;
        if id == self.id {
            return Ok(self.namespace());
        }
        Ok(Namespace { id, inside: Some(Inside { there, home: Arc::clone(&self.file) }) })
    }
}

/// The namespace that a process is in, by its identity alone.
pub(super) fn netns_of(pid: Pid) -> io::Result<Netns> {
    let metadata = std::fs::metadata(format!("/proc/{}/ns/net", pid.0))?;
    Ok(Netns(metadata.ino() as u32))
}

fn id_of(file: &File) -> io::Result<Netns> {
    Ok(Netns(file.metadata()?.ino() as u32))
}

impl Namespace {
    pub(super) fn id(&self) -> Netns {
        self.id
    }

    /// A stream socket for connections to `destination`.
    pub(super) fn stream_socket(&self, destination: SocketAddr) -> io::Result<Socket> {
        let socket = self.socket(Domain::for_address(destination))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// A listener on the IPv4 loopback address, at a port that the kernel chooses, at which so
    /// many connections may wait.
    pub(super) fn listen_v4(&self, queue: i32) -> io::Result<Socket> {
        self.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), queue)
    }

    /// The same for IPv6.
    pub(super) fn listen_v6(&self, queue: i32) -> io::Result<Socket> {
        self.listen(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), queue)
    }

    fn listen(&self, address: SocketAddr, queue: i32) -> io::Result<Socket> {
        let socket = self.socket(Domain::for_address(address))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Inherited by what is accepted.
        socket.set_recv_buffer_size(LOCAL_BUFFER)?;
        socket.set_send_buffer_size(LOCAL_BUFFER)?;
        socket.bind(&address.into())?;
        socket.listen(queue)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// A socket belongs for its life to the namespace it was made in.
    fn socket(&self, domain: Domain) -> io::Result<Socket> {
        let make = || Socket::new(domain, Type::STREAM, Some(Protocol::TCP));
        let socket = match &self.inside {
            None => make()?,
            Some(inside) => {
                let _visit = Visit::begin(inside)?;
                make()?
            }
        };
        socket.set_priority(AGENT_PRIORITY)?;
        Ok(socket)
    }
}

/// The time for which this thread is in another namespace.
struct Visit<'a>(&'a Inside);

impl<'a> Visit<'a> {
    fn begin(inside: &'a Inside) -> io::Result<Self> {
        move_into_link_name_space(inside.there.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(Self(inside))
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let home = self.0.home.as_fd();
        if let Err(error) = move_into_link_name_space(home, Some(LinkNameSpaceType::Network)) {
            // Everything that this thread does from here on would happen to somebody else's
            // network. Without the agent, connections go straight.
            eprintln!("tracer: cannot return to the own network namespace: {error}");
            std::process::abort();
        }
    }
}
