//! What is asked of every service alike, whatever it is written in: the endpoints `/hello`,
//! `/status/CODE`, `/stream`, `/echo` and `/call?url=URL` under `tests/services` answer the same.

use anyhow::{Result, ensure};

use crate::agent::{AgentOptions, Backend};
use crate::expect::Expected;
use crate::launcher::Launcher;
use crate::service::{Nginx, Service};
use crate::span::Spans;

/// Larger than any buffer and any message budget on the way; curl asks before it sends so much.
const LARGE: usize = 3 << 20;

/// Requests of every framing follow each other on one kept connection. Gives the spans.
pub fn kept_alive(backend: Backend, service: &Service) -> Result<Spans> {
    let requests = [
        ("GET", "/hello", 200),
        ("HEAD", "/hello", 200),
        ("GET", "/status/404", 404),
        ("GET", "/stream", 200),
        ("POST", "/echo", 200),
        ("GET", "/status/204", 204),
        ("GET", "/status/503", 503),
        ("GET", "/hello", 200),
    ];
    let mut launcher = Launcher::start()?;
    let agent = AgentOptions::new(backend).pid(service.pid()).start()?;
    let mut words = Vec::new();
    for (method, path, _) in requests {
        if !words.is_empty() {
            words.extend(["--next", "--silent", "--max-time", "30"].map(str::to_owned));
        }
        match method {
            "HEAD" => words.push("--head".to_owned()),
            "POST" => words.extend(["--data".to_owned(), "some body".to_owned()]),
            _ => {}
        }
        words.push(service.url(path));
    }
    let output = launcher.curl(words)?;
    ensure!(output.stdout.contains("line 4\nsome body"), "unexpected answers: {output:?}");
    let spans = agent.finish(requests.len())?;
    for (span, (method, path, status)) in spans.iter().zip(requests) {
        Expected::served_to_curl(service, method, path)?.status(status).check(span);
    }
    ensure!(spans.peer_ports().len() == 1, "not one connection:\n{spans}");
    for pair in spans.windows(2) {
        ensure!(pair[0].end <= pair[1].start, "not one after the other:\n{spans}");
    }
    Ok(spans)
}

/// A large body goes both ways after `100 Continue`, which is no final response.
pub fn upload(backend: Backend, service: &Service) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let body = directory.path().join("body");
    std::fs::write(&body, vec![b'x'; LARGE])?;
    let data = format!("@{}", body.display());
    let mut launcher = Launcher::start()?;
    let agent = AgentOptions::new(backend).pid(service.pid()).pid(launcher.pid()).start()?;
    let kind = "Content-Type: application/octet-stream";
    let echo = service.url("/echo");
    let output = launcher.curl([
        "--verbose",
        "-H",
        kind,
        "--data-binary",
        &data,
        &echo,
        "--next",
        "--silent",
        &service.url("/hello"),
    ])?;
    ensure!(output.stderr.contains("< HTTP/1.1 100"), "no 100 Continue: {}", output.stderr);
    ensure!(output.stdout.len() == LARGE + "hello\n".len(), "{} bytes", output.stdout.len());
    let spans = agent.finish(4)?;
    let requests = [("POST", "/echo"), ("GET", "/hello")];
    for (span, (method, path)) in spans.servers().iter().zip(requests) {
        Expected::served_to_curl(service, method, path)?.status(200).check(span);
    }
    for (span, (method, path)) in spans.clients().iter().zip(requests) {
        Expected::client(method, &service.url(path)).status(200).check(span);
    }
    Ok(())
}

/// The service calls another one, which answers, fails, and is not there. Gives the spans.
pub fn calls(backend: Backend, service: &Service) -> Result<Spans> {
    let callee = Nginx::new("location = /broken { return 503; }")?.file("hello", b"hello\n")?;
    let callee = callee.start()?;
    let nobody = crate::port::loopback(crate::port::free()?);
    let mut launcher = Launcher::start()?;
    let agent = AgentOptions::new(backend).pid(service.pid()).start()?;
    let targets = [
        callee.url("/hello?page=2"),
        callee.url("/broken"),
        format!("http://{nobody}/"),
        callee.url("/hello"),
    ]
    .map(|url| format!("/call?url={url}"));
    for target in &targets {
        launcher.curl([service.url(target)])?;
    }
    let spans = agent.finish(7)?;

    for (span, target) in spans.servers().iter().zip(&targets) {
        let status = if target.contains(&nobody.to_string()) { 502 } else { 200 };
        Expected::served_to_curl(service, "GET", target)?.status(status).check(span);
    }
    let answered = [("/hello?page=2", 200), ("/broken", 503), ("/hello", 200)];
    for (span, (path, status)) in spans.clients().iter().zip(answered) {
        Expected::client("GET", &callee.url(path)).status(status).check(span);
    }
    ensure!(spans.clients().len() == answered.len(), "{spans}");
    for (client, server) in spans.clients().iter().zip([0, 1, 3]) {
        let server = &spans.servers()[server];
        ensure!(server.start <= client.start && client.end <= server.end, "not inside:\n{spans}");
    }
    Ok(spans)
}
