//! What holds for one connection, client or request holds for 32 at once: what was open before the
//! agent came, calls on a connection each, servers that never answer, and services that nobody
//! selected.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tracer_tests::message::get;
use tracer_tests::service::Nginx;
use tracer_tests::{AgentOptions, Launcher, Service, Span, Spans, Status, http, on_each_backend};

/// How many of them.
const CROWDS: [usize; 2] = [1, 32];
const BODY: &[u8] = b"hello\n";
const TIMEOUT: Duration = Duration::from_secs(20);

fn server() -> Result<Service> {
    Nginx::new("")?.file("hello", BODY)?.start()
}

/// A connection that is kept.
struct Kept(TcpStream);

impl Kept {
    fn open(service: &Service) -> Result<Self> {
        let stream = TcpStream::connect(service.address())?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self(stream))
    }

    fn port(&self) -> Result<i64> {
        Ok(self.0.local_addr()?.port().into())
    }

    /// Asks for the server's only file, and reads the whole answer.
    fn ask(&mut self) -> Result<()> {
        self.0.write_all(get("/hello", "kept.test").as_bytes())?;
        let mut answer = Vec::new();
        while !answer.ends_with(BODY) {
            let mut part = [0; 1024];
            let read = self.0.read(&mut part).context("no answer on a kept connection")?;
            ensure!(read > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&part[..read]);
        }
        Ok(())
    }
}

fn ports(spans: &Spans) -> BTreeSet<i64> {
    spans.peer_ports().into_iter().flatten().collect()
}

/// Protects: connections that were open before the agent are traced from their next request on,
/// by it and by the agent that follows it; those of a service that is not selected are left alone.
#[test]
fn connections_older_than_the_agents() -> Result<()> {
    on_each_backend(|backend| {
        for count in CROWDS {
            let (selected, bystander) = (server()?, server()?);
            let open =
                |service| (0..count).map(|_| Kept::open(service)).collect::<Result<Vec<_>>>();
            let (mut kept, mut others) = (open(&selected)?, open(&bystander)?);
            let mut ask = || kept.iter_mut().chain(&mut others).try_for_each(Kept::ask);
            ask()?;
            let mut seen = Vec::new();
            for _ in 0..2 {
                let agent = AgentOptions::new(backend).pid(selected.pid()).start()?;
                ask()?;
                ask()?;
                let finished = agent.stop_after(2 * count)?;
                assert_eq!(finished.spans.len(), 2 * count, "{}", finished.spans);
                finished.report.assert_nothing_lost();
                seen.push(ports(&finished.spans));
            }
            let own = kept.iter().map(Kept::port).collect::<Result<BTreeSet<_>>>()?;
            assert_eq!(seen, [own.clone(), own]);
        }
        Ok(())
    })
}

/// Protects: clients that connect for each call, some of them to a server that never answers: a span
/// each, with what became of it.
#[test]
fn calls_on_a_connection_each() -> Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0")?;
    on_each_backend(|backend| {
        let server = server()?;
        for count in CROWDS {
            let (mut launcher, agent) = Launcher::start_traced(backend)?;
            let never = format!("http://{}/never", silent.local_addr()?);
            let urls = (0..count).flat_map(|_| [(server.url("/hello"), 0), (never.clone(), 28)]);
            let clients = urls
                .map(|(url, code)| {
                    let words = ["curl", "--silent", "--max-time", "2", &url];
                    Ok((launcher.spawn(words)?, code))
                })
                .collect::<Result<Vec<_>>>()?;
            for (client, code) in &clients {
                assert_eq!(launcher.wait(client)?, *code, "{}", client.output());
            }
            let spans = agent.finish(2 * count)?;
            let of = |path: &str| spans.filter(|span| url(span).ends_with(path));
            let (answered, unanswered) = (of("/hello"), of("/never"));
            assert_eq!((answered.len(), unanswered.len()), (count, count), "{spans}");
            assert!(answered.iter().all(|span| span.http_status() == Some(200)), "{spans}");
            for span in unanswered.iter() {
                assert_eq!((span.http_status(), &span.status), (None, &Status::Error), "{span:?}");
                assert_eq!(span.attributes.text("error.type"), Some("aborted"), "{span:?}");
            }
        }
        Ok(())
    })
}

fn url(span: &Span) -> &str {
    span.attributes.text("url.full").unwrap_or_default()
}

/// Protects: every request is reported exactly once, and none of another service that runs the same
/// program.
#[test]
fn three_requests_are_three_spans() -> Result<()> {
    on_each_backend(|backend| {
        let (selected, other) = (server()?, server()?);
        for count in CROWDS {
            let agent = AgentOptions::new(backend).port(selected.port()).start()?;
            let ask = || {
                [&other, &selected, &other, &selected, &selected]
                    .iter()
                    .try_for_each(|service| http::get(service.address(), "/hello", &[]).map(drop))
            };
            thread::scope(|scope| {
                let clients: Vec<_> = (0..count).map(|_| scope.spawn(ask)).collect();
                clients.into_iter().try_for_each(|client| client.join().expect("no panic above"))
            })?;
            let finished = agent.stop_after(3 * count)?;
            assert_eq!(finished.spans.len(), 3 * count, "{}", finished.spans);
            let port = Some(i64::from(selected.port()));
            assert!(finished.spans.iter().all(|it| it.attributes.int("server.port") == port));
            finished.report.assert_nothing_lost();
        }
        Ok(())
    })
}
