use std::io::ErrorKind;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;

use super::*;
use crate::event::{ConnId, StreamOffset};
use crate::proxy::{Answer, OpaqueReason, Question, Verdict, Void};
use crate::trace::context::{RemoteContext, extract};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const GOT: &str = "GET / HTTP/1.1\r\nHost: a\r\n\
    traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// Until a test that hangs fails.
const LONG: Duration = Duration::from_mins(1);

const CAPTURED: Captured = Captured { conn: ConnId(7), first: StreamOffset(u32::MAX) };

fn context() -> RemoteContext {
    extract(&[("traceparent".into(), PARENT.into())]).unwrap()
}

/// Answers as it is told, and remembers.
#[derive(Default)]
struct Told {
    questions: Mutex<Vec<Question>>,
    void: Mutex<Vec<Void>>,
    answers: Mutex<Vec<Answer>>,
}

impl Contexts for Told {
    fn ask(&self, question: &Question) -> Answer {
        self.questions.lock().unwrap().push(question.clone());
        self.answers.lock().unwrap().pop().unwrap_or(Answer::Now(Verdict::Set(context())))
    }

    fn void(&self, void: Void) {
        self.void.lock().unwrap().push(void);
    }
}

/// An answer that will be sent.
fn later() -> (tokio::sync::oneshot::Sender<Verdict>, Answer) {
    let (sender, answer) = tokio::sync::oneshot::channel();
    (sender, Answer::Later(Box::pin(async { answer.await.ok() })))
}

/// A forwarder between a client and a server of the test's.
struct Bench {
    told: Arc<Told>,
    forwarder: Forwarder,
    serving: JoinHandle<()>,
    client: TcpStream,
    server: TcpStream,
    drain: watch::Sender<bool>,
}

impl Bench {
    async fn new() -> Self {
        Self::with(Options { deadline: LONG, ..Options::default() }).await
    }

    async fn with(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let destination = listener.local_addr().unwrap();
        let told = Arc::new(Told::default());
        let forwarder = Forwarder::new(told.clone(), options);
        let (drain, draining) = watch::channel(false);
        let (client, serving) =
            redirected(&forwarder, destination, Arc::new(SameNamespace), draining).await;
        let (server, _) = listener.accept().await.unwrap();
        Self { told, forwarder, serving, client, server, drain }
    }

    fn count(&self, event: Event) -> u64 {
        self.forwarder.counts().get(event)
    }

    fn opaque(&self, reason: OpaqueReason) -> u64 {
        self.count(Event::Opaque(reason))
    }

    async fn ended(&mut self) {
        timeout(LONG, &mut self.serving).await.unwrap().unwrap();
        assert_eq!(self.forwarder.counts().open(), 0);
    }
}

async fn redirected(
    forwarder: &Forwarder,
    destination: SocketAddr,
    sockets: Arc<dyn OpenSocket>,
    draining: watch::Receiver<bool>,
) -> (TcpStream, JoinHandle<()>) {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(proxy.local_addr().unwrap()).await.unwrap();
    let (stream, application) = proxy.accept().await.unwrap();
    let forwarder = forwarder.clone();
    let serving = tokio::spawn(async move {
        let connection = Some(CAPTURED);
        let accepted = Accepted { stream, application, destination, connection, sockets, draining };
        forwarder.serve(accepted).await;
    });
    (client, serving)
}

fn never() -> watch::Receiver<bool> {
    watch::channel(false).1
}

async fn expect(stream: &mut TcpStream, bytes: &str) {
    let mut read = vec![0; bytes.len()];
    timeout(LONG, stream.read_exact(&mut read)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&read), bytes);
}

/// All that comes until the end, and whether that is in order.
async fn rest(stream: &mut TcpStream) -> (Vec<u8>, Result<(), ErrorKind>) {
    let mut all = Vec::new();
    let result = timeout(LONG, stream.read_to_end(&mut all)).await.unwrap();
    (all, result.map(|_| ()).map_err(|error| error.kind()))
}

const RESET: (Vec<u8>, Result<(), ErrorKind>) = (Vec::new(), Err(ErrorKind::ConnectionReset));

