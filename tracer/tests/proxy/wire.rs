//! Clients and servers that say what a test tells them to, and report what they saw.

use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracer::proxy::{
    Accepted, Answer, Forwarder, NewRoots, Options, Question, SameNamespace, Verdict, Void,
};
use tracer::sampling::Sampler;
use tracer::trace::context::{IdSource, extract};

/// What the forwarder inserts if told to insert always the same.
pub(crate) const INSERTED: &str =
    "traceparent: 00-f0e1d2c3b4a5968778695a4b3c2d1e0f-1122334455667788-01\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
/// Until a test that hangs fails.
const LONG: Duration = Duration::from_mins(1);

/// How a connection ends, once everything was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    ClientEnds,
    ServerEnds,
    ClientResets,
    ServerResets,
}

impl Close {
    pub(crate) const ALL: [Self; 4] =
        [Self::ClientEnds, Self::ServerEnds, Self::ClientResets, Self::ServerResets];
}

/// Which contexts the forwarder is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contexts {
    /// The one in [`INSERTED`].
    Fixed,
    NewRoots,
}

/// One connection.
pub(crate) struct Run<'a> {
    seed: u64,
    bytes: &'a [u8],
    /// Bytes the server is to see, unless they are told by the end.
    expected: usize,
    close: Close,
    proxy: Option<Contexts>,
}

impl<'a> Run<'a> {
    pub(crate) fn direct(name: &str, bytes: &'a [u8], close: Close) -> Self {
        Self { seed: seed(name), bytes, expected: bytes.len(), close, proxy: None }
    }

    pub(crate) fn proxied(
        name: &str,
        bytes: &'a [u8],
        injected: usize,
        close: Close,
        contexts: Contexts,
    ) -> Self {
        let expected = bytes.len() + injected * INSERTED.len();
        Self { seed: seed(name), bytes, expected, close, proxy: Some(contexts) }
    }
}

fn seed(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// What both ends saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) at_server: Vec<u8>,
    pub(crate) at_client: Vec<u8>,
    /// Client's, server's.
    pub(crate) ends: [Option<End>; 2],
}

/// How a direction ended for who was reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    InOrder,
    Reset,
}

pub(crate) async fn run(run: Run<'_>) -> Seen {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let address = match run.proxy {
        None => server,
        Some(contexts) => forward(server, contexts).await,
    };
    let answered = Notify::new();
    let ((at_client, client_end), (at_server, server_end)) =
        tokio::join!(client(&run, address, &answered), serve(&run, listener, &answered));
    Seen { at_server, at_client, ends: [client_end, server_end] }
}

async fn client(run: &Run<'_>, address: SocketAddr, answered: &Notify) -> (Vec<u8>, Option<End>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    in_pieces(&mut stream, run.bytes, run.seed).await;
    if run.close == Close::ClientEnds {
        stream.shutdown().await.unwrap();
    }
    let mut answer = vec![0; ANSWER.len()];
    timeout(LONG, stream.read_exact(&mut answer)).await.expect("no answer").unwrap();
    answered.notify_one();
    if run.close == Close::ClientResets {
        stream.set_zero_linger().unwrap();
        return (answer, None);
    }
    let end = end(&mut stream, &mut answer).await;
    (answer, Some(end))
}

async fn serve(run: &Run<'_>, listener: TcpListener, answered: &Notify) -> (Vec<u8>, Option<End>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    if run.close == Close::ClientEnds {
        let end = end(&mut stream, &mut request).await;
        in_pieces(&mut stream, ANSWER, run.seed).await;
        return (request, Some(end));
    }
    request.resize(run.expected, 0);
    timeout(LONG, stream.read_exact(&mut request)).await.expect("less than expected").unwrap();
    in_pieces(&mut stream, ANSWER, run.seed).await;
    if run.close == Close::ServerResets {
        // What has not arrived when a connection is reset is lost, proxy or not.
        answered.notified().await;
        stream.set_zero_linger().unwrap();
        return (request, None);
    }
    if run.close == Close::ServerEnds {
        stream.shutdown().await.unwrap();
    }
    let end = end(&mut stream, &mut request).await;
    (request, Some(end))
}

