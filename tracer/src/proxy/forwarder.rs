//! Connections from the application to where it meant to go: connecting, passing on, closing.
//!
//! What the application sees is what it would have seen, with these differences, all of which come
//! from its connection to the agent being made before the one to its destination:
//! - `connect` succeeds; that the destination refuses or cannot be reached shows as a reset at the
//!   first read or write. Time limits on connecting run on the first read instead.
//! - The destination sees another source port.
//! - Keep-alive, time limits and buffer sizes that the application sets end at the agent. The
//!   agent's own connections have keep-alive with the system's intervals, and no Nagle delay.
//! - Urgent data is not passed on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv, sockopt};
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::contexts::{Captured, Contexts, NewRoots};
use super::counts::{Counts, Event};
use super::heads::B3;
use super::inspect::Talk;
use super::relay;
use crate::sampling::Sampler;
use crate::trace::context::IdSource;

/// Bytes that the kernel buffers each way for connections within this host, of which it takes twice
/// as many for its own account. There is no distance to be bridged on them, and what it would grow
/// to by itself, megabytes, would be out of the processor's caches by the time it is read: streams
/// are faster by a quarter to a half with less. Connections to other hosts are left to the kernel.
pub(crate) const LOCAL_BUFFER: usize = 128 * 1024;
/// How often a busy connection is looked at while the agent waits to end.
const IDLE_POLL: Duration = Duration::from_millis(50);
/// How long a connection waits for a descriptor, where none is left after all.
const SHORTAGE: Duration = Duration::from_secs(5);
/// How often it tries.
const SHORTAGE_POLL: Duration = Duration::from_millis(50);

/// A connection of a traced process that was redirected here.
pub struct Accepted {
    /// The application's connection.
    pub stream: TcpStream,
    /// The application's end of it, as the application knows it.
    pub application: SocketAddr,
    /// Where the application meant to connect to.
    pub destination: SocketAddr,
    /// The connection as the capture names it in its events, if it does.
    pub connection: Option<Captured>,
    /// Makes the socket for the connection to there.
    pub sockets: Arc<dyn OpenSocket>,
    /// Turns `true` when the agent is about to end: connections on which nothing is under way end
    /// then. A sender that is gone means never.
    pub draining: watch::Receiver<bool>,
}

/// Opens sockets where the application would have: in its network namespace, and out of reach of
/// the redirection.
pub trait OpenSocket: Send + Sync {
    /// A TCP socket, not connected, for a connection to `destination`. Must not block for long.
    fn open(&self, destination: SocketAddr) -> io::Result<TcpSocket>;
}

/// Sockets in the agent's own network namespace, with nothing done to them.
#[derive(Clone, Copy, Debug)]
pub struct SameNamespace;

impl OpenSocket for SameNamespace {
    fn open(&self, destination: SocketAddr) -> io::Result<TcpSocket> {
        match destination {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }
    }
}

/// How heads are treated.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a complete head waits for its context.
    pub deadline: Duration,
    /// B3 fields that are written beside `traceparent` even where none stood before.
    pub b3: B3,
    /// Decides on traces that begin because no context came in time.
    pub roots: Sampler,
}

impl Default for Options {
    fn default() -> Self {
        let (deadline, b3, roots) = (Duration::from_millis(2), B3::default(), Sampler::default());
        Self { deadline, b3, roots }
    }
}

/// Serves connections. Cheap to clone.
///
/// Its futures may run on any runtime. Several threads with a runtime of one thread each, and a
/// listener each, serve best: a connection then never changes threads, so that nothing between its
/// two sockets has to be woken across processors, and a thread's read buffer, of which it has one
/// for all its connections, stays in its cache.
#[derive(Clone)]
pub struct Forwarder(Arc<Inner>);

pub(super) struct Inner {
    pub(super) contexts: Arc<dyn Contexts>,
    pub(super) fallback: NewRoots,
    pub(super) options: Options,
    pub(super) counts: Counts,
}

impl Forwarder {
    /// A forwarder that asks `contexts`.
    pub fn new(contexts: Arc<dyn Contexts>, options: Options) -> Self {
        let fallback = NewRoots::new(IdSource::random(), options.roots);
        Self(Arc::new(Inner { contexts, fallback, options, counts: Counts::default() }))
    }