#[tokio::test]
async fn requests_get_the_context_they_are_asked_to_get() {
    let mut bench = Bench::new().await;
    for _ in 0..3 {
        bench.client.write_all(GET.as_bytes()).await.unwrap();
        expect(&mut bench.server, GOT).await;
        bench.server.write_all(OK.as_bytes()).await.unwrap();
        expect(&mut bench.client, OK).await;
    }
    let questions = bench.told.questions.lock().unwrap().clone();
    let offsets: Vec<_> = questions.iter().map(|question| question.offset).collect();
    assert_eq!(offsets, [0, GET.len() as u64, 2 * GET.len() as u64]);
    assert_eq!(questions[0].application, bench.client.local_addr().unwrap());
    assert_eq!(questions[0].connection, Some(CAPTURED));
    assert_eq!(questions[0].destination, bench.server.local_addr().unwrap());
    assert_eq!((bench.count(Event::Injected), bench.count(Event::Kept)), (3, 0));
}

#[tokio::test]
async fn a_late_answer_holds_back_its_head_and_what_follows() {
    let mut bench = Bench::new().await;
    let (first, answer) = later();
    bench.told.answers.lock().unwrap().push(answer);
    let head = "POST / HTTP/1.1\r\nTraceparent: x\r\nContent-Length: 2\r\n\r\n";
    bench.client.write_all(format!("{GET}{head}hi{GET}").as_bytes()).await.unwrap();
    let asked = async {
        while bench.told.questions.lock().unwrap().is_empty() {
            yield_now().await;
        }
    };
    timeout(LONG, asked).await.unwrap();
    let (second, answer) = later();
    bench.told.answers.lock().unwrap().push(answer);
    first.send(Verdict::Keep).unwrap();
    expect(&mut bench.server, &format!("{GET}POST / HTTP/1.1\r\n")).await;
    second.send(Verdict::Set(context())).unwrap();
    let posted = format!("Content-Length: 2\r\ntraceparent: {PARENT}\r\n\r\nhi");
    expect(&mut bench.server, &format!("{posted}{GOT}")).await;
    let questions = bench.told.questions.lock().unwrap().clone();
    assert_eq!(questions[1].fields, [("traceparent".into(), "x".into())]);
    assert_eq!((bench.count(Event::Injected), bench.count(Event::Kept)), (2, 1));
    assert_eq!(bench.count(Event::Overdue), 0);
}

#[tokio::test]
async fn without_an_answer_a_valid_context_is_kept_and_else_a_trace_begins() {
    let options = Options { deadline: Duration::from_millis(1), ..Options::default() };
    let mut bench = Bench::with(options).await;
    let mut senders = Vec::new();
    for _ in 0..2 {
        let (sender, answer) = later();
        senders.push(sender);
        bench.told.answers.lock().unwrap().push(answer);
    }
    bench.client.write_all(format!("{GOT}{GET}").as_bytes()).await.unwrap();
    expect(&mut bench.server, GOT).await;
    let mut head = vec![0; GOT.len()];
    bench.server.read_exact(&mut head).await.unwrap();
    let head = String::from_utf8(head).unwrap();
    let void = bench.told.void.lock().unwrap().clone();
    assert_eq!(void[0].verdict, Verdict::Keep);
    assert_eq!(void[1].question.offset, GOT.len() as u64);
    let Verdict::Set(root) = &void[1].verdict else { panic!("no root") };
    assert!(head.contains(&format!("traceparent: 00-{}-{}-03\r\n", root.trace, root.span)));
    assert_eq!(bench.count(Event::Overdue), 2);
    assert!(senders.into_iter().all(|sender| sender.send(Verdict::Keep).is_err()));
}

