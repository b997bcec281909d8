//! Bytes from one socket to the other and back, until both directions have ended.
//!
//! Few system calls, and no memory for a connection at rest: what is read into the thread's one
//! buffer is written at once, and only what the other end does not take is kept, while nothing more
//! is read. Streams of many bytes that nobody looks at go through a pipe without being copied.
//! Must not know protocols.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{ErrorKind, Result as IoResult};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::pipe::{SpliceFlags, splice};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::task::coop::consume_budget;

use super::counts::Event;
use super::inspect::{FromApplication, FromServer, Inspect, Inspected, Talk};
use super::pipes::Pipe;

/// Bytes read at once.
const READ: usize = 64 * 1024;
/// From so many bytes at once on, it is worth not to copy them.
const BULK: u64 = 16 * 1024;
/// Longest silence of an application that has sent its last byte, before it is asked whether it is
/// still there.
const PROBED: Duration = Duration::from_mins(5);

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        input: vec![0; READ].into_boxed_slice(),
        output: Vec::new(),
    });
}

/// Used within one turn of one connection at a time.
struct Scratch {
    input: Box<[u8]>,
    output: Vec<u8>,
}

/// The connection ended by a reset, or by something that is passed on as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reset;

/// Passes bytes between both ends until both have sent their last, or one has reset.
pub(super) async fn both_ways(
    application: &mut TcpStream,
    server: &mut TcpStream,
    talk: &Talk<'_>,
) -> Result<(), Reset> {
    let both = Both::default();
    let (from_application, to_application) = application.split();
    let (from_server, to_server) = server.split();
    let requests = Flow {
        from: from_application,
        is_on_this_host: true,
        to: to_server,
        backlog: Vec::new(),
        inspect: FromApplication::new(talk),
        both: &both,
    };
    let responses = Flow {
        from: from_server,
        is_on_this_host: false,
        to: to_application,
        backlog: Vec::new(),
        inspect: FromServer::new(talk),
        both: &both,
    };
    tokio::try_join!(requests.run(talk), responses.run(talk))?;
    if both.is_broken.into_inner() { Err(Reset) } else { Ok(()) }
}

/// What the two directions tell each other.
#[derive(Default)]
struct Both {
    /// One end takes no more bytes, because it has reset the connection.
    is_broken: AtomicBool,
    /// One direction has ended.
    is_half: AtomicBool,
    ended: Notify,
}

/// One direction.
struct Flow<'s, I> {
    from: ReadHalf<'s>,
    is_on_this_host: bool,
    to: WriteHalf<'s>,
    /// Bytes on their way that `to` did not take at once.
    backlog: Vec<u8>,
    inspect: I,
    both: &'s Both,
}

/// Why a direction ends before its last byte.
enum End {
    /// The sender has reset the connection: nothing more can pass either way.
    Sender,
    /// The receiver has. What it sent before is still to be passed on.
    Receiver,
}

/// What one read led to.
enum Turn {
    /// The bytes were passed on, or are in the backlog.
    Moved,
    /// The same, and the next ones are worth not to be copied.
    Bulk,
    /// They are in the backlog; more follows once the inspection is resumed.
    Waits,
    /// The sender has sent its last byte.
    Last,
}

