//! Clients as people use them, against a server that is not traced.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context, Result};
use tracer_tests::service::Nginx;
use tracer_tests::{
    AgentOptions, Expected, Launcher, Service, check_short_lived, layout, on_each_backend, port,
};

/// A server with a file at `/hello`, which takes any request at `/any`, redirects `/old`, and wants
/// no large bodies elsewhere.
fn server() -> Result<Service> {
    Nginx::new(
        "location = /any { client_max_body_size 10m; return 200 'any\n'; }
         location = /old { return 302 /older; }
         location = /older { return 307 /hello; }",
    )?
    .file("hello", b"hello\n")?
    .start()
}

/// Protects: processes that live a few milliseconds are traced from their first byte, each with
/// its own name and process id.
#[test]
fn curl_once_for_each_method() -> Result<()> {
    on_each_backend(|backend| {
        let server = server()?;
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("file");
        std::fs::write(&file, vec![b'x'; 2 << 20])?;
        let file = file.to_string_lossy().into_owned();
        let (mut launcher, agent) = Launcher::start_traced(backend)?;
        let requests: [(&[&str], &str, &str, u16); 9] = [
            (&[], "GET", "/hello", 200),
            (&["--data", "a=1"], "POST", "/any", 200),
            (&["--head"], "HEAD", "/hello", 200),
            (&["-X", "DELETE"], "DELETE", "/any", 200),
            (&["-X", "OPTIONS"], "OPTIONS", "/any", 200),
            (&["-X", "PATCH", "--data", "a=1"], "PATCH", "/any", 200),
            // Large enough for curl to wait for `100 Continue` first.
            (&["--upload-file", &file], "PUT", "/any", 200),
            (&["--upload-file", &file], "PUT", "/hello", 413),
            (&["--data", "a=1"], "POST", "/hello", 405),
        ];
        let mut pids = Vec::new();
        for (options, _, path, _) in requests {
            let url = server.url(path);
            pids.push(launcher.curl(options.iter().copied().chain([url.as_str()]))?.pid);
        }
        let spans = agent.finish(requests.len())?;
        for ((span, (_, method, path, status)), pid) in spans.iter().zip(requests).zip(pids) {
            Expected::client(method, &server.url(path)).status(status).check(span);
            check_short_lived(&span.resource, &[("service.name", "curl")]);
            assert_eq!(span.pid(), Some(pid));
        }
        let instances: BTreeSet<_> =
            spans.iter().map(|span| span.resource.text("service.instance.id")).collect();
        assert_eq!(instances.len(), requests.len(), "each process is an instance of its own");
        Ok(())
    })
}

/// Protects: each hop of a redirect is an exchange of its own.
#[test]
fn curl_follows_redirects() -> Result<()> {
    on_each_backend(|backend| {
        let server = server()?;
        let (mut launcher, agent) = Launcher::start_traced(backend)?;
        launcher.curl(["--location", &server.url("/old")])?;
        let spans = agent.finish(3)?;
        let hops = [("/old", 302), ("/older", 307), ("/hello", 200)];
        for (span, (path, status)) in spans.iter().zip(hops) {
            Expected::client("GET", &server.url(path)).status(status).check(span);
        }
        Ok(())
    })
}

/// Protects: a connection that was refused carried no request: no span; what follows is traced.
#[test]
fn curl_is_refused() -> Result<()> {
    on_each_backend(|backend| {
        let server = server()?;
        let nobody = port::loopback(port::free()?);
        let (mut launcher, agent) = Launcher::start_traced(backend)?;
        let refused = launcher.run(["curl", "--silent", &format!("http://{nobody}/")])?;
        assert_eq!(refused.code, 7, "{refused:?}");
        launcher.curl([server.url("/hello")])?;
        let spans = agent.finish(1)?;
        Expected::client("GET", &server.url("/hello")).status(200).check(spans.only()?);
        Ok(())
    })
}

/// Protects: a client that gives up without an answer has an error, and no status code.
#[test]
fn curl_loses_patience() -> Result<()> {
    on_each_backend(|backend| {
        // The kernel accepts connections for it; nobody ever reads them.
        let silent = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/slow", silent.local_addr()?);
        let (mut launcher, agent) = Launcher::start_traced(backend)?;
        let gave_up = launcher.run(["curl", "--silent", "--max-time", "0.3", &url])?;
        assert_eq!(gave_up.code, 28, "{gave_up:?}");
        let spans = agent.finish(1)?;
        Expected::client("GET", &url).failed("aborted").check(spans.only()?);
        Ok(())
    })
}