#[tokio::test]
async fn a_server_may_speak_first() {
    let mut bench = Bench::new().await;
    bench.server.write_all(b"220 mail\r\n").await.unwrap();
    expect(&mut bench.client, "220 mail\r\n").await;
    bench.client.write_all(GET.as_bytes()).await.unwrap();
    expect(&mut bench.server, GET).await;
    assert_eq!(bench.opaque(OpaqueReason::ServerFirst), 1);
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let mut bench = Bench::new().await;
    bench.client.write_all(b"GET / HTTP/1.1\r\nTraceparent: half").await.unwrap();
    bench.client.shutdown().await.unwrap();
    let (request, end) = rest(&mut bench.server).await;
    assert_eq!((&request[..], end), (&b"GET / HTTP/1.1\r\nTraceparent: half"[..], Ok(())));
    bench.server.write_all(b"still here").await.unwrap();
    expect(&mut bench.client, "still here").await;
    bench.server.shutdown().await.unwrap();
    assert_eq!(rest(&mut bench.client).await, (Vec::new(), Ok(())));
    bench.ended().await;
    assert_eq!(bench.count(Event::Reset), 0);
}

#[tokio::test]
async fn the_server_may_end_first() {
    let mut bench = Bench::new().await;
    bench.server.write_all(b"bye").await.unwrap();
    bench.server.shutdown().await.unwrap();
    assert_eq!(rest(&mut bench.client).await, (b"bye".to_vec(), Ok(())));
    bench.client.write_all(b"late").await.unwrap();
    expect(&mut bench.server, "late").await;
    bench.client.shutdown().await.unwrap();
    assert_eq!(rest(&mut bench.server).await, (Vec::new(), Ok(())));
    bench.ended().await;
}

#[tokio::test]
async fn a_reset_is_passed_on_either_way() {
    let mut bench = Bench::new().await;
    bench.client.write_all(GET.as_bytes()).await.unwrap();
    expect(&mut bench.server, GOT).await;
    bench.client.set_zero_linger().unwrap();
    drop(std::mem::replace(&mut bench.client, TcpStream::connect(listen().await).await.unwrap()));
    assert_eq!(rest(&mut bench.server).await, RESET);
    bench.ended().await;
    assert_eq!(bench.count(Event::Reset), 1);

    let mut bench = Bench::new().await;
    bench.server.write_all(b"half").await.unwrap();
    expect(&mut bench.client, "half").await;
    bench.server.set_zero_linger().unwrap();
    drop(std::mem::replace(&mut bench.server, TcpStream::connect(listen().await).await.unwrap()));
    assert_eq!(rest(&mut bench.client).await, RESET);
    bench.ended().await;
}

/// The address of a listener that stays.
async fn listen() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        std::future::pending::<()>().await;
        drop(listener);
    });
    address
}