    /// What was done by now.
    pub fn counts(&self) -> &Counts {
        &self.0.counts
    }

    /// Serves one connection until both directions have ended or one end has reset it.
    ///
    /// Dropping the future resets both ends, so that neither takes what it has for complete.
    pub async fn serve(&self, accepted: Accepted) {
        let inner = &*self.0;
        inner.counts.add(Event::Accepted);
        let _ended = Ended(&inner.counts);
        let Accepted { mut stream, application, destination, connection, sockets, draining } =
            accepted;
        reset_when_dropped(&stream);
        // Boxed, so that there is no room for it afterwards.
        let connecting = Box::pin(connect(&stream, destination, &*sockets));
        let mut upstream = match connecting.await {
            Ok(upstream) => upstream,
            Err(event) => {
                inner.counts.add(event);
                return;
            }
        };
        drop(sockets);
        reset_when_dropped(&upstream);
        let talk = Talk::new(inner, application, destination, connection);
        let ended = loop {
            tokio::select! {
                biased;
                ended = relay::both_ways(&mut stream, &mut upstream, &talk) => break ended,
                () = idle_while(draining.clone(), &talk) => {}
            }
            // An idle relay has nothing that is lost with it. What arrived this moment is relayed
            // once the runtime has seen it, too.
            if !has_unread(&stream) && !has_unread(&upstream) {
                break Ok(());
            }
            yield_now().await;
        };
        if ended.is_err() {
            inner.counts.add(Event::Reset);
            return;
        }
        for stream in [&stream, &upstream] {
            // Fails only if the connection is gone.
            let _ = sockopt::set_socket_linger(stream, None);
        }
    }
}

/// Until the agent is about to end and nothing is under way.
async fn idle_while(mut draining: watch::Receiver<bool>, talk: &Talk<'_>) {
    if draining.wait_for(|draining| *draining).await.is_err() {
        return std::future::pending().await;
    }
    drop(draining);
    while !talk.is_idle() {
        Box::pin(sleep(IDLE_POLL)).await;
    }
}

/// Whether there are bytes to be read.
fn has_unread(stream: &TcpStream) -> bool {
    let peek = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    recv(stream, &mut [0; 1], peek).is_ok_and(|(_, bytes)| bytes > 0)
}

struct Ended<'a>(&'a Counts);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.add(Event::Ended);
    }
}

/// Whatever ends the agent, no half of a message shall look like a whole one: unless both
/// directions ended in order, closing resets.
fn reset_when_dropped(stream: &TcpStream) {
    // Neither fails unless the connection is gone.
    let _ = stream.set_nodelay(true);
    let _ = stream.set_zero_linger();
}

async fn connect(
    application: &TcpStream,
    destination: SocketAddr,
    sockets: &dyn OpenSocket,
) -> Result<TcpStream, Event> {
    let attempt = async {
        let socket = open(destination, sockets).await?;
        socket.set_keepalive(true)?;
        if destination.ip().to_canonical().is_loopback() {
            socket.set_send_buffer_size(LOCAL_BUFFER as u32)?;
            socket.set_recv_buffer_size(LOCAL_BUFFER as u32)?;
        }
        socket.connect(destination).await
    };
    tokio::select! {
        biased;
        result = attempt => result.map_err(|error| failure(&error)),
        _ = application.ready(Interest::ERROR) => Err(Event::ConnectAbandoned),
    }
}

/// Waits for a while if there is no descriptor: the end of any other connection leaves two.
async fn open(destination: SocketAddr, sockets: &dyn OpenSocket) -> io::Result<TcpSocket> {
    let deadline = Instant::now() + SHORTAGE;
    loop {
        match sockets.open(destination) {
            Err(error) if is_shortage(&error) && Instant::now() < deadline => {
                sleep(SHORTAGE_POLL).await;
            }
            result => return result,
        }
    }
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

fn failure(error: &io::Error) -> Event {
    match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED) => Event::ConnectRefused,
        Some(Errno::TIMEDOUT) => Event::ConnectTimedOut,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS | Errno::ADDRNOTAVAIL) => {
            Event::ConnectNoResources
        }
        _ => Event::ConnectFailed,
    }
}

#[cfg(test)]
mod tests;