/// Three requests and an upload on one connection, by an uninstrumented program: a client span each,
/// one after the other, of the service that the program's file names.
fn client_program(program: &Path, source: &str, service: &str) -> Result<()> {
    on_each_backend(|backend| {
        let server = server()?;
        let (mut launcher, agent) = Launcher::start_traced(backend)?;
        let source = layout::workspace().join("tests/programs").join(source);
        let modules = format!("NODE_PATH={}", layout::node_modules().display());
        let urls = ["/any", "/hello?page=2", "/nothing"].map(|path| server.url(path));
        let words = ["env".into(), modules, program.display().to_string()];
        let words = words.into_iter().chain([source.display().to_string()]).chain(urls.clone());
        let ran = launcher.run(words)?.success()?;
        let spans = agent.finish(4)?;

        let [any, hello, nothing] = &urls;
        let requests =
            [("GET", any, 200), ("GET", hello, 200), ("GET", nothing, 404), ("POST", any, 200)];
        for (span, (method, url, status)) in spans.iter().zip(requests) {
            Expected::client(method, url).status(status).check(span);
            check_short_lived(&span.resource, &[("service.name", service)]);
            assert_eq!(span.pid(), Some(ran.pid));
        }
        for pair in spans.windows(2) {
            assert!(pair[0].end <= pair[1].start, "one after the other:\n{spans}");
        }
        Ok(())
    })
}

#[test]
fn python_requests() -> Result<()> {
    let python = layout::python_program("python3")?;
    client_program(&python, "requests_client.py", "requests_client")
}

#[test]
fn python_httpx() -> Result<()> {
    let python = layout::python_program("python3")?;
    client_program(&python, "httpx_client.py", "httpx_client")
}

#[test]
fn node_undici() -> Result<()> {
    client_program(Path::new("node"), "undici_client.cjs", "undici_client")
}

#[test]
fn node_fetch() -> Result<()> {
    client_program(Path::new("node"), "fetch_client.cjs", "fetch_client")
}

/// Protects: under load, server spans are as many as the server's own log has lines, and client
/// spans as many as the client counted answers.
#[test]
fn wrk() -> Result<()> {
    const CONNECTIONS: usize = 8;
    on_each_backend(|backend| {
        let directory = tempfile::tempdir()?;
        let log = directory.path().join("access.log");
        let nginx = Nginx::new(&format!("access_log {};", log.display()))?
            .file("hello", b"hello\n")?
            .start()?;
        let mut launcher = Launcher::start()?;
        let mut agent = AgentOptions::new(backend).pid(nginx.pid()).pid(launcher.pid()).start()?;
        let pace = layout::workspace().join("tests/programs/paced.lua");
        let connections = format!("--connections={CONNECTIONS}");
        let url = nginx.url("/hello");
        let pace = pace.to_string_lossy();
        let ran = launcher.run([
            "wrk",
            "--threads=1",
            &connections,
            "--duration=1s",
            "--script",
            &pace,
            &url,
        ])?;
        let output = ran.success()?.stdout;
        let answered: usize = output
            .split_once(" requests in ")
            .and_then(|(before, _)| before.split_whitespace().last()?.parse().ok())
            .with_context(|| format!("wrk does not say how many requests it made: {output}"))?;
        let logged = std::fs::read_to_string(&log)?.lines().count();
        assert!(answered >= 200, "too few requests to tell: {output}");
        agent.wait_for_spans(answered + logged)?;
        let finished = agent.stop()?;
        finished.report.assert_nothing_lost();

        let (servers, clients) = (finished.spans.servers(), finished.spans.clients());
        assert_eq!(servers.len(), logged);
        for span in servers.iter() {
            Expected::server("GET", "/hello").at(nginx.address()).status(200).check(span);
        }
        let complete = clients.with("http.response.status_code", 200);
        assert_eq!(complete.len(), answered);
        for span in complete.iter() {
            Expected::client("GET", &url).status(200).check(span);
        }
        // wrk stops in the middle of things.
        let cut = clients.len() - complete.len();
        assert!(cut <= CONNECTIONS, "{cut} requests without an answer");
        assert_eq!(servers.peer_ports().len(), CONNECTIONS);
        Ok(())
    })
}