#[tokio::test]
async fn an_end_that_has_sent_its_last_may_still_reset() {
    let mut bench = Bench::new().await;
    bench.client.shutdown().await.unwrap();
    assert_eq!(rest(&mut bench.server).await, (Vec::new(), Ok(())));
    bench.client.set_zero_linger().unwrap();
    drop(std::mem::replace(&mut bench.client, TcpStream::connect(listen().await).await.unwrap()));
    bench.ended().await;
    let error = loop {
        if let Err(error) = bench.server.write_all(b"x").await {
            break error.kind();
        }
    };
    assert!(matches!(error, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
}

#[tokio::test]
async fn what_a_server_says_before_it_resets_arrives() {
    let mut bench = Bench::new().await;
    bench.client.write_all(b"PUT / HTTP/1.1\r\nContent-Length: 9000000\r\n\r\n").await.unwrap();
    bench.client.write_all(&vec![b'x'; 100_000]).await.unwrap();
    // Closed with bytes unread: the answer, then a reset.
    bench.server.write_all(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    drop(std::mem::replace(&mut bench.server, TcpStream::connect(listen().await).await.unwrap()));
    expect(&mut bench.client, "HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(rest(&mut bench.client).await, RESET);
    bench.ended().await;
}

#[tokio::test]
async fn a_destination_that_refuses_shows_as_a_reset() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let forwarder = Forwarder::new(Arc::new(Told::default()), Options::default());
    let (mut client, serving) =
        redirected(&forwarder, nobody, Arc::new(SameNamespace), never()).await;
    assert_eq!(rest(&mut client).await, RESET);
    serving.await.unwrap();
    assert_eq!(forwarder.counts().get(Event::ConnectRefused), 1);
    assert_eq!(forwarder.counts().open(), 0);
}

/// Has no descriptor so many times.
struct Short(AtomicUsize);

impl OpenSocket for Short {
    fn open(&self, destination: SocketAddr) -> io::Result<TcpSocket> {
        match self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => Err(Errno::MFILE.into()),
            Err(_) => SameNamespace.open(destination),
        }
    }
}

#[tokio::test]
async fn a_descriptor_is_waited_for() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let destination = server.local_addr().unwrap();
    let forwarder = Forwarder::new(Arc::new(Told::default()), Options::default());
    let short = Arc::new(Short(AtomicUsize::new(3)));
    let (mut client, serving) = redirected(&forwarder, destination, short, never()).await;
    let (mut upstream, _) = timeout(LONG, server.accept()).await.unwrap().unwrap();
    upstream.write_all(b"here").await.unwrap();
    expect(&mut client, "here").await;
    drop((client, upstream));
    serving.await.unwrap();
    assert_eq!(forwarder.counts().get(Event::ConnectNoResources), 0);
}

#[tokio::test(start_paused = true)]
async fn no_descriptor_left_shows_as_a_reset() {
    let none = Short(AtomicUsize::new(usize::MAX));
    let forwarder = Forwarder::new(Arc::new(Told::default()), Options::default());
    let (mut client, serving) =
        redirected(&forwarder, listen().await, Arc::new(none), never()).await;
    assert_eq!(rest(&mut client).await, RESET);
    serving.await.unwrap();
    assert_eq!(forwarder.counts().get(Event::ConnectNoResources), 1);
}

#[tokio::test]
async fn an_application_that_gives_up_ends_the_attempt_to_connect() {
    // Nobody accepts, and the queue is full: the attempt goes on for minutes.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let destination = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) =
        timeout(Duration::from_millis(300), TcpStream::connect(destination)).await
    {
        queued.push(stream.unwrap());
    }
    let forwarder = Forwarder::new(Arc::new(Told::default()), Options::default());
    let (client, serving) =
        redirected(&forwarder, destination, Arc::new(SameNamespace), never()).await;
    client.set_zero_linger().unwrap();
    drop(client);
    timeout(LONG, serving).await.unwrap().unwrap();
    assert_eq!(forwarder.counts().get(Event::ConnectAbandoned), 1);
}

#[tokio::test]
async fn a_request_that_has_arrived_when_the_agent_ends_is_answered() {
    let mut bench = Bench::new().await;
    for is_last in [false, true] {
        // Nothing else runs between the two.
        assert_eq!(bench.client.try_write(GET.as_bytes()).unwrap(), GET.len());
        bench.drain.send_replace(is_last);
        expect(&mut bench.server, GOT).await;
        bench.server.write_all(OK.as_bytes()).await.unwrap();
        expect(&mut bench.client, OK).await;
    }
    bench.ended().await;
    assert_eq!(rest(&mut bench.client).await, (vec![], Ok(())));
}

#[tokio::test]
async fn before_the_agent_ends_connections_end_when_nothing_is_under_way() {
    let mut bench = Bench::new().await;
    bench.client.write_all(GET.as_bytes()).await.unwrap();
    expect(&mut bench.server, GOT).await;
    bench.drain.send_replace(true);
    for piece in OK.as_bytes().chunks(OK.len() - 1) {
        assert!(timeout(4 * IDLE_POLL, &mut bench.serving).await.is_err(), "cut off");
        bench.server.write_all(piece).await.unwrap();
    }
    expect(&mut bench.client, OK).await;
    bench.ended().await;
    assert_eq!(rest(&mut bench.client).await, (Vec::new(), Ok(())));
    assert_eq!(rest(&mut bench.server).await, (Vec::new(), Ok(())));
    assert_eq!(bench.count(Event::Reset), 0);
}

#[tokio::test]
async fn giving_up_a_connection_resets_both_ends() {
    let mut bench = Bench::new().await;
    bench.client.write_all(GET.as_bytes()).await.unwrap();
    expect(&mut bench.server, GOT).await;
    bench.server.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").await.unwrap();
    expect(&mut bench.client, "HTTP/1.1 200 OK\r\n\r\nhalf").await;
    bench.serving.abort();
    assert_eq!(rest(&mut bench.client).await, RESET);
    assert_eq!(rest(&mut bench.server).await, RESET);
}

#[tokio::test]
async fn no_more_is_taken_than_passed_on_and_a_blocked_sender_may_still_reset() {
    let mut bench = Bench::new().await;
    let block = vec![b'x'; 1 << 20];
    bench.client.write_all(b"\0").await.unwrap();
    let mut sent = 0;
    while let Ok(written) = timeout(Duration::from_millis(300), bench.client.write(&block)).await {
        sent += written.unwrap();
        assert!(sent < 64 << 20, "unbounded");
    }
    bench.client.set_zero_linger().unwrap();
    drop(std::mem::replace(&mut bench.client, TcpStream::connect(listen().await).await.unwrap()));
    bench.ended().await;
    assert_eq!(rest(&mut bench.server).await.1, RESET.1);
}

/// Bytes of which every stretch is another.
fn content(len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(len as u64);
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes
}

async fn exchange(start: &str, sent_start: &str, answer_start: &str, len: usize) {
    let bench = Bench::new().await;
    let content = Arc::new(content(len));
    let (mut from_client, mut to_server) = bench.client.into_split();
    let (mut from_server, mut to_client) = bench.server.into_split();
    let send = |start: String, content: Arc<Vec<u8>>| (start.into_bytes(), content);
    let (request, body) = send(start.to_owned(), content.clone());
    let client = tokio::spawn(async move {
        to_server.write_all(&request).await.unwrap();
        to_server.write_all(&body).await.unwrap();
        to_server.shutdown().await.unwrap();
    });
    let (response, body) = send(answer_start.to_owned(), content.clone());
    let expected = [sent_start.as_bytes(), &content].concat();
    let server = tokio::spawn(async move {
        let mut head = vec![0; expected.len().min(200)];
        from_server.read_exact(&mut head).await.unwrap();
        let answer = async {
            to_client.write_all(&response).await.unwrap();
            to_client.write_all(&body).await.unwrap();
            to_client.shutdown().await.unwrap();
        };
        let mut rest = Vec::new();
        let ((), read) = tokio::join!(answer, from_server.read_to_end(&mut rest));
        read.unwrap();
        assert!([head, rest].concat() == expected, "what was sent arrived changed");
    });
    let mut received = Vec::new();
    timeout(LONG, from_client.read_to_end(&mut received)).await.unwrap().unwrap();
    assert!(received == [answer_start.as_bytes(), &content].concat(), "the answer was changed");
    client.await.unwrap();
    server.await.unwrap();
}

#[tokio::test]
async fn many_bytes_pass_both_ways_at_once_through_a_tunnel() {
    exchange("\x16\x03", "\x16\x03", "\x16\x03\x01", 32 << 20).await;
}

#[tokio::test]
async fn many_bytes_pass_both_ways_at_once_as_bodies() {
    let len = 32 << 20;
    let head = format!("PUT / HTTP/1.1\r\nContent-Length: {len}\r\n");
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n");
    let sent = format!("{head}traceparent: {PARENT}\r\n\r\n");
    exchange(&format!("{head}\r\n"), &sent, &response, len).await;
}

#[tokio::test]
async fn a_connection_at_rest_is_small() {
    let forwarder = Forwarder::new(Arc::new(Told::default()), Options::default());
    let (_client, serving) =
        redirected(&forwarder, listen().await, Arc::new(SameNamespace), never()).await;
    let (client, _) =
        redirected(&forwarder, listen().await, Arc::new(SameNamespace), never()).await;
    let accepted = Accepted {
        application: client.local_addr().unwrap(),
        destination: client.peer_addr().unwrap(),
        stream: client,
        connection: None,
        sockets: Arc::new(SameNamespace),
        draining: never(),
    };
    let size = size_of_val(&forwarder.serve(accepted));
    assert!(size <= 1792, "{size} bytes");
    serving.abort();
}