/// Reads on until the end.
async fn end(stream: &mut TcpStream, read: &mut Vec<u8>) -> End {
    match timeout(LONG, stream.read_to_end(read)).await.expect("no end") {
        Ok(_) => End::InOrder,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
        Err(error) => panic!("{error}"),
    }
}

/// Requests, their responses, then a request more.
pub(crate) async fn converse(requests: &[u8], response: &[u8], probe: &[u8]) -> Seen {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = forward(listener.local_addr().unwrap(), Contexts::Fixed).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    in_pieces(&mut client, requests, 1).await;
    // The last request ends with its empty line, whatever was inserted before.
    let mut at_server = Vec::new();
    while without_inserted(&at_server).0 != requests {
        let read = timeout(LONG, server.read_buf(&mut at_server)).await.expect("no request");
        assert_ne!(read.unwrap(), 0);
    }
    in_pieces(&mut server, response, response.len() as u64).await;
    let mut at_client = vec![0; response.len()];
    timeout(LONG, client.read_exact(&mut at_client)).await.expect("no response").unwrap();
    in_pieces(&mut client, probe, 2).await;
    client.shutdown().await.unwrap();
    end(&mut server, &mut at_server).await;
    drop(server);
    end(&mut client, &mut at_client).await;
    Seen { at_server, at_client, ends: [None; 2] }
}

/// The bytes less the inserted lines, and how many of those there were.
pub(crate) fn without_inserted(bytes: &[u8]) -> (Vec<u8>, usize) {
    let (mut rest, mut lines, mut at) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(INSERTED.as_bytes()) {
            at += INSERTED.len();
            lines += 1;
        } else {
            rest.push(bytes[at]);
            at += 1;
        }
    }
    (rest, lines)
}

/// Writes in a few pieces that mostly arrive one by one.
async fn in_pieces(stream: &mut TcpStream, mut bytes: &[u8], seed: u64) {
    stream.set_nodelay(true).unwrap();
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..rng.usize(0..8) {
        // Half of the cuts are near the beginning, where heads are.
        let most = if rng.bool() { bytes.len().min(64) } else { bytes.len() };
        let (piece, rest) = bytes.split_at(rng.usize(0..=most));
        stream.write_all(piece).await.unwrap();
        bytes = rest;
        tokio::time::sleep(Duration::from_micros(rng.u64(0..1500))).await;
    }
    stream.write_all(bytes).await.unwrap();
}

struct Fixed;

impl tracer::proxy::Contexts for Fixed {
    fn ask(&self, _question: &Question) -> Answer {
        let value = INSERTED["traceparent: ".len()..].trim_end();
        let context = extract(&[("traceparent".into(), value.into())]).unwrap();
        Answer::Now(Verdict::Set(context))
    }

    fn void(&self, _void: Void) {}
}

/// Where a forwarder takes one connection to `destination`.
pub(crate) async fn forward(destination: SocketAddr, contexts: Contexts) -> SocketAddr {
    let forwarder = match contexts {
        Contexts::Fixed => Forwarder::new(Arc::new(Fixed), Options::default()),
        Contexts::NewRoots => {
            let contexts = NewRoots::new(IdSource::seeded(1), Sampler::default());
            Forwarder::new(Arc::new(contexts), Options::default())
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, application) = listener.accept().await.unwrap();
        let (sockets, draining) = (Arc::new(SameNamespace), watch::channel(false).1);
        let connection = None;
        let accepted = Accepted { stream, application, destination, connection, sockets, draining };
        forwarder.serve(accepted).await;
        assert_eq!(forwarder.counts().open(), 0);
    });
    address
}

/// Does something for each case, several at a time.
pub(crate) async fn at_once<C, F>(
    limit: usize,
    cases: impl IntoIterator<Item = C>,
    each: impl Fn(C) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for case in cases {
        if tasks.len() == limit {
            tasks.join_next().await.expect("there are some").unwrap();
        }
        tasks.spawn(each(case));
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}