impl<I: Inspect> Flow<'_, I> {
    async fn run(mut self, talk: &Talk<'_>) -> Result<(), Reset> {
        let is_broken = &self.both.is_broken;
        match self.pass_all(talk).await {
            Ok(()) => {
                // What is not taken in order shall not look as if it had ended in order.
                if !is_broken.load(Ordering::Relaxed) && self.to.shutdown().await.is_err() {
                    is_broken.store(true, Ordering::Relaxed);
                }
            }
            Err(End::Receiver) => is_broken.store(true, Ordering::Relaxed),
            Err(End::Sender) => return Err(Reset),
        }
        if self.both.is_half.swap(true, Ordering::Relaxed) {
            self.both.ended.notify_one();
            return Ok(());
        }
        Box::pin(self.await_other()).await
    }

    /// Waits until the other direction ends, too. The sender may still reset.
    ///
    /// One on this host may be gone altogether, which no segment tells: the kernel is asked.
    async fn await_other(&mut self) -> Result<(), Reset> {
        if self.is_on_this_host {
            probe(self.from.as_ref());
        }
        tokio::select! {
            biased;
            () = self.both.ended.notified() => Ok(()),
            _ = self.from.as_ref().ready(Interest::ERROR) => Err(Reset),
        }
    }

    // What is seldom done is boxed, so that a connection at rest has no room for it.
    async fn pass_all(&mut self, talk: &Talk<'_>) -> Result<(), End> {
        loop {
            let turn = poll_fn(|cx| self.poll_turn(cx)).await?;
            if let Turn::Waits = turn {
                while Box::pin(self.inspect.resume(&mut self.backlog)).await {
                    self.flush(talk).await?;
                }
            }
            self.flush(talk).await?;
            match turn {
                Turn::Moved | Turn::Waits => {}
                Turn::Bulk => {
                    let Some(pipe) = Pipe::take() else {
                        talk.count(Event::NoPipe);
                        continue;
                    };
                    if Box::pin(self.pass_bulk(pipe)).await? {
                        break;
                    }
                }
                Turn::Last => break,
            }
        }
        self.inspect.finish(&mut self.backlog);
        self.flush(talk).await
    }

    /// Reads once and writes what was read.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<Turn, End>> {
        SCRATCH.with_borrow_mut(|Scratch { input, output }| {
            let mut read = ReadBuf::new(input);
            ready!(Pin::new(&mut self.from).poll_read(cx, &mut read)).map_err(|_| End::Sender)?;
            let read = read.filled();
            if read.is_empty() {
                return Poll::Ready(Ok(Turn::Last));
            }
            output.clear();
            let inspected = self.inspect.inspect(read, output);
            let bytes = if inspected == Inspected::AsIs { read } else { output.as_slice() };
            // What waits is a complete head, for moments: written in two parts, the receiver would
            // have to read twice.
            let written = match inspected {
                Inspected::Waits => 0,
                _ if bytes.is_empty() => 0,
                _ => written(self.to.try_write(bytes))?,
            };
            self.backlog.extend_from_slice(&bytes[written..]);
            let is_bulk = read.len() as u64 >= BULK && self.inspect.unread() >= BULK;
            Poll::Ready(Ok(match inspected {
                Inspected::Waits => Turn::Waits,
                _ if is_bulk => Turn::Bulk,
                _ => Turn::Moved,
            }))
        })
    }

    /// Writes the backlog, however long it takes.
    async fn flush(&mut self, talk: &Talk<'_>) -> Result<(), End> {
        if self.backlog.is_empty() {
            return Ok(());
        }
        talk.begin_blocked();
        let written = Box::pin(self.write_backlog()).await;
        talk.end_blocked();
        written
    }

    async fn write_backlog(&mut self) -> Result<(), End> {
        let mut at = 0;
        loop {
            at += written(self.to.try_write(&self.backlog[at..]))?;
            if at == self.backlog.len() {
                self.backlog = Vec::new();
                return Ok(());
            }
            self.writable().await?;
        }
    }

    /// Waits until the receiver takes more, or the sender resets.
    async fn writable(&mut self) -> Result<(), End> {
        tokio::select! {
            biased;
            result = self.to.writable() => result.map_err(|_| End::Receiver),
            _ = self.from.as_ref().ready(Interest::ERROR) => Err(End::Sender),
        }
    }

    /// Passes bytes through a pipe as long as they come in large pieces and need not be looked at.
    /// True if the sender has sent its last.
    async fn pass_bulk(&mut self, mut pipe: Pipe) -> Result<bool, End> {
        let mut moved = BULK;
        loop {
            let most = self.inspect.unread().min(Pipe::SIZE as u64);
            if most < BULK {
                return Ok(false);
            }
            let from = self.from.as_ref();
            match from.try_io(Interest::READABLE, || {
                Ok(splice(from, None, pipe.input(), None, most as usize, FLAGS)?)
            }) {
                Ok(0) => return Ok(true),
                Ok(bytes) => {
                    pipe.fill(bytes);
                    self.empty(&mut pipe).await?;
                    self.inspect.skip(bytes as u64);
                    moved += bytes as u64;
                    consume_budget().await;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if moved < BULK {
                        return Ok(false);
                    }
                    moved = 0;
                    self.from.readable().await.map_err(|_| End::Sender)?;
                }
                Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                    return Ok(false);
                }
                Err(_) => return Err(End::Sender),
            }
        }
    }

    async fn empty(&mut self, pipe: &mut Pipe) -> Result<(), End> {
        while pipe.filled() > 0 {
            let to = self.to.as_ref();
            let passed = to.try_io(Interest::WRITABLE, || {
                Ok(splice(pipe.output(), None, to, None, pipe.filled(), FLAGS)?)
            });
            match written(passed)? {
                0 => self.writable().await?,
                bytes => pipe.drain(bytes),
            }
        }
        Ok(())
    }
}

/// Has the kernel ask from time to time whether the other end is still there.
fn probe(socket: &TcpStream) {
    // Nothing of this fails unless the connection is gone.
    let idle = sockopt::tcp_keepidle(socket).map_or(PROBED, |idle| idle.min(PROBED));
    let _ = sockopt::set_tcp_keepidle(socket, idle);
    let _ = sockopt::set_socket_keepalive(socket, true);
}

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// Bytes that were written; none if the receiver takes none now.
fn written(result: IoResult<usize>) -> Result<usize, End> {
    match result {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        Err(_) => Err(End::Receiver),
    }
}
